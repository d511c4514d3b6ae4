//! What is kept of one inode: its state at the moment of a snapshot.

use parking_lot::Mutex;

use super::lost::Lost;
use crate::clock::Timestamp;
use crate::extent::Content;
use crate::fs::directory::Entries;
use crate::fs::inode::{Body, Directory, File, Inode, Meta, Size, xattrs_cost};
use crate::limits::RECORD_COST;
use crate::vfs::{Attr, FileKind, Ino};

/// The state of an inode before a change.
pub(in crate::fs) struct Record {
    /// Immutable.
    pub(in crate::fs) kind: FileKind,
    /// Immutable; the access time may be later than the snapshot.
    pub(in crate::fs) meta: Meta,
    /// What differs by kind.
    pub(in crate::fs) body: Kept,
}

/// What a record has of an inode's body.
pub(in crate::fs) enum Kept {
    /// Bytes of a regular file.
    File(Content),
    /// Entries of a directory: those of the living one, and those that it has lost since.
    Directory(KeptDirectory),
    /// Target of a symbolic link.
    Symlink(Box<[u8]>),
    /// Device number; 0 for FIFOs and sockets.
    Special(u32),
    /// Nothing led to the inode then: a rollback has brought it back since.
    Absent,
}

impl Kept {
    /// The body of a new inode below `parent`: the same, but a directory without entries; `None` where there was none.
    pub(in crate::fs) fn copy(&self, parent: Ino) -> Option<Body> {
        Some(match self {
            Self::File(content) => Body::File(File::new(content.clone())),
            Self::Directory(_) => Body::Directory(Directory::new(parent)),
            Self::Symlink(target) => Body::Symlink(target.clone()),
            Self::Special(rdev) => Body::Special(*rdev),
            Self::Absent => return None,
        })
    }
}

/// A directory at the moment of a snapshot.
pub(in crate::fs) struct KeptDirectory {
    /// Immutable: where it hung.
    pub(in crate::fs) parent: Ino,
    /// Immutable: entries with this cookie or a greater one were added later.
    pub(in crate::fs) next_cookie: u64,
    /// Immutable: number of entries.
    pub(in crate::fs) len: usize,
    /// Entries of before `next_cookie` that were removed or replaced after this snapshot and before the next record.
    /// Grows under the lock of the living directory's entries, and ranks below it.
    pub(in crate::fs) lost: Mutex<Lost>,
}

impl Record {
    /// The state of an inode whose attributes and entries the caller has locked.
    pub(in crate::fs) fn of(inode: &Inode, meta: &Meta, entries: Option<&Entries>) -> Self {
        let body = match (inode.body(), entries) {
            (Body::Directory(directory), Some(entries)) => Kept::Directory(KeptDirectory {
                parent: directory.parent(),
                next_cookie: entries.next_cookie(),
                len: entries.len(),
                lost: Mutex::default(),
            }),
            (Body::Directory(_), None) => unreachable!("the entries of a directory were locked"),
            (Body::File(_), _) => Kept::File(inode.content().expect("a file has a content").clone()),
            (Body::Symlink(target), _) => Kept::Symlink(target.clone()),
            (Body::Special(rdev), _) => Kept::Special(*rdev),
        };
        Self {
            kind: inode.kind,
            meta: meta.clone(),
            body,
        }
    }

    /// The record of an inode that was not there.
    pub(in crate::fs) fn absent(kind: FileKind, then: Timestamp) -> Self {
        Self {
            kind,
            meta: Meta::new(0, (0, 0), 0, then),
            body: Kept::Absent,
        }
    }

    /// Whether the inode was not there.
    pub(in crate::fs) fn is_absent(&self) -> bool {
        matches!(self.body, Kept::Absent)
    }

    /// The directory, where it is one.
    pub(in crate::fs) fn directory(&self) -> Option<&KeptDirectory> {
        match &self.body {
            Kept::Directory(directory) => Some(directory),
            Kept::File(_) | Kept::Symlink(_) | Kept::Special(_) | Kept::Absent => None,
        }
    }

    /// The attributes that the inode had.
    pub(in crate::fs) fn attr(&self, ino: Ino) -> Attr {
        let (size, rdev) = match &self.body {
            Kept::File(content) => (Size::of_content(content), 0),
            Kept::Directory(directory) => (Size::of_directory(directory.len), 0),
            Kept::Symlink(target) => (Size::of_target(target), 0),
            Kept::Special(rdev) => (Size::default(), *rdev),
            Kept::Absent => (Size::default(), 0),
        };
        self.meta.attr(ino, self.kind, rdev, size)
    }

    /// Bytes charged for the record, with the entries that it holds by now. The nodes of a file's extent map, of which the
    /// living file copies those that it changes, are charged on their own.
    pub(in crate::fs) fn cost(&self) -> u64 {
        let body = match &self.body {
            Kept::Directory(directory) => directory.lost.lock().charged(),
            Kept::Symlink(target) => target.len() as u64,
            Kept::File(_) | Kept::Special(_) | Kept::Absent => 0,
        };
        RECORD_COST + body + self.meta.xattrs.as_deref().map_or(0, xattrs_cost)
    }
}
