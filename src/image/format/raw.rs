//! The raw format: the file is the disk.

use super::disk::{Disk, Run, Writer, check_range};
use super::source::{Sink, Source};
use crate::error::Result;
use crate::limits::PAGE_SIZE;

/// A raw disk that is read.
pub struct Raw(Box<dyn Source>);

impl Raw {
    /// The disk that a source is.
    pub fn new(source: Box<dyn Source>) -> Self {
        Self(source)
    }
}

impl Disk for Raw {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn run(&mut self, offset: u64) -> Result<Run> {
        check_range(self.size(), offset, 1)?;
        self.0.run(offset)
    }

    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<()> {
        check_range(self.size(), offset, out.len())?;
        self.0.read(offset, out)
    }
}

/// A raw disk that is written, sparse by pages.
pub struct RawWriter<S: Sink> {
    sink: S,
    size: u64,
    is_sized: bool,
}

impl<S: Sink> RawWriter<S> {
    /// A disk of `size` bytes.
    pub fn new(sink: S, size: u64) -> Self {
        Self {
            sink,
            size,
            is_sized: false,
        }
    }

    /// Sets the length before anything else, so that a disk that is too long for where it goes is not copied first.
    fn set_size(&mut self) -> Result<()> {
        if !self.is_sized {
            self.sink.set_size(self.size)?;
            self.is_sized = true;
        }
        Ok(())
    }
}

impl<S: Sink> Writer for RawWriter<S> {
    fn unit(&self) -> usize {
        PAGE_SIZE as usize
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.set_size()?;
        self.sink.write(offset, bytes)
    }

    fn zero(&mut self, _offset: u64, _len: u64) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.set_size()
    }
}
