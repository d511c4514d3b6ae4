//! What the kernel asks, answered from a [`Vfs`]: one set of operations behind every transport.
//!
//! Rules that hold for the FUSE protocol, whatever carries it, are here: which operations okapi leaves to the kernel,
//! how much it may cache, which writes are answered short. A transport decodes, calls, and encodes.

use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing::span::EnteredSpan;
use tracing::trace_span;

use super::counters::{Counters, Operation};
use super::decode::{fallocate_mode, new_node, rename_mode, seek_to, xattr_mode};
use super::errno::{Answer, Refusal};
use super::page_cache::PageCache;
use crate::error::{ErrorKind, Result};
use crate::limits::{NAME_MAX, PAGE_CACHE_MIN, PAGE_SIZE};
use crate::range::ByteRange;
use crate::vfs::{Attr, Caller, CopyRange, DirEntry, Ino, NewName, NewNode, SetAttr, Vfs, WriteAt};

/// How long the kernel may believe names and attributes: nobody else changes the tree.
pub(super) const FOREVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Largest `st_blksize`: stdio and tar take it as the size of their buffers.
const IO_SIZE_MAX: u32 = 128 << 10;

/// What kernel and filesystem have agreed upon when the filesystem was mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Agreement {
    /// The kernel opens files without asking.
    pub(super) no_open: bool,
    /// The kernel opens directories without asking.
    pub(super) no_opendir: bool,
}

/// How the kernel sends a write.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WriteMode {
    /// Pages of a mapping that the kernel writes back (FUSE_WRITE_CACHE).
    pub(super) from_cache: bool,
    /// The write leaves nothing in the page cache.
    pub(super) direct: bool,
    /// The writer has not the privilege to keep set-user-ID bits (FUSE_WRITE_KILL_SUIDGID).
    pub(super) clear_privileges: bool,
}

/// A value, or its length where a program asks for that with a size of 0 (getxattr(2)).
pub(super) enum Sized<T> {
    Value(T),
    Length(u32),
}

/// The answer to STATFS.
pub(super) struct Space {
    /// Size in blocks of [`Space::BLOCK_SIZE`].
    pub(super) blocks: u64,
    /// Those that are free.
    pub(super) free: u64,
    pub(super) inodes: u64,
    pub(super) inodes_free: u64,
}

impl Space {
    /// Both sizes of the answer: some programs multiply the counts by the one, some by the other.
    pub(super) const BLOCK_SIZE: u32 = PAGE_SIZE as u32;
    /// Bytes in a name.
    pub(super) const NAME_MAX: u32 = NAME_MAX as u32;
}

/// Whether a read or write leaves nothing in the page cache; `flags` are those of open(2).
pub(super) fn is_direct(flags: i32) -> bool {
    flags & libc::O_DIRECT != 0
}

/// Answers the kernel from a [`Vfs`].
pub(super) struct Operations {
    fs: Arc<dyn Vfs>,
    counters: Arc<Counters>,
    pub(super) page_cache: Arc<PageCache>,
    /// Preferred size of reads and writes, for `st_blksize`.
    pub(super) io_size: u32,
    /// Set by the first request of the kernel, which comes before all others.
    agreement: OnceLock<Agreement>,
}

impl Operations {
    pub(super) fn new(fs: Arc<dyn Vfs>, counters: Arc<Counters>) -> Self {
        let totals = fs.statfs();
        let page_cache = PageCache::new(page_cache_bound(totals.size_bytes));
        let io_size = totals.block_size.min(IO_SIZE_MAX);
        Self {
            fs,
            counters,
            page_cache: Arc::new(page_cache),
            io_size,
            agreement: OnceLock::new(),
        }
    }

    /// Takes note of what was agreed upon; the first time counts.
    pub(super) fn agree(&self, agreement: Agreement) {
        let _ = self.agreement.set(agreement);
    }

