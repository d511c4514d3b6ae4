//! Images as disks: found by name, and kept while a client uses them.

use std::sync::Arc;

use super::folder::{Folder, Held, Names};
use super::manage::Manager;
use super::name::Name;
use super::record::Record;
use super::uses::Uses;
use super::write::write_all;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{IMAGE_ZERO_PIECE_MAX, PAGE_SIZE};
use crate::range::ByteRange;
use crate::vfs::{Attr, Differences, Fallocate, Ino, Outdated, SeekTo, Vfs};

/// Names that are collected at a time.
const NAMES_MAX: usize = 256;

/// What tells other frontends that the bytes of an image have changed.
type Tell = dyn Fn(&[Outdated]) + Send + Sync;

/// The images of a drive, as a server shows them.
pub struct Images {
    pub(super) fs: Arc<dyn Vfs>,
    tell: Arc<Tell>,
    pub(super) uses: Arc<Uses>,
    read_only: bool,
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
            tell: Arc::new(tell),
            uses: Arc::default(),
            read_only,
        })
    }

    /// The same images for one more server, which may be kept from changing them. Who uses an image is known to all.
    pub fn for_server(&self, read_only: bool) -> Arc<Self> {
        Arc::new(Self {
            fs: Arc::clone(&self.fs),
            tell: Arc::clone(&self.tell),
            uses: Arc::clone(&self.uses),
            read_only: self.read_only || read_only,
        })
    }

    /// Some names behind `cookie`, in the order of the directory; 0 begins.
    pub(crate) fn names(&self, cookie: u64) -> Result<Names> {
        match Folder::open(&*self.fs)? {
            Some(folder) => folder.names(cookie, NAMES_MAX),
            None => Ok(Names::default()),
        }
    }

    /// The image of that name, or the only one where the name is empty; `None` where there is none.
    pub(crate) fn open(self: &Arc<Self>, name: &[u8]) -> Result<Option<Image>> {
        let name = match name {
            b"" => match self.names(0)?.names.as_mut_slice() {
                [only] => Some(only.clone()),
                _ => None,
            },
            _ => Name::of_entry(name),
        };
        let (Some(name), Some(folder)) = (name, Folder::open(&*self.fs)?) else {
            return Ok(None);
        };
        Ok(folder.find(&name)?.map(|held| self.lend(held)))
    }

    fn lend(self: &Arc<Self>, held: Held<'_>) -> Image {
        let attr = held.keep();
        self.uses.begin(attr.ino);
        Image {
            images: Arc::clone(self),
            attr,
        }
    }

    /// Changes images as wholes, and then tells other frontends what of their knowledge is outdated, also where it has
    /// failed half-way.
    ///
    /// # Errors
    /// `ReadOnly` where the drive refuses changes, and those of `work`.
    pub fn manage<T>(&self, work: impl FnOnce(&mut Manager<'_>) -> Result<T>) -> Result<T> {
        if self.read_only {
            let context = "the drive is read-only\nhint: mount it without --read-only";
            return Err(Error::new(ErrorKind::ReadOnly, context));
        }
        let mut manager = Manager::new(&*self.fs, &self.uses)?;
        let done = work(&mut manager);
        (self.tell)(&manager.into_outdated());
        done
    }
}

/// An image in use: its file lives, with or without a name, until this is dropped.
pub(crate) struct Image {
    images: Arc<Images>,
    attr: Attr,
}

impl Drop for Image {
    fn drop(&mut self) {
        self.images.uses.end(self.attr.ino);
        self.images.fs.forget(self.attr.ino, 1);
    }
}

/// A run of bytes of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) end: u64,
    pub(crate) is_hole: bool,
}

impl Image {
    /// Bytes that the image had when it was looked up.
    pub(crate) fn size(&self) -> u64 {
        self.attr.size
    }

    pub(crate) fn read_only(&self) -> bool {
        self.images.read_only
    }

    /// The image that this one says it was cloned from; `None` where there is none.
    pub(crate) fn base(&self) -> Result<Option<Self>> {
        let record = Record::read(self.fs(), self.ino())?;
        let base = match &record.base {
            Some(base) => self.images.open(base.as_bytes())?,
            None => None,
        };
        Ok(base.filter(|base| base.ino() != self.ino()))
    }

    /// Where this image differs from another one, as [`Vfs::differences`] tells it.
    pub(crate) fn differences(&self, other: &Self, range: ByteRange, most: usize) -> Result<Differences> {
        self.fs().differences([self.ino(), other.ino()], range, most)
    }

    /// Fills `out` from `offset` on. Behind the end of an image that was made shorter meanwhile there are zeros.
    pub(crate) fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let len = self.fs().read(self.ino(), offset, out)?;
        out[len..].fill(0);
        Ok(())
    }

    /// Writes all of `bytes`, or as many as fit and then fails; the caller tells of the change.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        write_all(self.fs(), self.ino(), offset, bytes)
    }

    /// Makes a range read as zeros, or a part of it and then fails, and tells other frontends; `keep` its memory, or give
    /// it back.
    pub(crate) fn zero(&self, range: ByteRange, keep: bool) -> Result<()> {
        let zero = |range, mode| self.fs().fallocate(self.ino(), range, mode);
        let done = match keep {
            // Memory is filled under the file's lock, which others wait for.
            true => range
                .pieces(IMAGE_ZERO_PIECE_MAX)
                .try_for_each(|piece| zero(piece, Fallocate::Zero { keep_size: true })),
            false if range.is_empty() => Ok(()),
            false => zero(range, Fallocate::Punch),
        };
        self.tell_changed(range);
        done
    }

    /// Tells other frontends that bytes have changed, where there are any.
    pub(crate) fn tell_changed(&self, range: ByteRange) {
        let ino = self.ino();
        if !range.is_empty() {
            (self.images.tell)(&[Outdated::Bytes { ino, range }]);
        }
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
        &*self.images.fs
    }

    fn ino(&self) -> Ino {
        self.attr.ino
    }
}
