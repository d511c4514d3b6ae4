//! What is asked about images, and answered.

use serde::{Deserialize, Serialize};

/// What is done with images. Images are named as [`Name`](crate::image::Name) allows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::serve::control) enum ImageRequest {
    /// Make a clone of `base`; answered by `Answer::Done`.
    Clone { base: String, name: String },
}
