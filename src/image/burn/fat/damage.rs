//! What is said where a filesystem contradicts itself.

use crate::error::{Error, ErrorKind};

pub(super) fn damaged(what: &str) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!("the filesystem is damaged: {what}\nhint: `fsck.fat` repairs it"),
    )
}
