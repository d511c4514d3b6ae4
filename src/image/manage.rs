//! Making, removing and changing images as wholes: nobody sees one half made.

use tracing::warn;

use super::draft::{Maker, next_name};
use super::folder::{Folder, Held, no_image};
use super::name::Name;
use super::record::{BURNED, Record, set, value};
use super::uses::Uses;
use super::write::write_all;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::FILE_SIZE_MAX;
use crate::range::ByteRange;
use crate::vfs::{Attr, Caller, CopyRange, Ino, NewName, NewNode, Outdated, RenameMode, SetAttr, Vfs};

/// Names that are tried for what is in the making, before it is given up: others can be in use only where a snapshot was
/// made, and gone back to, in the very moment.
const TRIES: usize = 64;

/// The POSIX access list of a file (acl(5)).
const ACCESS_LIST: &[u8] = b"system.posix_acl_access";

/// An image to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewImage {
    /// Its name.
    pub name: Name,
    /// The address that the patches burn in, as text.
    pub ip: Option<String>,
    /// The subnet of the fleet that it belongs to, as text.
    pub fleet: Option<String>,
    /// Hash of the texts that the patches burn in, by which a member of a fleet is known again.
    pub burned: Option<String>,
    /// What it has instead of its base's bytes; later ones win.
    pub patches: Vec<Patch>,
}

/// Bytes at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Where the first of them goes.
    pub offset: u64,
    /// The bytes, all of them within the image.
    pub bytes: Vec<u8>,
}

/// Changes images of one drive, and remembers what others must be told of it, whether it fails or not.
pub struct Manager<'m> {
    folder: Option<Folder<'m>>,
    pub(super) uses: &'m Uses,
    _maker: Maker<'m>,
    pub(super) outdated: Vec<Outdated>,
}

impl<'m> Manager<'m> {
    pub(super) fn new(fs: &'m dyn Vfs, uses: &'m Uses) -> Result<Self> {
        Ok(Self {
            folder: Folder::open(fs)?,
            uses,
            _maker: uses.drafts.begin(),
            outdated: Vec::new(),
        })
    }

    /// The directory, for a look at an image; without one there is no image of that name.
    pub(super) fn folder(&self, name: &Name) -> Result<&Folder<'m>> {
        self.folder.as_ref().ok_or_else(|| no_image(name))
    }

    pub(super) fn into_outdated(self) -> Vec<Outdated> {
        self.outdated
    }

    /// Makes a clone of `base`: all its bytes, sharing their memory, with the patches put in. Takes no time in proportion
    /// to the bytes. The name is given when everything else is done; where something fails nothing is left of it.
    ///
    /// # Errors
    /// `NotFound` for the base, `Exists` for the name, `InvalidArgument` for a patch that is not within the image,
    /// `NoSpace`, `QuotaExceeded`.
    pub fn make(&mut self, base: &Name, new: &NewImage) -> Result<()> {
        let Some(folder) = &self.folder else {
            return Err(no_image(base));
        };
        let source = folder.get(base)?;
        self.sweep();
        self.make_from(&source, Some(base), new)
            .map(drop)
            .map_err(|error| without_room(error, || format!("cannot make `{}`", new.name)))
    }

    /// Removes some of what is left of images in the making; a clone does not need it.
    fn sweep(&mut self) {
        let Some(folder) = &self.folder else {
            return;
        };
        match self.uses.drafts.sweep(folder) {
            Ok(names) => {
                let entries = names.iter().map(|name| folder.outdated_entry(name));
                self.outdated.extend(entries);
            }
            Err(error) => warn!("cannot look for what is left of images in the making: {error}"),
        }
    }

    /// The same of a file that was looked up in the directory; `base` is its name, where it is an image. Returns what the
    /// name stands for.
    pub(super) fn make_from(
        &mut self,
        source: &Held<'_>,
        base: Option<&Name>,
        new: &NewImage,
    ) -> Result<Ino> {
        let Some(folder) = &self.folder else {
            return Err(ErrorKind::NotFound.into());
        };
        if folder.find(&new.name)?.is_some() {
            return Err(taken(&new.name));
        }
        self.outdated.push(Outdated::Inode(folder.ino));
        let (draft, temporary) = create_draft(folder, &source.attr)?;
        // Whoever lists the directory meanwhile has it from there.
        self.outdated.push(folder.outdated_entry(&temporary));
        let finished = fill(folder.fs, source, &draft, new).and_then(|()| {
            let record = Record {
                base: base.cloned(),
                ip: new.ip.clone(),
                fleet: new.fleet.clone(),
            };
            record.write(folder.fs, draft.attr.ino)?;
            set(
                folder.fs,
                draft.attr.ino,
                BURNED,
                new.burned.as_deref().map(str::as_bytes),
            )?;
            publish(folder, &temporary, &new.name)
        });
        match finished {
            Ok(()) => {
                self.outdated.push(folder.outdated_entry(new.name.as_bytes()));
                self.outdated.push(Outdated::Inode(draft.attr.ino));
                Ok(draft.attr.ino)
            }
            Err(error) => {
                discard(folder, &temporary);
                Err(error)
            }
        }
    }
}

