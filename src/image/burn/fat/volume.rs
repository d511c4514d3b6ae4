//! A filesystem of the FAT family.

use super::boot::{self, Boot};
use crate::error::Result;
use crate::image::burn::disk::Part;

/// A filesystem whose boot sector is in order.
pub(in crate::image::burn) struct Fat<'d> {
    pub(super) part: Part<'d>,
    pub(super) boot: Boot,
}

impl<'d> Fat<'d> {
    /// `None` where there is no such filesystem.
    pub(in crate::image::burn) fn open(part: Part<'d>) -> Result<Option<Self>> {
        Ok(boot::read(part)?.map(|boot| Self { part, boot }))
    }
}
