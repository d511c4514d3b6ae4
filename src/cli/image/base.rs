//! An image's file as a disk that is looked into.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use super::directory::{failed, open_image};
use crate::cli::mounts::Mount;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Name;
use crate::image::burn::ReadAt;
use crate::image::fleet::Seen;
use crate::range::ByteRange;

/// An image, open for reading.
pub(super) struct BaseDisk {
    file: File,
    path: PathBuf,
    size: u64,
    seen: Seen,
}

impl BaseDisk {
    pub(super) fn open(drive: &Mount, name: &Name) -> Result<Self> {
        let path = drive.mountpoint.join("images").join(name.as_str());
        let file = open_image(drive, name)?;
        let metadata = file
            .metadata()
            .map_err(|source| failed("cannot look at", &path, source))?;
        Ok(Self {
            file,
            path,
            size: metadata.len(),
            seen: seen(&metadata),
        })
    }

    /// What the file was like when it was opened.
    pub(super) fn seen(&self) -> Seen {
        self.seen
    }

    fn failed(&self, source: impl Into<io::Error>) -> Error {
        let context = format!("cannot read {}", self.path.display());
        Error::new(ErrorKind::Corrupt, context).with_source(source.into())
    }

    fn seek(&self, offset: u64, whence: Whence) -> Result<Option<u64>> {
        let Ok(offset) = i64::try_from(offset) else {
            return Ok(None);
        };
        match lseek(&self.file, offset, whence) {
            Ok(found) => Ok(Some(found as u64)),
            Err(Errno::ENXIO) => Ok(None),
            Err(errno) => Err(self.failed(errno)),
        }
    }
}

fn seen(metadata: &Metadata) -> Seen {
    // The kernel counts 0 to 999,999,999 of them.
    let nanos = |nanos: i64| nanos as u32;
    Seen {
        size: metadata.size(),
        mtime: (metadata.mtime(), nanos(metadata.mtime_nsec())),
        ctime: (metadata.ctime(), nanos(metadata.ctime_nsec())),
    }
}

impl ReadAt for BaseDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.file
            .read_exact_at(out, offset)
            .map_err(|source| self.failed(source))
    }

    fn next_data(&self, offset: u64) -> Result<Option<ByteRange>> {
        let Some(start) = self.seek(offset, Whence::SeekData)? else {
            return Ok(None);
        };
        let end = self.seek(start, Whence::SeekHole)?;
        Ok(end.map(|end| ByteRange { start, end }))
    }
}
