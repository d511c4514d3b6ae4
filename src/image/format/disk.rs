//! Disks that are read and disks that are written, whatever the format.

use crate::error::{Error, ErrorKind, Result};
use crate::limits::SECTOR_SIZE;

/// Bytes of one kind, from where they were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where the run ends: behind its start. The next one may be of the same kind.
    pub end: u64,
    /// Whether all of it reads as zeros, without a look at its bytes.
    pub is_zero: bool,
}

/// A disk that is read: what a file of some format shows.
pub trait Disk {
    /// Its size in bytes.
    fn size(&self) -> u64;

    /// Bytes of a sector, in which its users count: 512 unless the format tells others.
    fn sector_len(&self) -> u64 {
        SECTOR_SIZE
    }

    /// The run that begins at `offset`, which is below the size.
    ///
    /// # Errors
    /// `Corrupt` where the format's tables are damaged.
    fn run(&mut self, offset: u64) -> Result<Run>;

    /// Fills `out` with the bytes from `offset` on; all of them lie on the disk.
    ///
    /// # Errors
    /// `Corrupt` where the tables or the packed bytes are damaged, `BeyondEnd` where the range leaves the disk.
    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<()>;
}

/// A disk that is written, once and from its start to its end.
pub trait Writer {
    /// Bytes that are kept or left out together: a power of two. Writes begin at multiples of it, and end there or at the
    /// end of the disk.
    fn unit(&self) -> usize;

    /// Writes bytes that are not all zeros. Calls come in the order of their offsets.
    ///
    /// # Errors
    /// Where the file cannot be written: `NoSpace` where that is why.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Says that bytes are zeros where the disk below this one has others; in the same order as writes. A disk without
    /// one below is zeros everywhere from the start.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn zero(&mut self, offset: u64, len: u64) -> Result<()>;

    /// Writes what is still to be written, tables for example. Without this the file is no disk.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn finish(&mut self) -> Result<()>;
}

/// Checks that a range lies on a disk.
pub(super) fn check_range(size: u64, offset: u64, len: usize) -> Result<()> {
    let end = offset.checked_add(len as u64).filter(|end| *end <= size);
    end.map(drop).ok_or_else(|| {
        Error::new(
            ErrorKind::BeyondEnd,
            format!("{len} bytes at {offset} are not all on a disk of {size} bytes"),
        )
    })
}
