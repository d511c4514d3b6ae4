//! The directory of images of a drive, looked up.

use std::ops::ControlFlow;

use super::name::Name;
use crate::error::{Error, ErrorKind, Result};
use crate::vfs::{Attr, FileKind, Ino, Outdated, Vfs};

/// Where images are, below the root.
const DIRECTORY: &[u8] = b"images";

/// The directory of images: it lives until this is dropped.
pub(crate) struct Folder<'f> {
    pub(crate) fs: &'f dyn Vfs,
    pub(crate) ino: Ino,
}

/// Names of images, and where to go on behind them.
#[derive(Default)]
pub(crate) struct Names {
    pub(crate) names: Vec<Name>,
    /// `None` where there are no more.
    pub(crate) next: Option<u64>,
}

impl<'f> Folder<'f> {
    /// Looks the directory up; `None` where there is none.
    pub(crate) fn open(fs: &'f dyn Vfs) -> Result<Option<Self>> {
        let attr = match fs.lookup(Ino::ROOT, DIRECTORY) {
            Ok(attr) => attr,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let folder = Self { fs, ino: attr.ino };
        Ok((attr.kind == FileKind::Directory).then_some(folder))
    }

    /// At most `max` names behind `cookie`, in the order of the directory; 0 begins. What cannot name an image is left out.
    pub(crate) fn names(&self, cookie: u64, max: usize) -> Result<Names> {
        let mut found = Names::default();
        let mut last = cookie;
        self.fs.readdir(self.ino, cookie, false, &mut |entry| {
            if found.names.len() == max {
                found.next = Some(last);
                return ControlFlow::Break(());
            }
            last = entry.cookie;
            if entry.kind == FileKind::Regular {
                found.names.extend(Name::of_entry(entry.name));
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// Looks an image up; `None` where there is none.
    pub(crate) fn find(&self, name: &Name) -> Result<Option<Held<'f>>> {
        let attr = match self.fs.lookup(self.ino, name.as_bytes()) {
            Ok(attr) => attr,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let held = Held { fs: self.fs, attr };
        Ok((attr.kind == FileKind::Regular).then_some(held))
    }

    /// Looks an image up that has to be there.
    ///
    /// # Errors
    /// `NotFound`.
    pub(crate) fn get(&self, name: &Name) -> Result<Held<'f>> {
        self.find(name)?.ok_or_else(|| no_image(name))
    }

    /// What others may remember of a name.
    pub(super) fn outdated_entry(&self, name: &[u8]) -> Outdated {
        Outdated::Entry {
            parent: self.ino,
            name: name.into(),
        }
    }
}

impl Drop for Folder<'_> {
    fn drop(&mut self) {
        self.fs.forget(self.ino, 1);
    }
}

/// An image that was looked up: its file lives, with or without a name, until this is dropped.
pub(crate) struct Held<'f> {
    fs: &'f dyn Vfs,
    /// Attributes at the time of the look-up.
    pub(crate) attr: Attr,
}

impl<'f> Held<'f> {
    /// Holds what has just been looked up or made.
    pub(crate) fn new(fs: &'f dyn Vfs, attr: Attr) -> Self {
        Self { fs, attr }
    }

    /// The filesystem that it is in.
    pub(crate) fn fs(&self) -> &'f dyn Vfs {
        self.fs
    }

    /// The attributes, with the look-up: whoever takes them forgets it.
    pub(crate) fn keep(self) -> Attr {
        std::mem::ManuallyDrop::new(self).attr
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.fs.forget(self.attr.ino, 1);
    }
}

/// There is no image of that name.
pub(crate) fn no_image(name: &Name) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("there is no image `{name}`\nhint: `okapi image ls` lists them"),
    )
}