    fn agreement(&self) -> Agreement {
        self.agreement.get().copied().unwrap_or_default()
    }

    fn enter(&self, operation: Operation, ino: Ino) -> EnteredSpan {
        self.counters.count(operation);
        trace_span!("request", operation = operation.name(), ino = ino.0).entered()
    }

    // Names -----------------------------------------------------------------------------------------------------

    /// `None` for a missing name, which the kernel remembers; it forgets when it makes the name.
    pub(super) fn lookup(&self, parent: Ino, name: &[u8]) -> Answer<Option<Attr>> {
        let _span = self.enter(Operation::Lookup, parent);
        match self.fs.lookup(parent, name) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            result => Ok(result.map(Some)?),
        }
    }

    pub(super) fn forget(&self, ino: Ino, count: u64) {
        let _span = self.enter(Operation::Forget, ino);
        if self.fs.forget(ino, count) {
            self.page_cache.leave(ino);
        }
    }

    /// `kind` has the type's bits of a mode.
    pub(super) fn mknod(&self, caller: Caller, at: NewName<'_>, kind: u32, device: u32) -> Answer<Attr> {
        let _span = self.enter(Operation::MkNod, at.parent);
        let node = new_node(kind, device).ok_or(Refusal::INVALID)?;
        Ok(self.fs.create(caller, at, node)?)
    }

    pub(super) fn mkdir(&self, caller: Caller, at: NewName<'_>) -> Answer<Attr> {
        let _span = self.enter(Operation::MkDir, at.parent);
        Ok(self.fs.create(caller, at, NewNode::Directory)?)
    }

    pub(super) fn symlink(&self, caller: Caller, parent: Ino, name: &[u8], target: &[u8]) -> Answer<Attr> {
        let _span = self.enter(Operation::SymLink, parent);
        let at = NewName {
            parent,
            name,
            mode: 0o777,
            umask: 0,
        };
        Ok(self.fs.create(caller, at, NewNode::Symlink(target))?)
    }

    pub(super) fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Answer<Attr> {
        let _span = self.enter(Operation::Link, ino);
        Ok(self.fs.link(ino, parent, name)?)
    }

    pub(super) fn unlink(&self, parent: Ino, name: &[u8]) -> Answer<()> {
        let _span = self.enter(Operation::Unlink, parent);
        Ok(self.fs.unlink(parent, name)?)
    }

    pub(super) fn rmdir(&self, parent: Ino, name: &[u8]) -> Answer<()> {
        let _span = self.enter(Operation::RmDir, parent);
        Ok(self.fs.rmdir(parent, name)?)
    }

    /// `flags` are those of renameat2(2).
    pub(super) fn rename(
        &self,
        caller: Caller,
        from: (Ino, &[u8]),
        to: (Ino, &[u8]),
        flags: u32,
    ) -> Answer<()> {
        let _span = self.enter(Operation::Rename, from.0);
        let mode = rename_mode(flags).ok_or(Refusal::INVALID)?;
        Ok(self.fs.rename(caller, from, to, mode)?)
    }

    pub(super) fn readlink(&self, ino: Ino) -> Answer<Box<[u8]>> {
        let _span = self.enter(Operation::ReadLink, ino);
        let target = self.fs.readlink(ino)?;
        self.page_cache.enter(ino, 0, target.len());
        Ok(target)
    }

    // Attributes ------------------------------------------------------------------------------------------------

    pub(super) fn getattr(&self, ino: Ino) -> Answer<Attr> {
        let _span = self.enter(Operation::GetAttr, ino);
        Ok(self.fs.getattr(ino)?)
    }

    pub(super) fn setattr(&self, caller: Caller, ino: Ino, changes: &SetAttr) -> Answer<Attr> {
        let _span = self.enter(Operation::SetAttr, ino);
        Ok(self.fs.setattr(caller, ino, changes)?)
    }

    pub(super) fn statfs(&self, ino: Ino) -> Space {
        let _span = self.enter(Operation::StatFs, ino);
        let totals = self.fs.statfs();
        Space {
            blocks: totals.size_bytes / PAGE_SIZE,
            free: totals.free_bytes / PAGE_SIZE,
            inodes: totals.inodes_max,
            inodes_free: totals.inodes_free,
        }
    }

    /// `flags` are those of setxattr(2).
    pub(super) fn setxattr(
        &self,
        caller: Caller,
        ino: Ino,
        (name, value): (&[u8], &[u8]),
        flags: i32,
    ) -> Answer<()> {
        let _span = self.enter(Operation::SetXattr, ino);
        let mode = xattr_mode(flags).ok_or(Refusal::INVALID)?;
        Ok(self.fs.setxattr(caller, ino, name, value, mode)?)
    }

    pub(super) fn getxattr(&self, ino: Ino, name: &[u8], size: u32) -> Answer<Sized<Box<[u8]>>> {
        let _span = self.enter(Operation::GetXattr, ino);
        sized(size, self.fs.getxattr(ino, name))
    }

    pub(super) fn listxattr(&self, caller: Caller, ino: Ino, size: u32) -> Answer<Sized<Vec<u8>>> {
        let _span = self.enter(Operation::ListXattr, ino);
        sized(size, self.fs.listxattr(caller, ino))
    }

    pub(super) fn removexattr(&self, ino: Ino, name: &[u8]) -> Answer<()> {
        let _span = self.enter(Operation::RemoveXattr, ino);
        Ok(self.fs.removexattr(ino, name)?)
    }

    // Bytes -----------------------------------------------------------------------------------------------------

    /// Fills `out` from `offset` on; returns how many bytes there were. `direct` as [`is_direct`] tells.
    pub(super) fn read(&self, ino: Ino, offset: u64, out: &mut [u8], direct: bool) -> Answer<usize> {
        let _span = self.enter(Operation::Read, ino);
        let len = self.fs.read(ino, offset, out)?;
        if !direct {
            self.page_cache.enter(ino, offset, len);
        }
        Ok(len)
    }

    /// Appends too come with the right offset: the kernel knows the size of the file, as nobody else changes it. And
    /// `O_APPEND` must not be followed here, for pages of a mapping are written back under any handle of the file.
    pub(super) fn write(&self, ino: Ino, offset: u64, bytes: &[u8], mode: WriteMode) -> Answer<u32> {
        let _span = self.enter(Operation::Write, ino);
        let written = self
            .fs
            .write(ino, WriteAt::Offset(offset), bytes, mode.clear_privileges)?;
        match mode {
            // The pages are there, and were counted when they came.
            WriteMode { from_cache: true, .. } => {}
            WriteMode { direct: true, .. } => self.page_cache.pass(ino),
            _ => self.page_cache.enter(ino, offset, written.len),
        }
        // The kernel takes pages that it writes back for clean whatever the number in the answer is: an error alone
        // tells the program that some of a mapping's bytes are lost.
        if mode.from_cache && written.len < bytes.len() {
            return Err(Refusal(libc::ENOSPC));
        }
        // A request carries at most `FUSE_WRITE_MAX` bytes.
        Ok(written.len as u32)
    }

    /// `mode` is that of fallocate(2).
    pub(super) fn fallocate(
        &self,
        caller: Caller,
        ino: Ino,
        (offset, len): (u64, u64),
        mode: i32,
    ) -> Answer<()> {
        let _span = self.enter(Operation::Fallocate, ino);
        let mode = fallocate_mode(mode).ok_or(Refusal(libc::EOPNOTSUPP))?;
        self.fs.fallocate(ino, ByteRange::at(offset, len)?, mode)?;
        if lacks_privilege(caller) {
            self.clear_privileges(caller, ino)?;
        }
        Ok(())
    }

    /// `whence` is that of lseek(2).
    pub(super) fn lseek(&self, ino: Ino, offset: i64, whence: i32) -> Answer<u64> {
        let _span = self.enter(Operation::Lseek, ino);
        let offset = u64::try_from(offset).map_err(|_negative| Refusal::INVALID)?;
        let to = seek_to(whence).ok_or(Refusal::INVALID)?;
        Ok(self.fs.seek(ino, offset, to)?)
    }

    /// Copies up to `len_max` bytes; returns how many.
    pub(super) fn copy_file_range(&self, caller: Caller, range: CopyRange, len_max: u64) -> Answer<u64> {
        let _span = self.enter(Operation::CopyFileRange, range.source);
        let range = CopyRange {
            len: range.len.min(len_max),
            ..range
        };
        Ok(self.fs.copy_range(&range, lacks_privilege(caller))?)
    }

    // Directories -----------------------------------------------------------------------------------------------

    /// As [`Vfs::readdir`].
    pub(super) fn readdir(
        &self,
        dir: Ino,
        cookie: u64,
        plus: bool,
        visit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Answer<()> {
        let operation = match plus {
            true => Operation::ReadDirPlus,
            false => Operation::ReadDir,
        };
        let _span = self.enter(operation, dir);
        Ok(self.fs.readdir(dir, cookie, plus, visit)?)
    }

    // Handles ---------------------------------------------------------------------------------------------------
    // No operation needs a handle: all that a handle would know is in the inode.

    /// Refused as unknown where the kernel then opens files without asking.
    pub(super) fn open(&self, ino: Ino) -> Answer<()> {
        let _span = self.enter(Operation::Open, ino);
        match self.agreement().no_open {
            true => Err(Refusal::UNKNOWN),
            false => Ok(()),
        }
    }

    /// As [`Operations::open`], for directories.
    pub(super) fn opendir(&self, ino: Ino) -> Answer<()> {
        let _span = self.enter(Operation::OpenDir, ino);
        match self.agreement().no_opendir {
            true => Err(Refusal::UNKNOWN),
            false => Ok(()),
        }
    }

    /// The end of a handle, or another request about one that needs nothing done.
    pub(super) fn release(&self, operation: Operation, ino: Ino) {
        let _span = self.enter(operation, ino);
    }

    /// A request that okapi does not have, on purpose: the kernel does without.
    pub(super) fn unknown(&self, operation: Operation, ino: Ino) -> Refusal {
        let _span = self.enter(operation, ino);
        Refusal::UNKNOWN
    }

    /// Clears set-user-ID and set-group-ID after a change that [`Vfs`] makes without knowing its caller.
    fn clear_privileges(&self, caller: Caller, ino: Ino) -> Result<()> {
        let changes = SetAttr {
            clear_privileges: true,
            ..SetAttr::default()
        };
        self.fs.setattr(caller, ino, &changes).map(drop)
    }
}

/// Root may keep the set-user-ID bits of what it changes. (The privilege is CAP_FSETID, which the protocol does not
/// tell for these operations.)
fn lacks_privilege(caller: Caller) -> bool {
    caller.uid != 0
}

/// Largest range of one copy where the answer has 32 bits: whole pages, so that they can be shared.
pub(super) const COPY_MAX_32: u64 = u32::MAX as u64 & !(PAGE_SIZE - 1);

/// A quarter of the drive's size, so that a full drive takes at most a quarter more with its cached pages.
fn page_cache_bound(size_bytes: u64) -> u64 {
    (size_bytes / 4).max(PAGE_CACHE_MIN)
}

fn sized<T: AsRef<[u8]>>(size: u32, result: Result<T>) -> Answer<Sized<T>> {
    let value = result?;
    match u32::try_from(value.as_ref().len()) {
        Ok(len) if size == 0 => Ok(Sized::Length(len)),
        Ok(len) if len <= size => Ok(Sized::Value(value)),
        Ok(_) | Err(_) => Err(Refusal(libc::ERANGE)),
    }
}
