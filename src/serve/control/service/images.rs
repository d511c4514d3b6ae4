//! Answers about images.

use super::{Answer, Service};
use crate::error::Result;
use crate::image::{Name, NewImage};
use crate::serve::control::protocol::ImageRequest;

impl Service {
    /// Does what is asked; returns the answer and its payload.
    pub(super) fn image(&self, request: &ImageRequest) -> Result<(Answer, Vec<u8>)> {
        match request {
            ImageRequest::Clone { base, name } => self.clone_image(base, name)?,
        }
        Ok((Answer::Done, Vec::new()))
    }

    fn clone_image(&self, base: &str, name: &str) -> Result<()> {
        let (base, name) = (Name::new(base)?, Name::new(name)?);
        let new = NewImage {
            name,
            ip: None,
            fleet: None,
            patches: Vec::new(),
        };
        self.images.manage(|manager| manager.make(&base, &new))
    }
}
