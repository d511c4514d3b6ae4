//! Images removed, resized, and given another base or none.

use std::collections::BTreeSet;

use super::folder::{Folder, Held};
use super::manage::{Manager, without_room};
use super::name::Name;
use super::record::{Record, forget_base, set_base};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{FILE_SIZE_MAX, SECTOR_SIZE};
use crate::range::ByteRange;
use crate::vfs::{Caller, Ino, Outdated, SetAttr};

/// A size that an image shall have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewSize {
    /// So many bytes.
    To(u64),
    /// So many bytes more.
    Grow(u64),
    /// So many bytes fewer.
    Shrink(u64),
}

/// What a resize has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resized {
    /// Bytes before.
    pub from: u64,
    /// Bytes since.
    pub to: u64,
}

/// What one step of a rebase has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebased {
    /// Where to go on; `None` where it is done.
    pub next: Option<u64>,
    /// Bytes that share the base's memory since.
    pub shared_bytes: u64,
    /// Bytes of the image.
    pub size: u64,
}

impl Manager<'_> {
    /// Removes images: none where one does not exist or is in use when all are looked at. Clones of theirs stay as they are.
    /// One that a client of a server uses is refused unless `force` says so; it lives on, without a name, until the client
    /// leaves.
    ///
    /// Then they go one by one, in the order of their names. The first that a client has begun to use since then, or whose
    /// name stands for another file by now, ends it: that one and those behind it stay.
    ///
    /// # Errors
    /// `NotFound`, `Busy`.
    pub fn remove(&mut self, names: &[Name], force: bool) -> Result<()> {
        // One that is named twice is removed once.
        let names: BTreeSet<&Name> = names.iter().collect();
        let mut images = Vec::new();
        for name in names {
            let image = self.folder(name)?.get(name)?;
            self.require_removable(name, &image, force)?;
            images.push((name, image.attr.ino));
        }
        for (name, ino) in images {
            self.remove_one(name, ino, force)?;
        }
        Ok(())
    }

    /// Removes an image that was looked at before.
    fn remove_one(&mut self, name: &Name, ino: Ino, force: bool) -> Result<()> {
        let folder = self.folder(name)?;
        let (dir, entry) = (folder.ino, folder.outdated_entry(name.as_bytes()));
        // Where there is none any more somebody else was faster.
        if let Some(image) = folder.find(name)? {
            if image.attr.ino != ino {
                let context = format!(
                    "image `{name}` has become another file meanwhile\nhint: `okapi image ls` shows which images are left"
                );
                return Err(Error::new(ErrorKind::Busy, context));
            }
            self.require_removable(name, &image, force)?;
            match folder.fs.unlink(dir, name.as_bytes()) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
        self.outdated
            .extend([Outdated::Attributes(ino), Outdated::Inode(dir), entry]);
        Ok(())
    }

    fn require_removable(&self, name: &Name, image: &Held<'_>, force: bool) -> Result<()> {
        let cure = "or add --force: the image lives on until they leave, and then its bytes are gone";
        match force {
            true => Ok(()),
            false => self.require_unused(name, image, cure),
        }
    }

    /// Makes a clone an image of its own: it forgets its base, and its fleet. No byte changes.
    ///
    /// # Errors
    /// `NotFound`, `InvalidArgument` for what is no clone.
    pub fn commit(&mut self, name: &Name) -> Result<()> {
        let folder = self.folder(name)?;
        let image = folder.get(name)?;
        let record = Record::read(folder.fs, image.attr.ino)?;
        if record.base.is_none() {
            let context = format!("image `{name}` has no base\nhint: others can be cloned from it as it is");
            return Err(Error::new(ErrorKind::InvalidArgument, context));
        }
        forget_base(folder.fs, image.attr.ino)?;
        self.outdated.push(Outdated::Attributes(image.attr.ino));
        Ok(())
    }

    /// Gives an image another base, or one at all, in steps, the first at offset 0: pages that are equal to the base's
    /// share its memory from then on. No byte changes. With the last step the image knows its new base.
    ///
    /// # Errors
    /// `NotFound`, `InvalidArgument` for a base that is the image itself or a clone of it, `NoSpace`.
    pub fn rebase(&mut self, name: &Name, base: &Name, offset: u64) -> Result<Rebased> {
        let folder = self.folder(name)?;
        let (image, source) = (folder.get(name)?, folder.get(base)?);
        refuse_loop(folder, name, base)?;
        let size = image.attr.size;
        let rest = ByteRange {
            start: offset.min(size),
            end: size,
        };
        let (fs, ino) = (folder.fs, image.attr.ino);
        let no_room = |error| without_room(error, || format!("cannot rebase `{name}`, which stays as it is"));
        let shared = fs.share_pages(source.attr.ino, ino, rest).map_err(no_room)?;
        let next = (shared.end < size).then_some(shared.end);
        if next.is_none() {
            set_base(fs, ino, base).map_err(no_room)?;
            self.outdated.push(Outdated::Attributes(ino));
        }
        Ok(Rebased {
            next,
            shared_bytes: shared.bytes,
            size,
        })
    }

    /// Makes an image longer by zeros, which take no memory, or, if `shrink` says so, shorter.
    ///
    /// # Errors
    /// `NotFound`, `InvalidArgument` for a size that is no multiple of 512 or that would cut bytes off unasked,
    /// `FileTooBig`, `Busy` for one that is to be cut and that a client of a server uses.
    pub fn resize(&mut self, name: &Name, size: NewSize, shrink: bool) -> Result<Resized> {
        let folder = self.folder(name)?;
        let image = folder.get(name)?;
        let (fs, ino) = (folder.fs, image.attr.ino);
        // Two who make it longer by so much do so one after the other.
        let _resizing = self.uses.resizing.lock();
        let from = fs.getattr(ino)?.size;
        let to = size.resolve(name, from)?;
        if to < from {
            if !shrink {
                let context = format!(
                    "image `{name}` has {from} bytes, of which {} would be lost\nhint: add --shrink",
                    from - to
                );
                return Err(Error::new(ErrorKind::InvalidArgument, context));
            }
            self.require_unused(name, &image, "or make it longer only")?;
        }
        let changes = SetAttr {
            size: Some(to),
            ..SetAttr::default()
        };
        fs.setattr(Caller::default(), ino, &changes)?;
        self.outdated.push(Outdated::Inode(ino));
        Ok(Resized { from, to })
    }

    /// Refuses a name whose image is not to be replaced, because a client of a server uses it.
    ///
    /// # Errors
    /// `Busy`.
    pub fn check_replaceable(&self, name: &Name) -> Result<()> {
        let Ok(folder) = self.folder(name) else {
            return Ok(());
        };
        match folder.find(name)? {
            Some(image) => {
                let cure = format!("or `okapi image rm --force {name}`: the image lives on until they leave");
                self.require_unused(name, &image, &cure)
            }
            None => Ok(()),
        }
    }

    /// Refuses an image that clients of servers use.
    pub(super) fn require_unused(&self, name: &Name, image: &Held<'_>, cure: &str) -> Result<()> {
        match self.uses.of(image.attr.ino) {
            0 => Ok(()),
            clients => {
                let context = format!(
                    "image `{name}` is in use by {clients} client{} of an export\nhint: disconnect them first, {cure}",
                    if clients == 1 { "" } else { "s" }
                );
                Err(Error::new(ErrorKind::Busy, context))
            }
        }
    }
}

