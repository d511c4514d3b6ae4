//! Questions about images.

use serde::de::DeserializeOwned;

use super::{Client, nonsense};
use crate::error::Result;
use crate::image::fleet::{FleetReply, FleetRequest};
use crate::serve::control::protocol::{
    Answer, ImageCheckReply, ImageDiffReply, ImageReply, ImageRequest, RebaseReply, Request, ResizeReply,
    SizeRequest,
};

impl Client {
    /// All images of the drive, by name.
    ///
    /// # Errors
    /// `TooLarge` where one answer does not hold them.
    pub fn images(&mut self) -> Result<Vec<ImageReply>> {
        self.ask_for_json(ImageRequest::List, &[])
    }

    /// Makes a clone of an image: all its bytes, sharing their memory.
    ///
    /// # Errors
    /// `InvalidArgument` and `NameTooLong` for a bad name, here and below; `NotFound`, `Exists`, `ReadOnly`, `NoSpace`.
    pub fn clone_image(&mut self, base: &str, name: &str) -> Result<()> {
        self.do_with_images(ImageRequest::Clone {
            base: base.to_owned(),
            name: name.to_owned(),
        })
    }

    /// Removes images: all of them, or none where one cannot be removed. Those that clients of an export use are removed
    /// only if `force` says so.
    ///
    /// # Errors
    /// `NotFound`, `Busy`, `ReadOnly`.
    pub fn remove_images(&mut self, names: &[String], force: bool) -> Result<()> {
        let request = Request::Image(ImageRequest::Remove { force });
        self.ask(&request, &in_json(names)?).map(drop)
    }

    /// Refuses a name whose image is not to be replaced, because a client of an export uses it.
    ///
    /// # Errors
    /// `Busy`, `ReadOnly`.
    pub fn check_replaceable_image(&mut self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.do_with_images(ImageRequest::CheckReplaceable { name })
    }

    /// Where two images differ, from an offset on, as far as one step goes.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn diff_images(&mut self, names: [&str; 2], offset: u64) -> Result<ImageDiffReply> {
        let names = names.map(str::to_owned);
        self.ask_for_json(ImageRequest::Diff { names, offset }, &[])
    }

    /// Makes a clone forget its base.
    ///
    /// # Errors
    /// `NotFound`, `InvalidArgument` for what is no clone, `ReadOnly`.
    pub fn commit_image(&mut self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.do_with_images(ImageRequest::Commit { name })
    }

    /// Gives an image another base, one step, the first from offset 0.
    ///
    /// # Errors
    /// `NotFound`, `InvalidArgument` for a base that is a clone of the image, `ReadOnly`, `NoSpace`.
    pub fn rebase_image(&mut self, name: &str, base: &str, offset: u64) -> Result<RebaseReply> {
        let request = ImageRequest::Rebase {
            name: name.to_owned(),
            base: base.to_owned(),
            offset,
        };
        match self.ask(&Request::Image(request), &[])? {
            (Answer::Rebased(reply), _) => Ok(reply),
            _ => Err(nonsense()),
        }
    }

    /// Changes the size of an image.
    ///
    /// # Errors
    /// `NotFound`, `InvalidArgument` for what is no multiple of 512 or would cut bytes off without `shrink`, `FileTooBig`,
    /// `Busy`, `ReadOnly`.
    pub fn resize_image(&mut self, name: &str, size: SizeRequest, shrink: bool) -> Result<ResizeReply> {
        let name = name.to_owned();
        let request = ImageRequest::Resize { name, size, shrink };
        match self.ask(&Request::Image(request), &[])? {
            (Answer::Resized(reply), _) => Ok(reply),
            _ => Err(nonsense()),
        }
    }

    /// Verifies images, all where none are named.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn check_images(&mut self, names: &[String]) -> Result<ImageCheckReply> {
        self.ask_for_json(ImageRequest::Check, &in_json(names)?)
    }

    fn do_with_images(&mut self, request: ImageRequest) -> Result<()> {
        self.ask(&Request::Image(request), &[]).map(drop)
    }

    /// Makes the members of a fleet that are not there yet: all of them or none.
    ///
    /// # Errors
    /// As [`Manager::make_fleet`](crate::image::Manager::make_fleet); `ReadOnly`.
    pub fn make_fleet(&mut self, request: &FleetRequest) -> Result<FleetReply> {
        let request = serde_json::to_vec(request).map_err(|source| nonsense().with_source(source))?;
        let (_, payload) = self.ask(&Request::Fleet, &request)?;
        serde_json::from_slice(&payload).map_err(|source| nonsense().with_source(source))
    }

    fn ask_for_json<T: DeserializeOwned>(&mut self, request: ImageRequest, payload: &[u8]) -> Result<T> {
        let (_, payload) = self.ask(&Request::Image(request), payload)?;
        serde_json::from_slice(&payload).map_err(|source| nonsense().with_source(source))
    }
}

fn in_json(names: &[String]) -> Result<Vec<u8>> {
    serde_json::to_vec(names).map_err(|source| nonsense().with_source(source))
}
