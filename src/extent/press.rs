//! Compressing: a content's blocks are packed one by one without its lock, and then held compressed.
//!
//! ```text
//! owner's lock shared     Content::next_compressible   finds a block that may be worth it, and pins it
//! no lock                 Compressible::pack           packs a copy of its bytes, lets go of the block
//! owner's lock shared     Content::compress            if the extent still has the block, and that still its bytes
//! ```
//!
//! Whoever writes to a block in place has its content exclusively, and the block belongs to no other content. So while
//! the owner's lock is held nobody writes to a block of the content in place, and a writer who has made one plain
//! finds it plain until he lets go.
//!
//! **Preallocated contents** stay plain: the memory that a compressed block has given up was promised to their writers.

use super::content::Content;
use super::run::Extent;
use crate::grid::{BlockIndex, Press, class_bytes};
use crate::range::ByteRange;

/// An extent whose block may be worth to compress. It pins the block: a writer would copy it meanwhile.
#[must_use]
pub struct Compressible {
    extent: Extent,
}

/// Where the block is that a press has packed.
#[derive(Clone, Copy, Debug)]
pub struct Packed {
    start: u64,
    block: BlockIndex,
}

impl Compressible {
    /// Where the extent ends in the file.
    pub fn end(&self) -> u64 {
        self.extent.end()
    }

    /// Packs a copy of the block's bytes and lets go of the block; `None` where somebody else has tried meanwhile.
    pub fn pack(self, press: &mut Press) -> Option<Packed> {
        let place = Packed {
            start: self.extent.start,
            block: self.extent.block.index(),
        };
        self.extent.block.pack(press).then_some(place)
    }
}

impl Content {
    /// The first extent from `range.start` on that begins in the range and has a block that may be worth to compress,
    /// and was not tried since it changed.
    pub fn next_compressible(&self, range: ByteRange) -> Option<Compressible> {
        if self.preallocated {
            return None;
        }
        let extent = self
            .map
            .iter_from(range.start)
            .take_while(|extent| extent.start < range.end)
            .find(|extent| extent.block.is_compressible())?;
        Some(Compressible {
            extent: extent.clone(),
        })
    }

    /// Holds the block that the press has packed compressed, if the content still has it; returns the bytes of memory
    /// that this saves, or `None` where it is not compressed.
    pub fn compress(&self, packed: Packed, press: &Press) -> Option<u64> {
        let extent = self.map.covering(packed.start)?;
        let is_same = extent.block.index() == packed.block && !self.preallocated;
        (is_same && extent.block.compress(press)).then(|| {
            let plain = class_bytes(extent.block.len());
            u64::from(plain.saturating_sub(extent.block.held_bytes()))
        })
    }
}
