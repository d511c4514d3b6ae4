//! Records: bytes of any length spread over successive blocks.
//!
//! ```text
//! first index     first + 1       first + 2            each block but the last is full
//! +--------+----+ +-------------+ +--------+
//! | header | .. | | ..          | | ..     |
//! +--------+----+ +-------------+ +--------+
//! header: 0..4  "okr1"    4..12  length of the record without the header, u64 little-endian
//! ```

use std::sync::Arc;

use super::block::{Kept, Pin};
use super::index::{BlockIndex, Slice};
use super::namespace::Namespace;
use crate::{Error, ErrorKind, Result};

const MAGIC: [u8; 4] = *b"okr1";
const HEADER: usize = 12;

impl Namespace {
    /// Stores a record of any length in the blocks from `first` on: one block for up to the block size less 12 bytes.
    /// It replaces a record that begins there, and whatever else was in the blocks that it takes.
    ///
    /// Readers see the record before or the new one. All or nothing: there must be memory for both of them.
    ///
    /// # Errors
    /// `Busy` where one of the indexes is lent out; `InvalidArgument` where the record passes the last index;
    /// `NoSpace`; `QuotaExceeded`; `NotFound` for a namespace that was removed.
    pub fn put_record(self: &Arc<Self>, first: BlockIndex, bytes: &[u8]) -> Result<()> {
        let blocks = blocks_of(bytes.len() as u64, self.block_size());
        first.plus(blocks - 1)?;
        let staged = self.home.with_room(|| self.stage_record(bytes))?;
        self.swap_record(first, staged)
    }

    /// Replaces what is in `out` by the record that begins at `first`.
    ///
    /// # Errors
    /// `NotFound` where the index is empty; `Corrupt` where it holds no record, or a part is missing. `out` is empty
    /// then.
    pub fn get_record(&self, first: BlockIndex, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        let (len, pins) = self.pin_record(first)?;
        let mut offset = HEADER as u32;
        for pin in &pins {
            let slice = Slice {
                offset,
                len: self.block_size(),
            };
            pin.memory()
                .read(self.account(), slice, |bytes| out.extend_from_slice(bytes));
            offset = 0;
        }
        if out.len() as u64 != len {
            let found = out.len();
            out.clear();
            return Err(damaged(first, &format!("has {found} of {len} bytes")));
        }
        Ok(())
    }

    /// Deletes the record that begins at `first`.
    ///
    /// # Errors
    /// As [`Namespace::get_record`]; `Busy` where one of its blocks is lent out.
    pub fn remove_record(&self, first: BlockIndex) -> Result<()> {
        drop(self.pin_record(first)?);
        self.swap_record(first, Vec::new())
    }

    fn stage_record(&self, bytes: &[u8]) -> Result<Vec<Arc<Kept>>> {
        let block_size = self.block_size() as usize;
        let (head, rest) = bytes.split_at(bytes.len().min(block_size - HEADER));
        let mut first = Vec::with_capacity(HEADER + head.len());
        first.extend_from_slice(&MAGIC);
        first.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        first.extend_from_slice(head);
        std::iter::once(first.as_slice())
            .chain(rest.chunks(block_size))
            .map(|piece| Kept::new(self.account(), 0, piece))
            .collect()
    }

    /// Puts the blocks in the place of the record that was there; none delete it.
    fn swap_record(&self, first: BlockIndex, staged: Vec<Arc<Kept>>) -> Result<()> {
        // Declared before the lock, so that the blocks in it end after it.
        let mut replaced = Vec::new();
        let _whole = self.records.write();
        let before = self
            .record_len(first)
            .map_or(0, |len| blocks_of(len, self.block_size()));
        let swapped = self.swap_blocks(first, staged, before, &mut replaced);
        if swapped.is_err() {
            for (index, kept) in &mut replaced {
                // The index held a kept block a moment ago. Where it is lent by now, the old block is lost to that,
                // as if it had come later.
                if let Ok(new) = self.home.replace(*index, kept.take()) {
                    *kept = new;
                }
            }
        }
        swapped
    }

    fn swap_blocks(
        &self,
        first: BlockIndex,
        staged: Vec<Arc<Kept>>,
        before: u64,
        replaced: &mut Vec<(BlockIndex, Option<Arc<Kept>>)>,
    ) -> Result<()> {
        let after = staged.len() as u64;
        let mut staged = staged.into_iter();
        for position in 0..before.max(after) {
            let index = first.plus(position)?;
            let old = self.home.replace(index, staged.next())?;
            if old.is_none() && position >= after {
                break;
            }
            replaced.push((index, old));
        }
        Ok(())
    }

    /// Length and blocks of a record; they stay as they are while pinned, but for puts to their indexes.
    fn pin_record(&self, first: BlockIndex) -> Result<(u64, Vec<Pin<'_>>)> {
        // Declared before the lock, so that a block that ends with its pin ends after it.
        let mut pins = Vec::new();
        let _whole = self.records.read();
        let len = self.record_len(first)?;
        for position in 0..blocks_of(len, self.block_size()) {
            let pin = self.home.pin(first.plus(position)?);
            pins.push(pin.ok_or_else(|| damaged(first, &format!("lacks part {position}")))?);
        }
        Ok((len, pins))
    }

    /// Length of the record at `first`, by its header.
    fn record_len(&self, first: BlockIndex) -> Result<u64> {
        let Some(pin) = self.home.pin(first) else {
            let first = first.get();
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("no record at block {first}"),
            ));
        };
        let header = Slice {
            offset: 0,
            len: HEADER as u32,
        };
        pin.memory()
            .read(self.account(), header, parse)
            .ok_or_else(|| damaged(first, "has no header"))
    }
}

fn parse(header: &[u8]) -> Option<u64> {
    let len = header.strip_prefix(&MAGIC)?.try_into().ok()?;
    Some(u64::from_le_bytes(len)).filter(|len| len.checked_add(HEADER as u64).is_some())
}

fn blocks_of(len: u64, block_size: u32) -> u64 {
    (len + HEADER as u64).div_ceil(u64::from(block_size))
}

fn damaged(first: BlockIndex, what: &str) -> Error {
    let first = first.get();
    Error::new(ErrorKind::Corrupt, format!("the record at block {first} {what}"))
}
