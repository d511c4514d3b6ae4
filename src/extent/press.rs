//! Compressing: the blocks of a content are found and pinned under its owner's lock, packed without it, and held
//! compressed under it again.

use super::content::Content;
use super::run::Extent;
use crate::grid::Press;
use crate::range::ByteRange;

/// A block of a content that may be worth to compress. While it is pinned a writer copies what it changes.
#[must_use]
pub struct Compressible {
    extent: Extent,
}

impl Compressible {
    /// Where its bytes end in the file.
    pub fn end(&self) -> u64 {
        self.extent.end()
    }

    /// As [`Press::pack`]; takes no lock of the content.
    pub fn pack(&self, press: &mut Press) -> bool {
        press.pack(&self.extent.block)
    }
}

impl Content {
    /// The first block with bytes in the range that may be worth to compress, and was not tried since it changed.
    pub fn next_compressible(&self, range: ByteRange) -> Option<Compressible> {
        let mut extents = self.map.overlapping(range.start, range.end);
        let extent = extents.find(|extent| extent.block.is_compressible())?;
        Some(Compressible {
            extent: extent.clone(),
        })
    }

    /// Holds a block as the press has packed it, if the content still has it; whether it is compressed now.
    ///
    /// Whoever writes to a block in place has its content exclusively, and no other content has the block: so nobody
    /// does while the caller has this one.
    pub fn compress(&self, block: &Compressible, press: &Press) -> bool {
        let here = self.map.covering(block.extent.start);
        let is_same = here.is_some_and(|here| here.block.index() == block.extent.block.index());
        is_same && block.extent.block.compress(press)
    }
}
