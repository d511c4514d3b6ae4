//! Images as disks: found by name, and kept while a client uses them.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::error::{ErrorKind, Result};
use crate::limits::{NAME_MAX, PAGE_SIZE};
use crate::range::ByteRange;
use crate::vfs::{Attr, Fallocate, FileKind, Ino, Outdated, SeekTo, Vfs, WriteAt};

/// Where images are, below the root.
const DIRECTORY: &[u8] = b"images";
/// Names that are collected at a time.
const NAMES_MAX: usize = 256;

/// What tells other frontends that the bytes of an image have changed.
type Tell = dyn Fn(&[Outdated]) + Send + Sync;

/// The images of a drive, as a server shows them.
pub struct Images {
    fs: Arc<dyn Vfs>,
    tell: Box<Tell>,
    read_only: bool,
}

/// Names of images, and where to go on behind them.
pub(crate) struct Names {
    pub(crate) names: Vec<Box<[u8]>>,
    /// `None` where there are no more.
    pub(crate) next: Option<u64>,
}

impl Images {
    /// The images of `fs`. `tell` is called after each change of an image and before the client knows of it, with no
    /// lock held, so that whoever remembers bytes forgets them in time.
    pub fn new(
        fs: Arc<dyn Vfs>,
        read_only: bool,
        tell: impl Fn(&[Outdated]) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            fs,
            tell: Box::new(tell),
            read_only,
        })
    }

    /// Some names behind `cookie`, in the order of the directory; 0 begins. Names that are no text, which the protocol
    /// cannot tell, are left out.
    pub(crate) fn names(&self, cookie: u64) -> Result<Names> {
        let mut found = Names {
            names: Vec::new(),
            next: None,
        };
        let Some(directory) = self.directory()? else {
            return Ok(found);
        };
        let mut last = cookie;
        self.fs.readdir(directory.ino, cookie, false, &mut |entry| {
            if found.names.len() == NAMES_MAX {
                found.next = Some(last);
                return ControlFlow::Break(());
            }
            last = entry.cookie;
            if entry.kind == FileKind::Regular && std::str::from_utf8(entry.name).is_ok() {
                found.names.push(entry.name.into());
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// The image of that name, or the only one where the name is empty; `None` where there is none.
    pub(crate) fn open(self: &Arc<Self>, name: &[u8]) -> Result<Option<Image>> {
        if name.is_empty() {
            return match self.names(0)?.names.as_slice() {
                [only] => self.open(only),
                _ => Ok(None),
            };
        }
        if name.len() > NAME_MAX || name.contains(&b'/') || name.contains(&0) {
            return Ok(None);
        }
        let Some(directory) = self.directory()? else {
            return Ok(None);
        };
        let image = self.find(directory.ino, name)?;
        Ok(image
            .filter(|file| file.attr.kind == FileKind::Regular)
            .map(Image))
    }

    fn directory(&self) -> Result<Option<Directory<'_>>> {
        match self.fs.lookup(Ino::ROOT, DIRECTORY) {
            Ok(attr) => {
                let directory = Directory {
                    fs: &*self.fs,
                    ino: attr.ino,
                };
                Ok((attr.kind == FileKind::Directory).then_some(directory))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn find(self: &Arc<Self>, directory: Ino, name: &[u8]) -> Result<Option<Held>> {
        match self.fs.lookup(directory, name) {
            Ok(attr) => Ok(Some(Held {
                images: Arc::clone(self),
                attr,
            })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The directory of images, looked up.
struct Directory<'i> {
    fs: &'i dyn Vfs,
    ino: Ino,
}

impl Drop for Directory<'_> {
    fn drop(&mut self) {
        self.fs.forget(self.ino, 1);
    }
}

/// A file that was looked up: it lives, with or without a name, until this is dropped.
struct Held {
    images: Arc<Images>,
    attr: Attr,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.images.fs.forget(self.attr.ino, 1);
    }
}

/// An image in use.
pub(crate) struct Image(Held);

/// A run of bytes of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) end: u64,
    pub(crate) is_hole: bool,
}

impl Image {
    /// Bytes that the image had when it was looked up.
    pub(crate) fn size(&self) -> u64 {
        self.0.attr.size
    }

    pub(crate) fn read_only(&self) -> bool {
        self.0.images.read_only
    }

    /// Fills `out` from `offset` on. Behind the end of an image that was made shorter meanwhile there are zeros.
    pub(crate) fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let len = self.fs().read(self.ino(), offset, out)?;
        out[len..].fill(0);
        Ok(())
    }

    /// Writes all of `bytes`, or as many as fit and then fails; the caller tells of the change.
    pub(crate) fn write(&self, mut offset: u64, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            // The writer is nobody who could keep set-user-ID bits.
            let written = self
                .fs()
                .write(self.ino(), WriteAt::Offset(offset), bytes, true)?;
            offset += written.len as u64;
            bytes = &bytes[written.len..];
        }
        Ok(())
    }

    /// Makes a range read as zeros; `keep` its memory, or give it back.
    pub(crate) fn zero(&self, range: ByteRange, keep: bool) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let mode = match keep {
            true => Fallocate::Zero { keep_size: true },
            false => Fallocate::Punch,
        };
        self.fs().fallocate(self.ino(), range, mode)
    }

    /// Tells other frontends that bytes have changed.
    pub(crate) fn tell_changed(&self, range: ByteRange) {
        let ino = self.ino();
        (self.0.images.tell)(&[Outdated::Bytes { ino, range }]);
    }

    /// Where the first data of a range begins; its end where there is none.
    pub(crate) fn next_data(&self, range: ByteRange) -> Result<u64> {
        self.seek(range, SeekTo::Data)
    }

    /// The data or hole that begins at the start of a range, as far as it lies in the range.
    pub(crate) fn run(&self, range: ByteRange) -> Result<Run> {
        let data = self.next_data(range)?;
        if data > range.start {
            return Ok(Run {
                end: data,
                is_hole: true,
            });
        }
        let end = match self.seek(range, SeekTo::Hole)? {
            // Punched since: it counts as data, for a page.
            hole if hole == range.start => (range.start + PAGE_SIZE).min(range.end),
            hole => hole,
        };
        Ok(Run { end, is_hole: false })
    }

    fn seek(&self, range: ByteRange, to: SeekTo) -> Result<u64> {
        match self.fs().seek(self.ino(), range.start, to) {
            Ok(found) => Ok(found.min(range.end)),
            Err(error) if error.kind() == ErrorKind::BeyondEnd => Ok(range.end),
            Err(error) => Err(error),
        }
    }

    fn fs(&self) -> &dyn Vfs {
        &*self.0.images.fs
    }

    fn ino(&self) -> Ino {
        self.0.attr.ino
    }
}
