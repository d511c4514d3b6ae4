//! What is said where a filesystem contradicts itself.

use crate::error::{Error, ErrorKind};

pub(super) fn damaged(what: impl std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!("the filesystem is damaged: {what}\nhint: `e2fsck -f` repairs it"),
    )
}
