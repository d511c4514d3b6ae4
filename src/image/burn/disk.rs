//! A disk that is read at any place, and a part of one.

use crate::error::{Error, ErrorKind, Result};
use crate::range::ByteRange;

/// A disk, or an image of one.
pub trait ReadAt {
    /// Its length in bytes.
    fn size(&self) -> u64;

    /// Fills `out` with the bytes from `offset` on.
    ///
    /// # Errors
    /// Any, where the bytes do not lie inside the disk or cannot be read.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()>;

    /// The first run of bytes at or behind `offset` that may be anything but zeros.
    ///
    /// # Errors
    /// Any, where the disk cannot be read.
    fn next_data(&self, offset: u64) -> Result<Option<ByteRange>>;
}

/// A disk in memory has no holes.
impl ReadAt for &[u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let start = usize::try_from(offset).map_err(|_| beyond(offset))?;
        let bytes = self.get(start..).and_then(|bytes| bytes.get(..out.len()));
        out.copy_from_slice(bytes.ok_or_else(|| beyond(offset))?);
        Ok(())
    }

    fn next_data(&self, offset: u64) -> Result<Option<ByteRange>> {
        let data = ByteRange {
            start: offset,
            end: self.size(),
        };
        Ok((!data.is_empty()).then_some(data))
    }
}

/// A part of a disk, with a filesystem in it perhaps.
#[derive(Clone, Copy)]
pub(super) struct Part<'d> {
    disk: &'d dyn ReadAt,
    start: u64,
    len: u64,
}

impl<'d> Part<'d> {
    pub(super) fn whole(disk: &'d dyn ReadAt) -> Self {
        Self {
            disk,
            start: 0,
            len: disk.size(),
        }
    }

    /// A part of this part; `None` where it reaches beyond it.
    pub(super) fn part(self, start: u64, len: u64) -> Option<Self> {
        let end = start.checked_add(len)?;
        (end <= self.len).then(|| Self {
            disk: self.disk,
            start: self.start + start,
            len,
        })
    }

    /// Where on the disk it begins.
    pub(super) fn start(self) -> u64 {
        self.start
    }

    pub(super) fn len(self) -> u64 {
        self.len
    }

    pub(super) fn read(self, offset: u64, out: &mut [u8]) -> Result<()> {
        let inside = self
            .part(offset, out.len() as u64)
            .ok_or_else(|| beyond(offset))?;
        self.disk.read_at(inside.start, out)
    }

    /// `N` bytes.
    pub(super) fn bytes<const N: usize>(self, offset: u64) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read(offset, &mut bytes)?;
        Ok(bytes)
    }
}

/// A number of two bytes; those behind the end count as zero, here and below.
pub(super) fn le16(bytes: &[u8], at: usize) -> u16 {
    le64(bytes, at) as u16
}

pub(super) fn le32(bytes: &[u8], at: usize) -> u32 {
    le64(bytes, at) as u32
}

pub(super) fn le64(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes.get(at..).unwrap_or_default().iter().take(8);
    bytes.rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn beyond(offset: u64) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!("something is said to be at byte {offset}, behind the end"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_little_endian_and_end_in_zeros() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        assert_eq!(le16(&bytes, 0), 0x0201);
        assert_eq!(le32(&bytes, 1), 0x0504_0302);
        assert_eq!(le64(&bytes, 1), 0x0908_0706_0504_0302);
        assert_eq!(le32(&bytes, 8), 9);
        assert_eq!(le64(&bytes, 99), 0);
    }

    #[test]
    fn a_part_reads_nothing_outside() {
        let disk: &[u8] = &[7; 100];
        let part = Part::whole(&disk).part(10, 50).expect("it lies inside");
        assert!(part.part(0, 51).is_none() && part.part(u64::MAX, 2).is_none());
        assert!(part.bytes::<4>(47).is_err() && part.bytes::<4>(u64::MAX).is_err());
        assert_eq!(part.bytes::<4>(46).expect("the last four"), [7; 4]);
        assert_eq!(part.part(50, 0).expect("nothing, at the end").start(), 60);
    }
}
