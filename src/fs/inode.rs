//! An inode: what it is for life, its attributes under one lock, its body by kind.
//!
//! What a snapshot keeps can be read here by everybody, and changed only through [`change`], which keeps it first.

pub(super) mod change;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard};

use super::backlog::Mark;
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
    /// Held shared by readers while they copy from pinned blocks; below `content` in the lock order. A writer without
    /// memory to copy such a block waits for them here, and writes in place.
    pub(super) readers: RwLock<()>,
    /// Atomic, ascends under `meta`: number of a snapshot for which, and for all before it, the inode need not be kept
    /// any more: it was kept for that snapshot, or made after it.
    kept: AtomicU64,
    /// Atomic: whether the content has changed since it was sealed.
    pub(super) mark: Mark,
    /// Attributes; its place in the lock order is in [`super`].
    meta: Mutex<Meta>,
    /// What differs by kind; never changes its kind.
    body: Body,
}

/// What an inode begins with.
pub(super) struct NewInode {
    pub(super) ino: Ino,
    pub(super) kind: FileKind,
    pub(super) lookups: u64,
    pub(super) meta: Meta,
    pub(super) body: Body,
}

/// An inode's attributes, to be read.
pub(super) struct MetaView<'a>(MutexGuard<'a, Meta>);

impl Deref for MetaView<'_> {
    type Target = Meta;

    fn deref(&self) -> &Meta {
        &self.0
    }
}

