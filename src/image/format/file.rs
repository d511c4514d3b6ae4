//! Files as sources and sinks.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use super::disk::{Run, check_range};
use super::source::{Sink, Source};
use crate::error::{Error, ErrorKind, Result};

/// A regular file or a block device that is read.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    size: u64,
    /// Where the run begins that was found last, and the run. Some filesystems look at each page of a run to find its end,
    /// and a disk is read in many pieces.
    last: Cell<Option<(u64, Run)>>,
}

impl FileSource {
    /// A file as long as it is now.
    ///
    /// # Errors
    /// `Corrupt` where its length cannot be found out.
    pub fn new(mut file: File) -> Result<Self> {
        // Not from its metadata, which says nothing of a device.
        let size = file.seek(SeekFrom::End(0)).map_err(unread)?;
        Ok(Self {
            file,
            size,
            last: Cell::new(None),
        })
    }

    /// Where the next data or hole begins; the end of the file where there is none.
    fn seek(&self, offset: u64, whence: Whence) -> Result<u64> {
        let offset = i64::try_from(offset).map_err(|_| Error::from(ErrorKind::BeyondEnd))?;
        match lseek(&self.file, offset, whence) {
            Ok(found) => Ok(found.cast_unsigned().min(self.size)),
            Err(Errno::ENXIO) => Ok(self.size),
            Err(errno) => Err(unread(errno.into())),
        }
    }

    fn find_run(&self, offset: u64) -> Result<Run> {
        let data = match self.seek(offset, Whence::SeekData) {
            Ok(data) => data,
            // A device or a filesystem that knows no holes.
            Err(error) if error.kind() == ErrorKind::InvalidArgument => offset,
            Err(error) => return Err(error),
        };
        if data > offset {
            return Ok(Run {
                end: data,
                is_zero: true,
            });
        }
        let end = match self.seek(offset, Whence::SeekHole) {
            Ok(end) if end > offset => end,
            Ok(_) | Err(_) => self.size,
        };
        Ok(Run { end, is_zero: false })
    }
}

impl Source for FileSource {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        check_range(self.size, offset, out.len())?;
        self.file.read_exact_at(out, offset).map_err(unread)
    }

    fn run(&self, offset: u64) -> Result<Run> {
        if let Some((start, run)) = self.last.get()
            && (start..run.end).contains(&offset)
        {
            return Ok(run);
        }
        let run = self.find_run(offset)?;
        self.last.set(Some((offset, run)));
        Ok(run)
    }
}

impl Sink for &File {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.write_all_at(bytes, offset).map_err(unwritten)
    }

    fn set_size(&mut self, size: u64) -> Result<()> {
        self.set_len(size).map_err(unwritten)
    }
}

fn unread(source: io::Error) -> Error {
    failed("cannot read the file", source)
}

fn unwritten(source: io::Error) -> Error {
    failed("cannot write the new file", source)
}

/// What a failed call on a file means.
fn failed(what: &'static str, source: io::Error) -> Error {
    let (kind, context) = match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (ErrorKind::NoSpace, "no space is left"),
        io::ErrorKind::FileTooLarge => (ErrorKind::FileTooBig, "the file gets too long"),
        io::ErrorKind::UnexpectedEof => (ErrorKind::Corrupt, "the file got shorter meanwhile"),
        io::ErrorKind::InvalidInput => (ErrorKind::InvalidArgument, "the file cannot be used so"),
        _ => (ErrorKind::Corrupt, what),
    };
    Error::new(kind, context).with_source(source)
}
