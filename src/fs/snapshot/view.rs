//! The snapshots as directories: `.okapi/snapshots/NAME` below the root, to be read like everything else.

use std::ops::ControlFlow;

use super::frozen::Frozen;
use super::list::Snapshots;
use super::place::{CONTROL_NAME, LIST_NAME, Place};
use crate::extent::Content;
use crate::fs::directory::{COOKIE_DOT, COOKIE_DOT_DOT};
use crate::fs::inode::{Meta, Size};
use crate::fs::names;
use crate::fs::volume::Volume;
use crate::limits::NAME_MAX;
use crate::vfs::{Attr, DirEntry, FileKind, Ino};
use crate::{ErrorKind, Result};

/// Permission bits of the directories in which the snapshots are shown.
const DIRECTORY_MODE: u16 = 0o555;
/// Entries that are looked for at a time.
const BATCH: usize = 256;

/// All that has a number which is not of the living volume.
pub(in crate::fs) struct View<'v> {
    volume: &'v Volume,
    snapshots: &'v Snapshots,
}

/// Where a listing goes on, and what it shows.
struct Listing<'a> {
    cookie: u64,
    /// With attributes.
    plus: bool,
    visit: &'a mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
}

impl<'v> View<'v> {
    /// The view of the snapshots that there are.
    pub(in crate::fs) fn new(volume: &'v Volume, snapshots: &'v Snapshots) -> Self {
        Self { volume, snapshots }
    }

    /// As [`crate::vfs::Vfs::lookup`]. Nothing here counts look-ups: what a snapshot shows lives as long as it.
    pub(in crate::fs) fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Attr> {
        if name.len() > NAME_MAX {
            return Err(ErrorKind::NameTooLong.into());
        }
        let above = match Place::of(parent) {
            None if name == CONTROL_NAME => return self.attr(Place::Control.ino()),
            None => return names::lookup(self.volume, parent, name),
            Some(_) if name == b"." => return self.attr(parent),
            Some(Place::Control) if name == b".." => return names::lookup(self.volume, Ino::ROOT, b"."),
            Some(Place::Control) if name == LIST_NAME => Place::List,
            Some(Place::Control) => return Err(ErrorKind::NotFound.into()),
            Some(Place::List) if name == b".." => Place::Control,
            Some(Place::List) => self.root(name)?,
            Some(Place::In { snapshot, ino }) => self.below(snapshot, ino, name)?,
        };
        self.attr(above.ino())
    }

    /// As [`crate::vfs::Vfs::getattr`].
    pub(in crate::fs) fn attr(&self, ino: Ino) -> Result<Attr> {
        let subdirectories = match Place::of(ino) {
            Some(Place::In { .. }) => {
                let (frozen, own) = self.frozen(ino)?;
                return Ok(Attr {
                    ino,
                    ..frozen.attr(own)?
                });
            }
            Some(Place::List) => self.snapshots.shown().count(),
            Some(Place::Control) | None => 1,
        };
        let changed = self.snapshots.changed();
        let root = self.volume.table.get(Ino::ROOT)?;
        let owner = {
            let meta = root.meta();
            (meta.uid, meta.gid)
        };
        let nlink = u32::try_from(subdirectories + 2).expect("snapshots have numbers of 20 bits");
        let meta = Meta::new(DIRECTORY_MODE, owner, nlink, changed);
        Ok(meta.attr(ino, FileKind::Directory, 0, Size::of_directory(subdirectories)))
    }

    /// As [`crate::vfs::Vfs::readlink`].
    pub(in crate::fs) fn target(&self, ino: Ino) -> Result<Box<[u8]>> {
        let (frozen, own) = self.frozen_or(ino, ErrorKind::InvalidArgument)?;
        frozen.target(own)
    }

    /// The bytes of a regular file; `IsDirectory` or `InvalidArgument` for anything else.
    pub(in crate::fs) fn content(&self, ino: Ino) -> Result<Content> {
        let (frozen, own) = self.frozen_or(ino, ErrorKind::IsDirectory)?;
        frozen.content(own)
    }

    /// What `read` finds in the attributes.
    pub(in crate::fs) fn meta<T>(&self, ino: Ino, read: impl Fn(FileKind, &Meta) -> T) -> Result<T> {
        match Place::of(ino) {
            Some(Place::In { .. }) => {
                let (frozen, own) = self.frozen(ino)?;
                frozen.meta(own, read)
            }
            Some(Place::Control | Place::List) | None => {
                let meta = Meta::new(DIRECTORY_MODE, (0, 0), 2, self.snapshots.changed());
                Ok(read(FileKind::Directory, &meta))
            }
        }
    }