/// The attributes that every inode has: protected by `Inode::meta`.
#[derive(Clone, Debug)]
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
        }
    }

    /// The attributes as `stat(2)` shows them.
    pub(super) fn attr(&self, ino: Ino, kind: FileKind, rdev: u32, size: Size) -> Attr {
        Attr {
            ino,
            kind,
            mode: self.mode,
            nlink: self.nlink,
            uid: self.uid,
            gid: self.gid,
            rdev,
            size: size.bytes,
            blocks: size.held_bytes.div_ceil(512),
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
            btime: self.btime,
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
    File(File),
    /// Entries of a directory.
    Directory(Directory),
    /// Target of a symbolic link.
    Symlink(Box<[u8]>),
    /// Device number; 0 for FIFOs and sockets.
    Special(u32),
}

impl Body {
    /// The body of a new inode below `parent`: the same, but a directory without entries.
    pub(super) fn copy(&self, parent: Ino) -> Self {
        match self {
            Self::File(file) => Self::File(File::new(file.content.read().clone())),
            Self::Directory(_) => Self::Directory(Directory::new(parent)),
            Self::Symlink(target) => Self::Symlink(target.clone()),
            Self::Special(rdev) => Self::Special(*rdev),
        }
    }
}

/// A regular file's bytes.
#[derive(Default)]
pub(super) struct File {
    content: RwLock<Content>,
}

impl File {
    /// A file of these bytes.
    pub(super) fn new(content: Content) -> Self {
        Self {
            content: RwLock::new(content),
        }
    }
}

/// A directory: where it hangs, what hangs below it.
pub(super) struct Directory {
    /// Atomic; changes only under the exclusive structure lock. The root is its own parent.
    parent: AtomicU64,
    /// Entries; the place of this lock is in [`super`].
    entries: RwLock<Entries>,
}

impl Directory {
    /// An empty directory below `parent`.
    pub(super) fn new(parent: Ino) -> Self {
        Self::with(parent, Entries::new())
    }

    /// A directory of these entries below `parent`.
    pub(super) fn with(parent: Ino, entries: Entries) -> Self {
        Self {
            parent: AtomicU64::new(parent.0),
            entries: RwLock::new(entries),
        }
    }

    /// Where it hangs.
    pub(super) fn parent(&self) -> Ino {
        Ino(self.parent.load(Ordering::Relaxed))
    }

    /// The entries, to be read.
    pub(super) fn entries(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read()
    }
}

impl Inode {
    /// An inode that no snapshot up to the one of number `kept` knows.
    pub(super) fn new(new: NewInode, kept: u64) -> Self {
        Self {
            ino: new.ino,
            kind: new.kind,
            lookups: AtomicU64::new(new.lookups),
            readers: RwLock::new(()),
            kept: AtomicU64::new(kept),
            mark: Mark::default(),
            meta: Mutex::new(new.meta),
            body: new.body,
        }
    }

    /// The attributes, to be read.
    pub(super) fn meta(&self) -> MetaView<'_> {
        MetaView(self.meta.lock())
    }

    /// What differs by kind.
    pub(super) fn body(&self) -> &Body {
        &self.body
    }

    /// The directory, or `NotDirectory`.
    pub(super) fn directory(&self) -> Result<&Directory> {
        match &self.body {
            Body::Directory(directory) => Ok(directory),
            Body::File(_) | Body::Symlink(_) | Body::Special(_) => Err(ErrorKind::NotDirectory.into()),
        }
    }

    /// The bytes of a regular file, to be read; `IsDirectory` or `InvalidArgument` for anything else.
    pub(super) fn content(&self) -> Result<RwLockReadGuard<'_, Content>> {
        Ok(self.file()?.content.read())
    }

    /// Refuses anything but a regular file: `IsDirectory` or `InvalidArgument`.
    pub(super) fn require_file(&self) -> Result<()> {
        self.file().map(drop)
    }

    fn file(&self) -> Result<&File> {
        match &self.body {
            Body::File(file) => Ok(file),
            Body::Directory(_) => Err(ErrorKind::IsDirectory.into()),
            Body::Symlink(_) | Body::Special(_) => Err(ErrorKind::InvalidArgument.into()),
        }
    }

    /// Attributes. The size is read first and its lock released: content and entries rank on either side of `meta`.
    pub(super) fn attr(&self) -> Attr {
        let size = self.size();
        let rdev = if let Body::Special(rdev) = self.body {
            rdev
        } else {
            0
        };
        self.meta().attr(self.ino, self.kind, rdev, size)
    }

    fn size(&self) -> Size {
        match &self.body {
            Body::File(file) => Size::of_content(&file.content.read()),
            Body::Directory(directory) => Size::of_directory(directory.entries().len()),
            Body::Symlink(target) => Size::of_target(target),
            Body::Special(_) => Size::default(),
        }
    }

    /// Bytes charged for the inode while it lives, extended attributes included, entries and blocks not.
    pub(super) fn cost(&self) -> u64 {
        let target = if let Body::Symlink(target) = &self.body {
            target.len()
        } else {
            0
        };
        inode_cost(&self.meta(), target)
    }

    /// Adds a look-up; the caller holds the lock that keeps the inode's name in place.
    pub(super) fn add_lookup(&self) {
        self.lookups.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of a snapshot for which, and for all before it, the inode need not be kept any more.
    pub(super) fn kept(&self) -> u64 {
        self.kept.load(Ordering::Acquire)
    }

    /// Notes that the inode was kept for a snapshot, which the caller has done holding the attributes.
    pub(super) fn set_kept(&self, _meta: &MetaView<'_>, snapshot: u64) {
        self.kept.store(snapshot, Ordering::Release);
    }

    /// Sets the access time if `outdated` says so. Snapshots do not keep access times: to read a file that nobody
    /// changes would cost memory.
    pub(super) fn touch_atime(&self, now: Timestamp, outdated: impl FnOnce(&Meta) -> bool) {
        let mut meta = self.meta.lock();
        if outdated(&meta) {
            meta.atime = now;
        }
    }
}

/// What `st_size` and `st_blocks` show.
#[derive(Clone, Copy, Default)]
pub(super) struct Size {
    bytes: u64,
    /// Memory held.
    held_bytes: u64,
}

impl Size {
    /// Of a regular file.
    pub(super) fn of_content(content: &Content) -> Self {
        Self {
            bytes: content.len(),
            held_bytes: content.held_bytes(),
        }
    }

    /// Of a directory.
    pub(super) fn of_directory(entries: usize) -> Self {
        Self {
            bytes: (entries as u64 + 2) * DIRENT_SIZE,
            held_bytes: 0,
        }
    }

    /// What `st_size` shows.
    pub(super) fn bytes(self) -> u64 {
        self.bytes
    }

    /// Of a symbolic link.
    pub(super) fn of_target(target: &[u8]) -> Self {
        Self {
            bytes: target.len() as u64,
            held_bytes: 0,
        }
    }
}

/// Bytes charged for a living inode with these attributes, and with a symbolic link's target of that length.
pub(super) fn inode_cost(meta: &Meta, target_len: usize) -> u64 {
    let xattrs = meta.xattrs.as_deref().map_or(0, xattrs_cost);
    INODE_COST + target_len as u64 + xattrs
}
