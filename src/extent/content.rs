//! The content of one file: its length, its extents, and the edits that every operation is made of.

use std::collections::HashSet;
use std::sync::Arc;

use super::map::Map;
use super::run::{Extent, block_len};
use crate::grid::{Block, Namespace, class_bytes};
use crate::limits::{FILE_SIZE_MAX, PAGE_SIZE};
use crate::range::ByteRange;
use crate::{Error, ErrorKind, Result};

/// The bytes of one file: a length and a map of extents.
///
/// A clone takes constant time and shares all blocks; each side goes its own way when it is written to. A content
/// has no lock of its own: whoever owns it lets many read or one write. All its blocks are in one namespace.
#[derive(Clone, Default)]
pub struct Content {
    /// Length in bytes, at most `FILE_SIZE_MAX`.
    pub(super) len: u64,

    /// The bytes that are not in holes.
    ///
    /// Invariants:
    /// 1. Every extent starts at a multiple of the page size, holds a byte, and ends at `FILE_SIZE_MAX` or before.
    /// 2. No page holds bytes of two extents.
    /// 3. No extent crosses a multiple of the block size.
    /// 4. Bytes of an extent behind `len` (memory allocated ahead) are zeros, so that they read as zeros when the
    ///    file grows over them.
    /// 5. An extent's bytes lie within its block.
    pub(super) map: Map,

    /// Invariant 6: the sum of the size classes of all extents' lengths.
    pub(super) held: u64,

    /// Invariant 7: the number of extents.
    extents: u64,

    /// Block size of the namespace, for the check; 0 before the first extent.
    block_size: u32,

    /// Memory was asked for ahead of the bytes: zeros keep it.
    pub(super) preallocated: bool,
}

impl Content {
    /// An empty content.
    pub fn new() -> Self {
        Self::default()
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the length is 0; there may be memory allocated behind it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Memory of all extents in bytes, counting shared ones in full (for `st_blocks`).
    pub fn held_bytes(&self) -> u64 {
        self.held
    }

    /// Number of extents.
    pub fn extent_count(&self) -> u64 {
        self.extents
    }

    /// The blocks of all extents, in the order of the file; one that several extents share comes for each.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.map.iter_from(0).map(|extent| &extent.block)
    }

    /// Bytes charged for the nodes of the map that are not in `seen`, where those of other contents are entered by their
    /// address, and these, too.
    pub fn node_bytes(&self, seen: &mut HashSet<usize>) -> u64 {
        self.map.charged_bytes(seen)
    }

    /// Sets the length, at most `FILE_SIZE_MAX`: cut bytes give their memory back, new bytes are a hole.
    pub fn set_len(&mut self, len: u64) {
        debug_assert!(len <= FILE_SIZE_MAX);
        if len < self.len {
            self.cut(len, u64::MAX);
        }
        self.preallocated &= len > 0;
        self.len = len;
    }

    /// Verifies every invariant, reading the bytes behind the length.
    ///
    /// # Errors
    /// `Corrupt`, naming the first violation.
    pub fn check(&self) -> Result<()> {
        self.map.check()?;
        let (mut held, mut extents) = (0, 0);
        let mut free_from = 0;
        for extent in self.map.iter_from(0) {
            if let Err(what) = self.check_extent(extent, free_from) {
                let place = format!("extent of {} bytes at {}: {what}", extent.len, extent.start);
                return Err(Error::new(ErrorKind::Corrupt, place));
            }
            free_from = extent.page_end();
            held += extent.held();
            extents += 1;
        }
        if held != self.held || extents != self.extents || self.len > FILE_SIZE_MAX {
            let what = format!(
                "content of {} bytes: {extents} extents hold {held}, accounted are {} with {}",
                self.len, self.extents, self.held
            );
            return Err(Error::new(ErrorKind::Corrupt, what));
        }
        Ok(())
    }

