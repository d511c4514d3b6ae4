//! Questions about images.

use super::Client;
use crate::error::Result;
use crate::serve::control::protocol::{ImageRequest, Request};

impl Client {
    /// Makes a clone of an image: all its bytes, sharing their memory.
    ///
    /// # Errors
    /// `InvalidArgument` and `NameTooLong` for a bad name, `NotFound`, `Exists`, `ReadOnly`, `NoSpace`.
    pub fn clone_image(&mut self, base: &str, name: &str) -> Result<()> {
        let request = ImageRequest::Clone {
            base: base.to_owned(),
            name: name.to_owned(),
        };
        self.ask(&Request::Image(request), &[]).map(drop)
    }
}
