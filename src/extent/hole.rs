//! Holes: punching, allocating, zeroing, and looking for them.

use std::sync::Arc;

use super::content::Content;
use super::data::Data;
use super::run::Extent;
use crate::Result;
use crate::grid::Namespace;
use crate::range::{ByteRange, page_floor};

impl Content {
    /// Turns a range into a hole; the length stays. Pages that lie in the range give their memory back, unless others
    /// share their block. Where bytes in the middle of a block are punched and there is no memory to divide it, they
    /// are zeroed and keep their memory, or become a hole and keep it if the block is compressed.
    ///
    /// # Errors
    /// `NoSpace`, `QuotaExceeded` where the last page of the range is shared or compressed and has bytes behind the
    /// range, which then need memory of their own, or where nothing at all is left and the range lies in the middle of a
    /// shared block. On an error nothing has changed.
    pub fn punch(&mut self, namespace: &Arc<Namespace>, range: ByteRange) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let last_page = page_floor(range.end);
        let mut end = range.end;
        if last_page < end && self.map.covering(end).is_some() {
            let edge = range.start.max(last_page);
            self.put(namespace, edge, Data::Zeros(end - edge)).1?;
            end = last_page;
        }
        if range.start >= end {
            return Ok(());
        }
        match self.detach(namespace, range.start, end) {
            Ok(()) if self.divides(range.start, end) => {
                // What comes without a block is not to come without end.
                namespace.probe(1)?;
                self.cut(range.start, end);
            }
            Ok(()) => self.cut(range.start, end),
            Err(_) if self.expand_at(range.start).is_err() => self.cut(range.start, end),
            // The range lies in one extent, which was found to be private.
            Err(_) => self.zero_others(ByteRange { end, ..range }, &[]),
        }
        Ok(())
    }

    /// Whether the middle of one extent is to go, which leaves two.
    fn divides(&self, start: u64, end: u64) -> bool {
        let over = self.map.covering(end);
        over.is_some_and(|over| over.start < start)
    }

    /// Backs a range with memory that reads as zeros where there was a hole, and makes compressed blocks plain; the
    /// length stays. Blocks shared with others stay shared, so that writing to them may still fail.
    ///
    /// # Errors
    /// `NoSpace`, `QuotaExceeded`; then nothing has changed.
    pub fn allocate(&mut self, namespace: &Arc<Namespace>, range: ByteRange) -> Result<()> {
        let filled = self.fill_holes(namespace, range)?;
        let mut extents = self.map.overlapping(range.start, range.end);
        if let Err(error) = extents.try_for_each(|extent| extent.block.expand()) {
            drop(extents);
            self.unfill(&filled);
            return Err(error);
        }
        self.preallocated = true;
        Ok(())
    }

    /// Makes a range read as zeros and backs it with memory; the length stays.
    ///
    /// # Errors
    /// `NoSpace`, `QuotaExceeded`; then nothing has changed.
    pub fn zero(&mut self, namespace: &Arc<Namespace>, range: ByteRange) -> Result<()> {
        let filled = self.fill_holes(namespace, range)?;
        let copies = match self.zeroed_copies(namespace, range) {
            Ok(copies) => copies,
            Err(error) => {
                self.unfill(&filled);
                return Err(error);
            }
        };
        self.zero_others(range, &copies);
        for copy in copies {
            self.cut(copy.start, copy.page_end());
            self.add(copy);
        }
        self.preallocated = true;
        Ok(())
    }

    /// The first offset at `offset` or behind that lies in a page with memory and before the end of the file.
    pub fn seek_data(&self, offset: u64) -> Option<u64> {
        let in_page = |extent: &&Extent| extent.page_end() > offset;
        let data = match self.map.at_or_before(offset).filter(in_page) {
            Some(_) => offset,
            None => self.map.iter_from(offset).next()?.start,
        };
        (data < self.len).then_some(data)
    }

    /// The first offset at `offset` or behind that lies in a page without memory, or the end of the file; `None`
    /// where `offset` lies behind it already.
    pub fn seek_hole(&self, offset: u64) -> Option<u64> {
        if offset >= self.len {
            return None;
        }
        let behind = match self.map.at_or_before(offset) {
            Some(extent) => extent.page_end().max(offset),
            None => offset,
        };
        Some(self.map.covered_until(behind).min(self.len))
    }

    /// Fills the holes of a range with zeros, or changes nothing. Returns what was filled.
    fn fill_holes(&mut self, namespace: &Arc<Namespace>, range: ByteRange) -> Result<Vec<ByteRange>> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let holes = self.holes(range);
        probe(namespace, &holes)?;
        for (at, hole) in holes.iter().enumerate() {
            if let (_, Err(error)) = self.put(namespace, hole.start, Data::Zeros(hole.len())) {
                self.unfill(&holes[..=at]);
                return Err(error);
            }
        }
        Ok(holes)
    }

    /// Takes back what `fill_holes` did.
    fn unfill(&mut self, filled: &[ByteRange]) {
        for hole in filled {
            self.cut(hole.start, hole.end);
        }
    }

    /// The holes of a range. One that begins in the middle of a page without memory is shown from the page on.
    fn holes(&self, range: ByteRange) -> Vec<ByteRange> {
        let mut holes = Vec::new();
        let mut start = match self.map.at_or_before(range.start) {
            Some(extent) if extent.page_end() > range.start => extent.end().max(range.start),
            _ => page_floor(range.start),
        };
        for extent in self
            .map
            .iter_from(start)
            .take_while(|extent| extent.start < range.end)
        {
            holes.push(ByteRange {
                start,
                end: extent.start,
            });
            start = extent.end();
        }
        holes.push(ByteRange {
            start,
            end: range.end,
        });
        holes.retain(|hole| !hole.is_empty());
        holes
    }

    /// Makes the block of the extent at an offset plain.
    fn expand_at(&self, offset: u64) -> Result<()> {
        let extent = self.map.at_or_before(offset);
        extent.map_or(Ok(()), |extent| extent.block.expand())
    }

    /// Zeroed stand-ins for the pages of a range that are shared; the range has no holes. Its other blocks are plain
    /// then, so that they can be zeroed.
    fn zeroed_copies(&mut self, namespace: &Arc<Namespace>, range: ByteRange) -> Result<Vec<Extent>> {
        let mut copies = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let extent = self.map.exclusive_mut(at);
            let is_private = extent.is_some_and(|extent| extent.is_private());
            let extent = self.map.at_or_before(at).expect("the range has no holes");
            let end = extent.end().min(range.end);
            if is_private {
                extent.block.expand()?;
            } else {
                copies.push(extent.patched(namespace, at, Data::Zeros(end - at))?);
            }
            at = end;
        }
        Ok(copies)
    }

    /// Zeroes the bytes of a range for which there are no copies; the range has no holes, and its other extents were
    /// found to be private. That is not asked again: where the grid looks at a block, it may seem to be shared by now.
    fn zero_others(&mut self, range: ByteRange, copies: &[Extent]) {
        let mut copies = copies.iter().peekable();
        let mut at = range.start;
        while at < range.end {
            let extent = self.map.at_or_before(at).expect("the range has no holes");
            let end = extent.end().min(range.end);
            if copies.next_if(|copy| copy.start == page_floor(at)).is_none() {
                let slice = extent.slice(at, end);
                Data::Zeros(end - at)
                    .write_to(&extent.block, slice.offset)
                    .expect("bytes that a plain block has need no memory");
            }
            at = end;
        }
    }
}

/// Refuses at once what cannot fit, instead of filling the memory and taking it back. The first block of each hole does
/// not count: it may fit into memory that an extent before the hole has to spare.
fn probe(namespace: &Namespace, holes: &[ByteRange]) -> Result<()> {
    let spare = u64::from(namespace.block_size());
    let needed = holes
        .iter()
        .map(|hole| hole.len().saturating_sub(spare))
        .fold(0, u64::saturating_add);
    namespace.probe(needed)
}