/// Makes an empty file that is no image yet, with the owner and the permissions of the base; returns its name too.
pub(super) fn create_draft<'f>(folder: &Folder<'f>, base: &Attr) -> Result<(Held<'f>, Vec<u8>)> {
    let caller = Caller {
        uid: base.uid,
        gid: base.gid,
    };
    let mut tries = 0;
    loop {
        let name = next_name();
        let at = NewName {
            parent: folder.ino,
            name: &name,
            mode: 0o600,
            umask: 0,
        };
        match folder.fs.create(caller, at, NewNode::Regular) {
            Ok(attr) => {
                let mut draft = Held::new(folder.fs, attr);
                match copy_permissions(folder.fs, base, attr.ino) {
                    Ok(attr) => draft.attr = attr,
                    Err(error) => {
                        discard(folder, &name);
                        return Err(error);
                    }
                }
                return Ok((draft, name));
            }
            Err(error) if error.kind() == ErrorKind::Exists && tries < TRIES => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Gives a file owner, group, access list and permissions of the base, whatever the directory hands down.
fn copy_permissions(fs: &dyn Vfs, base: &Attr, ino: Ino) -> Result<Attr> {
    let owner = SetAttr {
        uid: Some(base.uid),
        gid: Some(base.gid),
        ..SetAttr::default()
    };
    fs.setattr(Caller::default(), ino, &owner)?;
    // With a list the bits of the group are its mask, so it goes first.
    let list = value(fs, base.ino, ACCESS_LIST)?;
    set(fs, ino, ACCESS_LIST, list.as_deref())?;
    let mode = SetAttr {
        mode: Some(base.mode & 0o777),
        ..SetAttr::default()
    };
    fs.setattr(Caller::default(), ino, &mode)
}

/// Removes a draft, after a failure that is to be told instead of this one's.
fn discard(folder: &Folder<'_>, name: &[u8]) {
    if let Err(error) = folder.fs.unlink(folder.ino, name) {
        warn!("cannot remove `{}` from the images: {error}", name.escape_ascii());
    }
}

/// Gives a draft the bytes that it shall have.
fn fill(fs: &dyn Vfs, source: &Held<'_>, draft: &Held<'_>, new: &NewImage) -> Result<()> {
    let copy = CopyRange {
        source: source.attr.ino,
        source_offset: 0,
        target: draft.attr.ino,
        target_offset: 0,
        len: FILE_SIZE_MAX,
    };
    let size = fs.copy_range(&copy, false)?;
    if size < fs.getattr(source.attr.ino)?.size.min(source.attr.size) {
        return Err(ErrorKind::NoSpace.into());
    }
    new.patches
        .iter()
        .try_for_each(|patch| apply(fs, draft, size, patch))
}

fn apply(fs: &dyn Vfs, draft: &Held<'_>, size: u64, patch: &Patch) -> Result<()> {
    let range = ByteRange::at(patch.offset, patch.bytes.len() as u64)?;
    if range.end > size {
        let context = format!(
            "{} bytes at {} are not within an image of {size}\nhint: burn at a lower offset",
            patch.bytes.len(),
            patch.offset
        );
        return Err(Error::new(ErrorKind::InvalidArgument, context));
    }
    write_all(fs, draft.attr.ino, patch.offset, &patch.bytes)
}

fn publish(folder: &Folder<'_>, temporary: &[u8], name: &Name) -> Result<()> {
    let mode = RenameMode {
        no_replace: true,
        ..RenameMode::default()
    };
    let (from, to) = ((folder.ino, temporary), (folder.ino, name.as_bytes()));
    folder
        .fs
        .rename(Caller::default(), from, to, mode)
        .map_err(|error| match error.kind() {
            ErrorKind::Exists => taken(name),
            _ => error,
        })
}

/// Says what could not be done for want of memory, and the cure; other errors stay.
pub(super) fn without_room(error: Error, what: impl FnOnce() -> String) -> Error {
    match error.kind() {
        kind @ (ErrorKind::NoSpace | ErrorKind::QuotaExceeded) => {
            let cure = "remove files or snapshots, or mount with a larger --size";
            Error::new(kind, format!("{}: {error}\nhint: {cure}", what()))
        }
        _ => error,
    }
}

fn taken(name: &Name) -> Error {
    Error::new(
        ErrorKind::Exists,
        format!("there is a file `{name}` among the images already\nhint: choose another name, or remove it"),
    )
}
