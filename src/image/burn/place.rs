//! Where bytes of a file are on a disk, and what is said where there are none to burn.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::limits::BURN_ROOM_MAX;

/// Bytes one after the other on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// Offset of the first.
    pub offset: u64,
    /// How many.
    pub len: u64,
}

impl Place {
    /// One past the last byte, where that is a number.
    pub fn end(self) -> Option<u64> {
        self.offset.checked_add(self.len)
    }
}

/// A filesystem does not have a file.
pub(super) fn no_file(path: &str) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("there is no {path} in the base\nhint: paths begin at the root of its filesystem"),
    )
}

/// A file is longer than what is burned.
pub(super) fn too_long(path: &str, size: u64) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("{path} has {size} bytes in the base\nhint: burn a file of at most {BURN_ROOM_MAX} bytes"),
    )
}
