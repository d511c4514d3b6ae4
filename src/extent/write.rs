//! Writing: in place where a block is private, to new blocks in holes, page by page where a block is shared.

use std::sync::Arc;

use super::content::Content;
use super::data::Data;
use super::run::{Extent, block_len};
use crate::Result;
use crate::grid::{Namespace, class_bytes};
use crate::range::{ByteRange, page_ceil, page_floor};

/// Bytes that may be moved for one that is appended.
const GROWTH_COPY_MAX: u64 = 2;

impl Content {
    /// Writes bytes at `offset`, growing the file where they end behind it. Returns how many fitted: all of them but
    /// at the bound of the budget or quota. No bytes change nothing.
    ///
    /// # Errors
    /// `FileTooBig`; `NoSpace` or `QuotaExceeded` where not one byte fitted. On an error nothing has changed.
    pub fn write(&mut self, namespace: &Arc<Namespace>, offset: u64, bytes: &[u8]) -> Result<usize> {
        let range = ByteRange::at(offset, bytes.len() as u64)?;
        let (end, result) = self.put(namespace, range.start, Data::Bytes(bytes));
        if end == range.start {
            return result.map(|()| 0);
        }
        self.len = self.len.max(end);
        Ok(usize::try_from(end - offset).expect("no more was written than given"))
    }

    /// Puts data at `start`, whatever the length; returns where it ended, and why if that is too early.
    pub(super) fn put(
        &mut self,
        namespace: &Arc<Namespace>,
        start: u64,
        data: Data<'_>,
    ) -> (u64, Result<()>) {
        self.adopt(namespace);
        let region = u64::from(namespace.block_size());
        let (mut at, mut data) = (start, data);
        while data.len() > 0 {
            let piece_len = data.len().min(region - at % region);
            match self.put_some(namespace, at, data.first(piece_len)) {
                Ok(done) => {
                    at += done;
                    data = data.behind(done);
                }
                Err(error) => return (at, Err(error)),
            }
        }
        (at, Ok(()))
    }

    /// Puts at least the first byte of data that lies between two multiples of the block size; returns how many
    /// bytes. As much as possible becomes one extent, but where memory is short less may do: up to the next extent,
    /// or to the end of the present one.
    fn put_some(&mut self, namespace: &Arc<Namespace>, start: u64, data: Data<'_>) -> Result<u64> {
        let end = start + data.len();
        let mut behind = self
            .map
            .iter_from(start + 1)
            .take_while(|extent| extent.start < end)
            .peekable();
        let to_next = behind.peek().map_or(end, |extent| extent.start);
        let to_kept = behind
            .find(|extent| extent.end() > end)
            .map_or(end, |extent| extent.start);
        let mut done = to_kept;
        let mut result = self.put_run(namespace, start, data.first(done - start));
        if result.is_ok() {
            return Ok(done - start);
        }
        let of_present = self.map.covering(start).map_or(end, Extent::end);
        for shorter in [to_next, of_present] {
            if result.is_err() && shorter < done {
                done = shorter;
                result = self.put_run(namespace, start, data.first(done - start));
            }
        }
        result.map(|()| done - start)
    }

    /// Puts data in one extent, all or nothing. Extents that begin behind its first byte end with it or before, and
    /// are dropped.
    fn put_run(&mut self, namespace: &Arc<Namespace>, start: u64, data: Data<'_>) -> Result<()> {
        let end = start + data.len();
        let region = start - start % u64::from(namespace.block_size());
        if let Some(extent) = self.map.exclusive_mut(start)
            && extent.start >= region
            && (extent.end() >= start || extent.page_end() > start)
            && extent.is_private()
            && extent.takes(start, end)
        {
            let old_len = extent.len;
            extent.put(start, data)?;
            let new_len = extent.len;
            if new_len > old_len {
                self.resized(old_len, new_len);
                self.drop_extents(start + 1, end);
            }
            return Ok(());
        }
        if self
            .map
            .at_or_before(start)
            .is_some_and(|extent| extent.page_end() > start)
        {
            return self.put_copied(namespace, start, data);
        }
        let first = page_floor(start);
        let block = data.new_block(namespace, block_len(start - first))?;
        self.drop_extents(start, end);
        self.add(Extent {
            start: first,
            len: block_len(end - first),
            block_offset: 0,
            block,
        });
        Ok(())
    }

    /// Puts data into a copy of the pages that it touches, the first of which belongs to the extent at or before
    /// `start`; that extent keeps the rest of its block.
    fn put_copied(&mut self, namespace: &Arc<Namespace>, start: u64, data: Data<'_>) -> Result<()> {
        let extent = self.map.at_or_before(start).expect("the caller found it");
        let copy = extent.patched(namespace, start, data)?;
        self.cut(copy.start, copy.page_end());
        self.add(copy);
        Ok(())
    }
}

impl Extent {
    /// Whether `start..end`, which begins in this private extent, in its last page or directly behind it, is to be
    /// written to its block. A block that must move to more memory for bytes that could have a block of their own
    /// stays where it is if the move would copy much.
    fn takes(&self, start: u64, end: u64) -> bool {
        let fits = || class_bytes(block_len(end - self.start)) <= self.block.held_bytes();
        let in_page = self.page_end() > start;
        let cheap = || u64::from(self.len) <= GROWTH_COPY_MAX * (end - start);
        end <= self.end() || (self.block_offset == 0 && (in_page || fits() || cheap()))
    }

    /// Overwrites or extends this private extent; zeros fill the gap before data behind its end.
    fn put(&mut self, start: u64, data: Data<'_>) -> Result<()> {
        let offset = block_len(start - self.start);
        let new_len = self.len.max(offset + block_len(data.len()));
        if new_len > self.len {
            self.trim_private_block();
        }
        data.write_to(&self.block, self.block_offset + offset)?;
        self.len = new_len;
        Ok(())
    }

    /// A new extent with data in place of this one's bytes, for the pages that the data touches. The first of them
    /// is a page of this extent, which may end before the data does.
    pub(super) fn patched(&self, namespace: &Arc<Namespace>, start: u64, data: Data<'_>) -> Result<Self> {
        let end = start + data.len();
        let first = page_floor(start);
        let last = end.max(self.end().min(page_ceil(end)));
        let block = if first == start && last == end {
            data.new_block(namespace, 0)?
        } else {
            let mut bytes = Vec::with_capacity(block_len(last - first) as usize);
            self.append_to(first, start.min(self.end()), &mut bytes);
            bytes.resize(block_len(start - first) as usize, 0);
            data.append_to(&mut bytes);
            self.append_to(end.min(last), last, &mut bytes);
            namespace.new_block(0, &bytes)?
        };
        Ok(Self {
            start: first,
            len: block_len(last - first),
            block_offset: 0,
            block,
        })
    }
}
