//! Reading a vhdx file, dynamic or fixed.

use super::super::disk::{Disk, Run, check_range};
use super::super::fields::{damaged, unsupported};
use super::super::source::Source;
use super::super::table::{TableAt, TablePiece};
use super::header::{MIB, Regions};
use super::metadata::Metadata;
use crate::error::Result;

/// A block has bytes in the file.
pub(super) const FULLY_PRESENT: u64 = 6;
/// A block's bytes are in this file and in a parent's.
const PARTIALLY_PRESENT: u64 = 7;
/// States in which a block reads as zeros: not present, undefined, zero, unmapped, and unmapped as version 0.95 of the
/// specification had it.
const ZEROS: [u64; 5] = [0, 1, 2, 3, 5];

/// A vhdx file that is read.
pub struct Vhdx {
    source: Box<dyn Source>,
    metadata: Metadata,
    bat: TableAt,
    piece: TablePiece,
}

/// Bytes from an offset on that lie one behind another, at a place in the file or nowhere.
struct Span {
    place: Option<u64>,
    end: u64,
}

impl Vhdx {
    /// The disk of a file.
    ///
    /// # Errors
    /// `NotSupported` where the file has a parent, changes in its log, or something unknown that it needs; `Corrupt` where
    /// it makes no sense.
    pub fn new(source: Box<dyn Source>) -> Result<Self> {
        let regions = Regions::read(&*source)?;
        let metadata = Metadata::read(&*source, regions.metadata)?;
        let bat = TableAt {
            name: "BAT",
            offset: regions.bat.offset,
            len: metadata.bat_len(),
        };
        if bat.len * 8 > regions.bat.len {
            return Err(damaged(format!(
                "the BAT has room for {} entries, the disk needs {}",
                regions.bat.len / 8,
                bat.len
            )));
        }
        Ok(Self {
            source,
            metadata,
            bat,
            piece: TablePiece::default(),
        })
    }

    /// The span that begins at `offset`, below `end`: as far as it can be followed in one piece of the table.
    fn span(&mut self, offset: u64, end: u64) -> Result<Span> {
        let block_len = self.metadata.block_len;
        let first = offset / block_len;
        let place = self.place(first)?;
        let last = self.bat.piece_end(self.metadata.bat_index(first));
        let wanted = end.div_ceil(block_len);
        let mut behind = first + 1;
        while behind < wanted && self.metadata.bat_index(behind) < last {
            let follows = place.map(|place| place + (behind - first) * block_len);
            if self.place(behind)? != follows {
                break;
            }
            behind += 1;
        }
        Ok(Span {
            place: place.map(|place| place + offset % block_len),
            end: (behind * block_len).min(end),
        })
    }

    /// Where a block is in the file; `None` where it is zeros.
    fn place(&mut self, block: u64) -> Result<Option<u64>> {
        let index = self.metadata.bat_index(block);
        let entry = u64::from_le_bytes(self.piece.entry(&*self.source, self.bat, index)?);
        let state = entry & 7;
        if ZEROS.contains(&state) {
            return Ok(None);
        }
        if state == PARTIALLY_PRESENT {
            return Err(unsupported(format!(
                "block {block} has a part of its bytes in a parent's file"
            )));
        }
        // Bits 20 to 63 count MiB, so the rest is the offset.
        let offset = entry & !(MIB - 1);
        let size = self.source.size();
        let is_there = offset
            .checked_add(self.used_len(block))
            .is_some_and(|end| end <= size);
        match state == FULLY_PRESENT && offset >= MIB && is_there {
            true => Ok(Some(offset)),
            false => Err(damaged(format!(
                "block {block} has state {state} and lies at {offset} in a file of {size} bytes: was it cut short?"
            ))),
        }
    }

    /// Bytes of a block that the disk shows: fewer in the last one.
    fn used_len(&self, block: u64) -> u64 {
        let Metadata { size, block_len, .. } = self.metadata;
        (size - block * block_len).min(block_len)
    }
}

impl Disk for Vhdx {
    fn size(&self) -> u64 {
        self.metadata.size
    }

    fn sector_len(&self) -> u64 {
        self.metadata.sector_len
    }

    fn run(&mut self, offset: u64) -> Result<Run> {
        check_range(self.size(), offset, 1)?;
        let span = self.span(offset, self.size())?;
        let Some(place) = span.place else {
            return Ok(Run {
                end: span.end,
                is_zero: true,
            });
        };
        // Blocks are large, and the file may have holes in them.
        let inner = self.source.run(place)?;
        Ok(Run {
            end: offset.saturating_add(inner.end - place).min(span.end),
            is_zero: inner.is_zero,
        })
    }

    fn read(&mut self, mut offset: u64, mut out: &mut [u8]) -> Result<()> {
        check_range(self.size(), offset, out.len())?;
        while !out.is_empty() {
            let span = self.span(offset, offset + out.len() as u64)?;
            let (now, later) = out.split_at_mut((span.end - offset) as usize);
            match span.place {
                Some(place) => self.source.read(place, now)?,
                None => now.fill(0),
            }
            (offset, out) = (span.end, later);
        }
        Ok(())
    }
}
