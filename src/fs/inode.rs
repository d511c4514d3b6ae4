//! An inode: what it is for life, its attributes under one lock, its body by kind.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::directory::Entries;
use crate::clock::Timestamp;
use crate::extent::Content;
use crate::limits::{INODE_COST, XATTR_COST};
use crate::vfs::{Attr, FileKind, Ino};
use crate::{ErrorKind, Result};

/// Set-user-ID, set-group-ID and the bits that decide about them.
pub(super) const S_ISUID: u16 = 0o4000;
/// See [`S_ISUID`].
pub(super) const S_ISGID: u16 = 0o2000;
/// See [`S_ISUID`].
pub(super) const S_IXGRP: u16 = 0o0010;
/// All bits of a mode.
pub(super) const MODE_MASK: u16 = 0o7777;

/// Bytes that `st_size` shows for each directory entry, `.` and `..` among them (as tmpfs does).
const DIRENT_SIZE: u64 = 20;

/// Extended attributes by name.
pub(super) type Xattrs = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// Bytes charged for extended attributes.
pub(super) fn xattrs_cost(xattrs: &Xattrs) -> u64 {
    xattrs.iter().map(|(name, value)| xattr_cost(name, value)).sum()
}

/// Bytes charged for one extended attribute.
pub(super) fn xattr_cost(name: &[u8], value: &[u8]) -> u64 {
    XATTR_COST + (name.len() + value.len()) as u64
}

/// One inode.
pub(super) struct Inode {
    /// Immutable.
    pub(super) ino: Ino,
    /// Immutable.
    pub(super) kind: FileKind,
    /// Atomic: names handed out and not yet forgotten (see [`crate::vfs`]).
    pub(super) lookups: AtomicU64,
    /// Attributes; its place in the lock order is in [`super`].
    pub(super) meta: Mutex<Meta>,
    /// Held shared by readers while they copy from pinned blocks; below `content` in the lock order. A writer without
    /// memory to copy such a block waits for them here, and writes in place.
    pub(super) readers: RwLock<()>,
    /// What differs by kind; never changes its kind.
    pub(super) body: Body,
}

/// The attributes that every inode has: protected by `Inode::meta`.
#[derive(Debug)]
pub(super) struct Meta {
    pub(super) mode: u16,
    pub(super) nlink: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) atime: Timestamp,
    pub(super) mtime: Timestamp,
    pub(super) ctime: Timestamp,
    pub(super) btime: Timestamp,
    /// `None` where there are none, so that the many inodes without pay one word.
    pub(super) xattrs: Option<Box<Xattrs>>,
    /// Bytes charged for extents that range copies made: at most `EXTENT_COST` for each extent there is.
    pub(super) shared_cost: u64,
}

impl Meta {
    /// Attributes of a node made at `now`.
    pub(super) fn new(mode: u16, (uid, gid): (u32, u32), nlink: u32, now: Timestamp) -> Self {
        Self {
            mode,
            nlink,
            uid,
            gid,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            xattrs: None,
            shared_cost: 0,
        }
    }

    /// Group that a set-group-ID directory hands down to what is made in it.
    pub(super) fn group_of_new(&self) -> Option<u32> {
        (self.mode & S_ISGID != 0).then_some(self.gid)
    }
}

/// What an inode holds.
pub(super) enum Body {
    /// Bytes of a regular file.
    File(RwLock<Content>),
    /// Entries of a directory.
    Directory(Directory),
    /// Target of a symbolic link.
    Symlink(Box<[u8]>),
    /// Device number; 0 for FIFOs and sockets.
    Special(u32),
}

/// A directory: where it hangs, what hangs below it.
pub(super) struct Directory {
    /// Atomic; changes only under the exclusive structure lock. The root is its own parent.
    pub(super) parent: AtomicU64,
    /// Entries; the place of this lock is in [`super`].
    pub(super) entries: RwLock<Entries>,
}

impl Directory {
    /// An empty directory below `parent`.
    pub(super) fn new(parent: Ino) -> Self {
        Self {
            parent: AtomicU64::new(parent.0),
            entries: RwLock::new(Entries::new()),
        }
    }

    /// Where it hangs.
    pub(super) fn parent(&self) -> Ino {
        Ino(self.parent.load(Ordering::Relaxed))
    }
}

impl Inode {
    /// The directory, or `NotDirectory`.
    pub(super) fn directory(&self) -> Result<&Directory> {
        match &self.body {
            Body::Directory(directory) => Ok(directory),
            Body::File(_) | Body::Symlink(_) | Body::Special(_) => Err(ErrorKind::NotDirectory.into()),
        }
    }

    /// The bytes of a regular file; `IsDirectory` or `InvalidArgument` for anything else.
    pub(super) fn content(&self) -> Result<&RwLock<Content>> {
        match &self.body {
            Body::File(content) => Ok(content),
            Body::Directory(_) => Err(ErrorKind::IsDirectory.into()),
            Body::Symlink(_) | Body::Special(_) => Err(ErrorKind::InvalidArgument.into()),
        }
    }

    /// Attributes. The size is read first and its lock released: content and entries rank on either side of `meta`.
    pub(super) fn attr(&self) -> Attr {
        let (size, held_bytes) = self.size();
        let rdev = if let Body::Special(rdev) = self.body {
            rdev
        } else {
            0
        };
        let meta = self.meta.lock();
        Attr {
            ino: self.ino,
            kind: self.kind,
            mode: meta.mode,
            nlink: meta.nlink,
            uid: meta.uid,
            gid: meta.gid,
            rdev,
            size,
            blocks: held_bytes.div_ceil(512),
            atime: meta.atime,
            mtime: meta.mtime,
            ctime: meta.ctime,
            btime: meta.btime,
        }
    }

    /// Bytes that `st_size` shows, and bytes of memory held for them.
    fn size(&self) -> (u64, u64) {
        match &self.body {
            Body::File(content) => {
                let content = content.read();
                (content.len(), content.held_bytes())
            }
            Body::Directory(directory) => ((directory.entries.read().len() as u64 + 2) * DIRENT_SIZE, 0),
            Body::Symlink(target) => (target.len() as u64, 0),
            Body::Special(_) => (0, 0),
        }
    }

    /// Bytes charged for the inode while it lives, extended attributes included, entries and blocks not.
    pub(super) fn cost(&self) -> u64 {
        let target = if let Body::Symlink(target) = &self.body {
            target.len()
        } else {
            0
        };
        let meta = self.meta.lock();
        let xattrs = meta.xattrs.as_deref().map_or(0, xattrs_cost);
        INODE_COST + target as u64 + xattrs + meta.shared_cost
    }

    /// Adds a look-up; the caller holds the lock that keeps the inode's name in place.
    pub(super) fn add_lookup(&self) {
        self.lookups.fetch_add(1, Ordering::Relaxed);
    }
}
