//! What is asked about images, and answered.

use serde::{Deserialize, Serialize};

/// What is done with images. They are named as [`Name`](crate::image::Name) allows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::serve::control) enum ImageRequest {
    /// All images; answered by `Answer::Done` with a payload: JSON, an array of [`ImageReply`].
    List,
    /// Make a clone of `base`; answered by `Answer::Done`.
    Clone { base: String, name: String },
    /// Remove images, those in use too if `force` says so. The payload is JSON, an array of names; answered by
    /// `Answer::Done`.
    Remove { force: bool },
    /// Refuse a name whose image is not to be replaced, because a client uses it; answered by `Answer::Done`.
    CheckReplaceable { name: String },
    /// Where two images differ from an offset on, as far as one step goes; answered by `Answer::Done` with a payload: JSON,
    /// an [`ImageDiffReply`].
    Diff { names: [String; 2], offset: u64 },
    /// Forget a clone's base; answered by `Answer::Done`.
    Commit { name: String },
    /// Give an image another base, one step from an offset on; answered by `Answer::Rebased`.
    Rebase { name: String, base: String, offset: u64 },
    /// Change the size of an image; answered by `Answer::Resized`.
    Resize {
        name: String,
        size: SizeRequest,
        shrink: bool,
    },
    /// Verify images. The payload is JSON, an array of names, all images where it is empty; answered by `Answer::Done` with
    /// a payload: JSON, an [`ImageCheckReply`].
    Check,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageReply {
    /// Its name.
    pub name: String,
    /// Name of the image that it was cloned from.
    pub base: Option<String>,
    /// Whether there is an image of that name.
    pub base_exists: bool,
    /// The address that was burned in.
    pub ip: Option<String>,
    /// The subnet of the fleet that it belongs to.
    pub fleet: Option<String>,
    /// Its length.
    pub size_bytes: u64,
    /// Memory that others hold too.
    pub shared_bytes: u64,
    /// Memory that it has for itself.
    pub private_bytes: u64,
}

/// A size that an image shall have, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SizeRequest {
    /// This one.
    To(u64),
    /// So many more.
    Grow(u64),
    /// So many fewer.
    Shrink(u64),
}

/// Where two images differ, as far as one step has looked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageDiffReply {
    /// Their sizes in bytes.
    pub sizes: [u64; 2],
    /// Bytes that differ, from the first to before the second, ascending.
    pub ranges: Vec<(u64, u64)>,
    /// Where to go on; `None` where it is done.
    pub next: Option<u64>,
}

/// What one step of a rebase has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebaseReply {
    /// Where to go on; `None` where it is done.
    pub next: Option<u64>,
    /// Bytes that share the base's memory since.
    pub shared_bytes: u64,
    /// Length of the image.
    pub size_bytes: u64,
}

/// What a resize has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResizeReply {
    /// Bytes before.
    pub from_bytes: u64,
    /// Bytes since.
    pub to_bytes: u64,
}

/// What a check of images has found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageCheckReply {
    /// Images that were looked at.
    pub images: u64,
    /// An image, and what is wrong with it.
    pub findings: Vec<(String, String)>,
}