impl NewSize {
    /// Bytes of an image that has `from` now.
    fn resolve(self, name: &Name, from: u64) -> Result<u64> {
        let (to, sign, by) = match self {
            Self::To(to) => (Some(to), "", to),
            Self::Grow(by) => (from.checked_add(by), "+", by),
            Self::Shrink(by) => (from.checked_sub(by), "-", by),
        };
        let Some(to) = to.filter(|to| *to <= FILE_SIZE_MAX) else {
            let context = format!(
                "image `{name}` has {from} bytes: {sign}{by} is not possible\nhint: sizes are 0 to {}",
                FILE_SIZE_MAX - FILE_SIZE_MAX % SECTOR_SIZE
            );
            return Err(Error::new(ErrorKind::FileTooBig, context));
        };
        if !to.is_multiple_of(SECTOR_SIZE) {
            let below = to - to % SECTOR_SIZE;
            let context = format!(
                "image `{name}` would have {to} bytes, which is no multiple of {SECTOR_SIZE}\n\
                 hint: {below} and {} are",
                below + SECTOR_SIZE
            );
            return Err(Error::new(ErrorKind::InvalidArgument, context));
        }
        Ok(to)
    }
}

/// Refuses a base that is a clone of the image, over any number of others. Records can make circles by themselves, so each
/// image is passed once.
fn refuse_loop(folder: &Folder<'_>, name: &Name, base: &Name) -> Result<()> {
    let mut passed = BTreeSet::new();
    let mut at = Some(base.clone());
    while let Some(ancestor) = at {
        if ancestor == *name {
            let context = match base == name {
                true => format!("image `{name}` cannot be its own base\nhint: name another one"),
                false => format!(
                    "image `{base}` is a clone of `{name}`\nhint: `okapi image commit {base}` makes it a base first"
                ),
            };
            return Err(Error::new(ErrorKind::InvalidArgument, context));
        }
        at = match folder.find(&ancestor)? {
            Some(image) if passed.insert(ancestor) => Record::read(folder.fs, image.attr.ino)?.base,
            _ => None,
        };
    }
    Ok(())
}
