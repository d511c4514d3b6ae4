//! Answers as the protocol's structures, written to the buffer from which a transport sends them.

use std::mem::size_of;

use zerocopy::{Immutable, IntoBytes};

use super::abi::{AttrOut, Dirent, EntryOut, GetattrOut, StatfsOut};
use super::operations::{FOREVER, Space};
use crate::vfs::{Attr, DirEntry, FileKind};

/// Bytes to which the entries of a listing are aligned.
const DIRENT_ALIGN: usize = 8;

/// The type's bits of `st_mode`.
fn kind_bits(kind: FileKind) -> u32 {
    match kind {
        FileKind::Regular => libc::S_IFREG,
        FileKind::Directory => libc::S_IFDIR,
        FileKind::Symlink => libc::S_IFLNK,
        FileKind::Fifo => libc::S_IFIFO,
        FileKind::Socket => libc::S_IFSOCK,
        FileKind::CharDevice => libc::S_IFCHR,
        FileKind::BlockDevice => libc::S_IFBLK,
    }
}

fn attr_out(attr: &Attr, io_size: u32) -> AttrOut {
    AttrOut {
        ino: attr.ino.0,
        size: attr.size,
        blocks: attr.blocks,
        atime: attr.atime.secs,
        mtime: attr.mtime.secs,
        ctime: attr.ctime.secs,
        atime_nanos: attr.atime.nanos,
        mtime_nanos: attr.mtime.nanos,
        ctime_nanos: attr.ctime.nanos,
        mode: kind_bits(attr.kind) | u32::from(attr.mode),
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        block_size: io_size,
        flags: 0,
    }
}

/// A name's inode.
pub(super) fn entry_out(attr: &Attr, io_size: u32) -> EntryOut {
    EntryOut {
        nodeid: attr.ino.0,
        attr: attr_out(attr, io_size),
        ..no_entry()
    }
}

/// Number 0, which says that the name does not exist.
pub(super) fn no_entry() -> EntryOut {
    EntryOut {
        entry_valid: FOREVER.as_secs(),
        attr_valid: FOREVER.as_secs(),
        ..EntryOut::default()
    }
}

pub(super) fn getattr_out(attr: &Attr, io_size: u32) -> GetattrOut {
    GetattrOut {
        attr_valid: FOREVER.as_secs(),
        attr: attr_out(attr, io_size),
        ..GetattrOut::default()
    }
}

pub(super) fn statfs_out(space: &Space) -> StatfsOut {
    StatfsOut {
        blocks: space.blocks,
        free: space.free,
        available: space.free,
        inodes: space.inodes,
        inodes_free: space.inodes_free,
        block_size: Space::BLOCK_SIZE,
        name_max: Space::NAME_MAX,
        fragment_size: Space::BLOCK_SIZE,
        ..StatfsOut::default()
    }
}

/// Writes a structure to the front of `out`; returns its length.
///
/// # Panics
/// Where `out` is shorter; a transport's buffer is longer than any structure.
pub(super) fn put(out: &mut [u8], value: &(impl IntoBytes + Immutable)) -> usize {
    put_bytes(out, value.as_bytes())
}

/// As [`put`], for bytes.
pub(super) fn put_bytes(out: &mut [u8], bytes: &[u8]) -> usize {
    out[..bytes.len()].copy_from_slice(bytes);
    bytes.len()
}

/// The entries of a directory, one behind the other, as many as fit.
pub(super) struct Listing<'a> {
    out: &'a mut [u8],
    len: usize,
    io_size: u32,
    /// Each entry brings its attributes.
    plus: bool,
}

impl<'a> Listing<'a> {
    pub(super) fn new(out: &'a mut [u8], io_size: u32, plus: bool) -> Self {
        Self {
            out,
            len: 0,
            io_size,
            plus,
        }
    }

    /// Bytes taken.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds an entry; returns whether there was room. `.` and `..` come without attributes: the kernel takes only
    /// their number and type.
    pub(super) fn add(&mut self, entry: &DirEntry<'_>) -> bool {
        let lead = if self.plus { size_of::<EntryOut>() } else { 0 };
        let size = (lead + size_of::<Dirent>() + entry.name.len()).next_multiple_of(DIRENT_ALIGN);
        let Some(out) = self.out.get_mut(self.len..self.len + size) else {
            return false;
        };
        let mut at = 0;
        if self.plus {
            at += match &entry.attr {
                Some(attr) => put(out, &entry_out(attr, self.io_size)),
                None => put(out, &no_entry()),
            };
        }
        let dirent = Dirent {
            ino: entry.ino.0,
            cookie: entry.cookie,
            name_len: entry.name.len() as u32,
            kind: kind_bits(entry.kind) >> 12,
        };
        at += put(&mut out[at..], &dirent);
        at += put_bytes(&mut out[at..], entry.name);
        out[at..].fill(0);
        self.len += size;
        true
    }
}
