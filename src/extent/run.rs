//! An extent: a run of a file's bytes in one block.

use crate::grid::{Block, Slice, class_bytes};
use crate::range::page_ceil;

/// A run of a file's bytes in one block.
#[derive(Clone)]
pub(super) struct Extent {
    /// First byte in the file; a multiple of the page size.
    pub(super) start: u64,
    /// Bytes; at least 1.
    pub(super) len: u32,
    /// Where in the block they begin.
    pub(super) block_offset: u32,
    /// The block.
    pub(super) block: Block,
}

impl Extent {
    /// One past the last byte in the file.
    pub(super) fn end(&self) -> u64 {
        self.start + u64::from(self.len)
    }

    /// End of the last page that holds a byte of it.
    pub(super) fn page_end(&self) -> u64 {
        page_ceil(self.end())
    }

    /// Memory that it accounts for.
    pub(super) fn held(&self) -> u64 {
        u64::from(class_bytes(self.len))
    }

    /// Whether the block may be written to; opens a sealed one for that. True only for an extent that was reached
    /// through `Map::exclusive_mut` or taken out of the map: another map may share the node otherwise.
    pub(super) fn is_private(&self) -> bool {
        self.block.open()
    }

    /// Where the file's bytes `start..end`, which the extent covers, lie in the block.
    pub(super) fn slice(&self, start: u64, end: u64) -> Slice {
        debug_assert!(self.start <= start && start <= end && end <= self.end());
        Slice {
            offset: self.block_offset + block_len(start - self.start),
            len: block_len(end - start),
        }
    }

    /// The part `start..end` of the extent, sharing the block.
    pub(super) fn part(&self, start: u64, end: u64) -> Self {
        let slice = self.slice(start, end);
        Self {
            start,
            len: slice.len,
            block_offset: slice.offset,
            block: self.block.clone(),
        }
    }

    /// Copies all of its bytes to `out`, which is as long.
    pub(super) fn copy_to(&self, out: &mut [u8]) {
        self.block.read(self.slice(self.start, self.end()), |bytes| {
            out.copy_from_slice(bytes);
        });
    }

    /// Appends the file's bytes `start..end`, which the extent covers.
    pub(super) fn append_to(&self, start: u64, end: u64, out: &mut Vec<u8>) {
        if start < end {
            self.block
                .read(self.slice(start, end), |bytes| out.extend_from_slice(bytes));
        }
    }

    /// What is left of an extent that was taken out of the map when its bytes before `start` go. The rest of a
    /// private block moves to its front, so that the block can be cut, where that gives memory back.
    pub(super) fn into_tail(mut self, start: u64) -> Self {
        let gone = block_len(start - self.start);
        self.start = start;
        self.len -= gone;
        self.block_offset += gone;
        if self.is_private()
            && class_bytes(self.len) < self.block.held_bytes()
            && self.block.keep(self.slice(start, self.end()))
        {
            self.block_offset = 0;
        }
        self
    }

    /// Drops the block's bytes behind the extent, if it is private.
    pub(super) fn trim_block(&self) {
        if self.is_private() {
            self.trim_private_block();
        }
    }

    /// Drops the block's bytes behind the extent, which was found to be private.
    pub(super) fn trim_private_block(&self) {
        let end = self.block_offset + self.len;
        if self.block.len() > end {
            self.block.truncate(end);
        }
    }
}

/// A length or an offset inside a block.
pub(super) fn block_len(bytes: u64) -> u32 {
    u32::try_from(bytes).expect("a run inside a block is no longer than the largest block")
}
