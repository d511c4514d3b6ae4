//! Where the bytes of a container lie and where they go: a file, or memory in tests.

use super::disk::{Run, check_range};
use crate::error::{Error, ErrorKind, Result};

/// Bytes that are read at any place.
pub trait Source {
    /// How many there are.
    fn size(&self) -> u64;

    /// Fills `out` from `offset` on.
    ///
    /// # Errors
    /// `BeyondEnd` where there are not so many, `Corrupt` where they cannot be read.
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()>;

    /// The run that begins at `offset`, which is below the size.
    ///
    /// # Errors
    /// `Corrupt` where that cannot be found out.
    fn run(&self, offset: u64) -> Result<Run>;
}

/// Bytes that are written at any place; what is not written reads as zeros.
pub trait Sink {
    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// `NoSpace` where there is no room for them, `Corrupt` where they cannot be written.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Makes it that many bytes long, once: all writes end there or before.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn set_size(&mut self, size: u64) -> Result<()>;
}

impl Source for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        check_range(self.size(), offset, out.len())?;
        let start = usize::try_from(offset).expect("the range lies in memory");
        out.copy_from_slice(&self[start..start + out.len()]);
        Ok(())
    }

    fn run(&self, _offset: u64) -> Result<Run> {
        Ok(Run {
            end: self.size(),
            is_zero: false,
        })
    }
}

impl Sink for &mut Vec<u8> {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let start = usize::try_from(offset).map_err(|_| too_long(offset))?;
        let end = start.checked_add(bytes.len()).ok_or_else(|| too_long(offset))?;
        if self.len() < end {
            self.resize(end, 0);
        }
        self[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn set_size(&mut self, size: u64) -> Result<()> {
        self.resize(usize::try_from(size).map_err(|_| too_long(size))?, 0);
        Ok(())
    }
}

fn too_long(offset: u64) -> Error {
    Error::new(
        ErrorKind::FileTooBig,
        format!("byte {offset} cannot be held in memory"),
    )
}