    /// Invariants 1 to 5 of one extent; pages before `free_from` belong to the extents before it.
    fn check_extent(&self, extent: &Extent, free_from: u64) -> Result<(), &'static str> {
        let (first, last) = (extent.start, extent.end() - 1);
        if !first.is_multiple_of(PAGE_SIZE) || extent.len == 0 || extent.end() > FILE_SIZE_MAX {
            return Err("it does not begin at a page, is empty, or ends behind the largest offset");
        }
        if first < free_from {
            return Err("it shares a page with the extent before it");
        }
        if self.region(first) != self.region(last) {
            return Err("it crosses a multiple of the block size");
        }
        if u64::from(extent.block_offset) + u64::from(extent.len) > u64::from(extent.block.len()) {
            return Err("it reaches beyond its block");
        }
        let mut behind = Vec::new();
        extent.append_to(self.len.clamp(first, last + 1), last + 1, &mut behind);
        if behind.iter().any(|byte| *byte != 0) {
            return Err("bytes behind the length are not zeros");
        }
        Ok(())
    }

    /// Number of the block-sized region that holds `offset`.
    pub(super) fn region(&self, offset: u64) -> u64 {
        offset / u64::from(self.block_size.max(1))
    }

    /// The block-sized region that holds `offset`, cut at the largest offset.
    pub(super) fn region_around(&self, offset: u64) -> ByteRange {
        let len = u64::from(self.block_size.max(1));
        let start = offset - offset % len;
        ByteRange {
            start,
            end: (start + len).min(FILE_SIZE_MAX),
        }
    }

    /// Adds an extent in pages that have none.
    pub(super) fn add(&mut self, extent: Extent) {
        self.held += extent.held();
        self.extents += 1;
        self.map.insert(extent);
    }

    /// Accounts for an extent whose length has changed.
    pub(super) fn resized(&mut self, old_len: u32, new_len: u32) {
        self.held -= u64::from(class_bytes(old_len));
        self.held += u64::from(class_bytes(new_len));
    }

    /// Drops the extents that start in `start..end`.
    pub(super) fn drop_extents(&mut self, start: u64, end: u64) {
        let (held, extents) = (&mut self.held, &mut self.extents);
        self.map.remove_range(start, end, &mut |extent| {
            *held -= extent.held();
            *extents -= 1;
        });
    }

    /// Remembers the block size, before the first extent comes.
    pub(super) fn adopt(&mut self, namespace: &Namespace) {
        debug_assert!(self.block_size == 0 || self.block_size == namespace.block_size());
        self.block_size = namespace.block_size();
    }

    /// Turns `start..end` into a hole, without memory but for the nodes that it changes and shares. `end` is at a page
    /// unless no extent has bytes behind it in its page.
    ///
    /// A private block is cut, and bytes behind `end` move to its front. A block with bytes on both sides is shared by
    /// the two extents that remain, which frees nothing: [`Content::carve`] does better.
    pub(super) fn cut(&mut self, start: u64, end: u64) {
        if let Some(over) = self.map.covering(end).filter(|over| over.start < end) {
            if over.start < start {
                let right = over.part(end, over.end());
                self.shorten(start);
                return self.add(right);
            }
            let (first, old_len) = (over.start, over.len);
            let new_len = block_len(over.end() - end);
            self.map.cut_front(first, end);
            self.resized(old_len, new_len);
        }
        self.shorten(start);
        self.drop_extents(start, end);
    }

    /// Like [`Content::cut`], but gives the middle of a private block back, if there is memory to divide it.
    pub(super) fn carve(&mut self, namespace: &Arc<Namespace>, start: u64, end: u64) {
        // Failing this, the two sides share the block.
        let _ = self.detach(namespace, start, end);
        self.cut(start, end);
    }

    /// Cuts the extent that begins before `end` and reaches over it.
    fn shorten(&mut self, end: u64) {
        let Some(extent) = self.map.covering(end).filter(|extent| extent.start < end) else {
            return;
        };
        let (start, old_len) = (extent.start, extent.len);
        let new_len = block_len(end - start);
        self.map.cut_back(start, new_len);
        self.resized(old_len, new_len);
    }

    /// Where a private extent has bytes on both sides of `start..end`, moves those behind it to a block of their own
    /// and drops those in it.
    ///
    /// # Errors
    /// `NoSpace`, `QuotaExceeded` where there is no memory for the copy; then nothing has changed.
    pub(super) fn detach(&mut self, namespace: &Arc<Namespace>, start: u64, end: u64) -> Result<()> {
        let Some(extent) = self.map.exclusive_mut(start) else {
            return Ok(());
        };
        if extent.start == start || extent.end() <= end || !extent.is_private() {
            return Ok(());
        }
        let right_len = block_len(extent.end() - end);
        let mut bytes = Vec::with_capacity(right_len as usize);
        extent.append_to(end, extent.end(), &mut bytes);
        let right = Extent {
            start: end,
            len: right_len,
            block_offset: 0,
            block: namespace.new_block(0, &bytes)?,
        };
        self.shorten(start);
        self.add(right);
        Ok(())
    }
}