    /// As [`crate::vfs::Vfs::readdir`].
    pub(in crate::fs) fn readdir(
        &self,
        dir: Ino,
        cookie: u64,
        plus: bool,
        visit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut listing = Listing { cookie, plus, visit };
        let above = match Place::of(dir) {
            Some(Place::In { snapshot, ino }) => self.above(snapshot, ino)?,
            Some(Place::List) => Place::Control.ino(),
            Some(Place::Control) | None => Ino::ROOT,
        };
        for (at, ino, name) in [(COOKIE_DOT, dir, &b"."[..]), (COOKIE_DOT_DOT, above, &b".."[..])] {
            if cookie < at
                && self
                    .show(&mut listing, (at, ino, FileKind::Directory), name)?
                    .is_break()
            {
                return Ok(());
            }
        }
        match Place::of(dir) {
            Some(Place::In { snapshot, ino }) => self.list_frozen(&mut listing, snapshot, ino),
            Some(Place::List) => self.list_snapshots(&mut listing),
            Some(Place::Control) | None if listing.cookie > COOKIE_DOT_DOT => Ok(()),
            Some(Place::Control) | None => {
                let entry = (COOKIE_DOT_DOT + 1, Place::List.ino(), FileKind::Directory);
                self.show(&mut listing, entry, LIST_NAME).map(drop)
            }
        }
    }

    fn list_snapshots(&self, listing: &mut Listing<'_>) -> Result<()> {
        let first = (listing.cookie + 1).saturating_sub(COOKIE_DOT_DOT);
        for snapshot in self
            .snapshots
            .shown()
            .skip_while(|snapshot| snapshot.number < first)
        {
            let root = root_of(snapshot.number);
            let entry = (COOKIE_DOT_DOT + snapshot.number, root.ino(), FileKind::Directory);
            if self.show(listing, entry, snapshot.name.as_bytes())?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn list_frozen(&self, listing: &mut Listing<'_>, snapshot: u64, dir: Ino) -> Result<()> {
        let (frozen, dir) = self.frozen(Place::In { snapshot, ino: dir }.ino())?;
        loop {
            let entries = frozen.entries(dir, listing.cookie, BATCH)?;
            for entry in &entries {
                let ino = entry.target.ino;
                let ino = Place::In { snapshot, ino }.ino();
                let shown = (entry.cookie, ino, entry.target.kind);
                if self.show(listing, shown, &entry.name)?.is_break() {
                    return Ok(());
                }
            }
            match entries.last() {
                Some(last) if entries.len() == BATCH => listing.cookie = last.cookie,
                Some(_) | None => return Ok(()),
            }
        }
    }

    /// Shows one entry.
    fn show(
        &self,
        listing: &mut Listing<'_>,
        (cookie, ino, kind): (u64, Ino, FileKind),
        name: &[u8],
    ) -> Result<ControlFlow<()>> {
        let attr = match listing.plus && cookie > COOKIE_DOT_DOT {
            true => Some(self.attr(ino)?),
            false => None,
        };
        Ok((listing.visit)(DirEntry {
            cookie,
            ino,
            kind,
            name,
            attr,
        }))
    }

    /// The snapshot's root that is shown under a name.
    fn root(&self, name: &[u8]) -> Result<Place> {
        let name = std::str::from_utf8(name).map_err(|_| ErrorKind::NotFound)?;
        let named = self.snapshots.shown().find(|snapshot| &*snapshot.name == name);
        match named {
            Some(snapshot) => Ok(root_of(snapshot.number)),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    /// What a name stands for in a directory of a snapshot.
    fn below(&self, snapshot: u64, dir: Ino, name: &[u8]) -> Result<Place> {
        let (frozen, own) = self.frozen(Place::In { snapshot, ino: dir }.ino())?;
        if name == b".." {
            let above = self.above(snapshot, dir)?;
            return Ok(Place::of(above).unwrap_or(Place::List));
        }
        let ino = frozen.find(own, name)?.ino;
        Ok(Place::In { snapshot, ino })
    }

    /// The number of the directory above one in a snapshot.
    fn above(&self, snapshot: u64, dir: Ino) -> Result<Ino> {
        let (frozen, own) = self.frozen(Place::In { snapshot, ino: dir }.ino())?;
        let ino = frozen.parent(own)?;
        Ok(match own {
            Ino::ROOT => Place::List.ino(),
            _ => Place::In { snapshot, ino }.ino(),
        })
    }

    /// The snapshot that a number is of, with the inode's own number.
    fn frozen(&self, ino: Ino) -> Result<(Frozen<'v>, Ino)> {
        self.frozen_or(ino, ErrorKind::Stale)
    }

    /// As [`View::frozen`]; `otherwise` is the error for what is in no snapshot.
    fn frozen_or(&self, ino: Ino, otherwise: ErrorKind) -> Result<(Frozen<'v>, Ino)> {
        let Some(Place::In { snapshot, ino }) = Place::of(ino) else {
            return Err(otherwise.into());
        };
        let snapshot = self.snapshots.get(snapshot).ok_or(ErrorKind::Stale)?;
        Ok((Frozen::new(self.volume, snapshot), ino))
    }
}

fn root_of(snapshot: u64) -> Place {
    Place::In {
        snapshot,
        ino: Ino::ROOT,
    }
}
