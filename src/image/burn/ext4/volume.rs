//! A filesystem of the ext family.

use super::superblock::{self, Superblock};
use crate::error::Result;
use crate::image::burn::disk::Part;

/// A filesystem whose superblock is in order.
pub(in crate::image::burn) struct Ext4<'d> {
    pub(super) part: Part<'d>,
    pub(super) superblock: Superblock,
}

impl<'d> Ext4<'d> {
    /// `None` where there is no such filesystem.
    pub(in crate::image::burn) fn open(part: Part<'d>) -> Result<Option<Self>> {
        let superblock = superblock::read(part)?;
        Ok(superblock.map(|superblock| Self { part, superblock }))
    }
}
