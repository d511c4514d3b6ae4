//! The kernel's requests as calls of [`Vfs`]: decode, call, answer.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, WriteFlags,
};
use tracing::span::EnteredSpan;
use tracing::trace_span;

use super::convert::{
    bare_attr, fallocate_mode, file_attr, file_type, ino, new_node, permissions, rename_mode, seek_to,
    time_or_now, timestamp, xattr_mode,
};
use super::counters::{Counters, Operation};
use super::errno::errno;
use crate::error::{ErrorKind, Result};
use crate::limits::{FUSE_BACKGROUND_MAX, FUSE_READ_BUFFER_MAX, FUSE_WRITE_MAX, NAME_MAX, PAGE_SIZE};
use crate::range::ByteRange;
use crate::vfs::{Attr, Caller, CopyRange, FileKind, Ino, NewName, NewNode, SetAttr, Vfs, WriteAt};

/// How long the kernel may believe names and attributes: nobody else changes the tree.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Inode numbers are not used again.
const GENERATION: Generation = Generation(0);

/// No operation needs a handle: all that a handle would know is in the inode.
const NO_HANDLE: FileHandle = FileHandle(0);

/// Largest `st_blksize`: stdio and tar take it as the size of their buffers.
const IO_SIZE_MAX: u32 = 128 << 10;

/// Asked for one by one, where the kernel offers them. Missing on purpose:
/// - writeback cache: a write must reach the volume at once, so that the writer sees ENOSPC;
/// - POSIX and flock locks: the kernel keeps them itself for a filesystem with one host.
const CAPABILITIES: [InitFlags; 10] = [
    InitFlags::FUSE_ASYNC_READ,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_DONT_MASK,
    InitFlags::FUSE_POSIX_ACL,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_EXPLICIT_INVAL_DATA,
    InitFlags::FUSE_ASYNC_DIO,
    InitFlags::FUSE_EXPORT_SUPPORT,
];

thread_local! {
    /// What the thread's last read left behind, to be filled again.
    static READ_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Answers the kernel from a [`Vfs`].
pub(super) struct FuseAdapter {
    fs: Arc<dyn Vfs>,
    counters: Arc<Counters>,
    io_size: u32,
    kill_privileges: bool,
    no_open: bool,
    no_opendir: bool,
}

impl FuseAdapter {
    /// With `kill_privileges` the volume clears set-user-ID bits and the kernel need not ask before each write
    /// whether there is anything to clear.
    pub(super) fn new(fs: Arc<dyn Vfs>, counters: Arc<Counters>, kill_privileges: bool) -> Self {
        let io_size = fs.statfs().block_size.min(IO_SIZE_MAX);
        Self {
            fs,
            counters,
            io_size,
            kill_privileges,
            no_open: false,
            no_opendir: false,
        }
    }

    fn enter(&self, operation: Operation, ino: INodeNo) -> EnteredSpan {
        self.counters.count(operation);
        trace_span!("request", operation = operation.name(), ino = ino.0).entered()
    }

    fn entry(&self, reply: ReplyEntry, result: Result<Attr>) {
        match result {
            Ok(attr) => reply.entry(&FOREVER, &file_attr(&attr, self.io_size), GENERATION),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn attr(&self, reply: ReplyAttr, result: Result<Attr>) {
        match result {
            Ok(attr) => reply.attr(&FOREVER, &file_attr(&attr, self.io_size)),
            Err(error) => reply.error(errno(&error)),
        }
    }

    /// Clears set-user-ID and set-group-ID after a change that [`Vfs`] makes without knowing its caller.
    fn clear_privileges(&self, request: &Request, ino: Ino) -> Result<()> {
        let changes = SetAttr {
            clear_privileges: true,
            ..SetAttr::default()
        };
        self.fs.setattr(caller(request), ino, &changes).map(drop)
    }
}

fn empty(reply: ReplyEmpty, result: Result<()>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(&error)),
    }
}

/// Answers a value whose length the program may ask for first, with a `size` of 0.
fn sized(reply: ReplyXattr, size: u32, result: Result<impl AsRef<[u8]>>) {
    let value = match &result {
        Ok(value) => value.as_ref(),
        Err(error) => return reply.error(errno(error)),
    };
    match u32::try_from(value.len()) {
        Ok(len) if size == 0 => reply.size(len),
        Ok(len) if len <= size => reply.data(value),
        Ok(_) | Err(_) => reply.error(Errno::ERANGE),
    }
}

fn caller(request: &Request) -> Caller {
    Caller {
        uid: request.uid(),
        gid: request.gid(),
    }
}

/// Root may keep the set-user-ID bits of what it changes. (The privilege is CAP_FSETID, which the protocol does not
/// tell here.)
fn lacks_privilege(request: &Request) -> bool {
    request.uid() != 0
}

fn new_name(parent: INodeNo, name: &OsStr, mode: u32, umask: u32) -> NewName<'_> {
    NewName {
        parent: ino(parent),
        name: name.as_bytes(),
        mode: permissions(mode),
        umask: permissions(umask),
    }
}

impl fuser::Filesystem for FuseAdapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let mut offers = |capability| config.add_capabilities(capability).is_ok();
        for capability in CAPABILITIES {
            offers(capability);
        }
        self.no_open = offers(InitFlags::FUSE_NO_OPEN_SUPPORT);
        self.no_opendir = offers(InitFlags::FUSE_NO_OPENDIR_SUPPORT);
        self.kill_privileges = self.kill_privileges && offers(InitFlags::FUSE_HANDLE_KILLPRIV_V2);
        // Both are within the bounds that fuser sets, and its default is as good where they were not.
        let _ = config.set_max_write(FUSE_WRITE_MAX);
        let _ = config.set_max_background(FUSE_BACKGROUND_MAX);
        Ok(())
    }

    // Names -----------------------------------------------------------------------------------------------------

    /// A missing name is answered as inode 0, which the kernel remembers; it forgets when it makes the name.
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let _span = self.enter(Operation::Lookup, parent);
        match self.fs.lookup(ino(parent), name.as_bytes()) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                reply.entry(&FOREVER, &bare_attr(0, FileKind::Regular), GENERATION);
            }
            result => self.entry(reply, result),
        }
    }

    fn forget(&self, _: &Request, number: INodeNo, count: u64) {
        let _span = self.enter(Operation::Forget, number);
        self.fs.forget(ino(number), count);
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        let _span = self.enter(Operation::MkNod, parent);
        let Some(node) = new_node(mode, device) else {
            return reply.error(Errno::EINVAL);
        };
        let at = new_name(parent, name, mode, umask);
        self.entry(reply, self.fs.create(caller(request), at, node));
    }

    /// Not here: the kernel then makes files by MKNOD, after which it sends no RELEASE, one request less for each
    /// file made.
    fn create(&self, _: &Request, parent: INodeNo, _: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        let _span = self.enter(Operation::Create, parent);
        reply.error(Errno::ENOSYS);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let _span = self.enter(Operation::MkDir, parent);
        let at = new_name(parent, name, mode, umask);
        self.entry(reply, self.fs.create(caller(request), at, NewNode::Directory));
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let _span = self.enter(Operation::SymLink, parent);
        let at = new_name(parent, name, 0o777, 0);
        let node = NewNode::Symlink(target.as_os_str().as_bytes());
        self.entry(reply, self.fs.create(caller(request), at, node));
    }

    fn link(&self, _: &Request, number: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let _span = self.enter(Operation::Link, number);
        self.entry(reply, self.fs.link(ino(number), ino(parent), name.as_bytes()));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _span = self.enter(Operation::Unlink, parent);
        empty(reply, self.fs.unlink(ino(parent), name.as_bytes()));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _span = self.enter(Operation::RmDir, parent);
        empty(reply, self.fs.rmdir(ino(parent), name.as_bytes()));
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let _span = self.enter(Operation::Rename, parent);
        let Some(mode) = rename_mode(flags) else {
            return reply.error(Errno::EINVAL);
        };
        let from = (ino(parent), name.as_bytes());
        let to = (ino(new_parent), new_name.as_bytes());
        empty(reply, self.fs.rename(caller(request), from, to, mode));
    }

    fn readlink(&self, _: &Request, number: INodeNo, reply: ReplyData) {
        let _span = self.enter(Operation::ReadLink, number);
        match self.fs.readlink(ino(number)) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(errno(&error)),
        }
    }

    // Attributes ------------------------------------------------------------------------------------------------

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let _span = self.enter(Operation::GetAttr, number);
        self.attr(reply, self.fs.getattr(ino(number)));
    }

    fn setattr(
        &self,
        request: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<fuser::TimeOrNow>,
        mtime: Option<fuser::TimeOrNow>,
        ctime: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let _span = self.enter(Operation::SetAttr, number);
        let changes = SetAttr {
            mode: mode.map(permissions),
            uid,
            gid,
            size,
            atime: atime.map(time_or_now),
            mtime: mtime.map(time_or_now),
            ctime: ctime.map(timestamp),
            // fuser 0.18 hides the protocol's own flag for this, FATTR_KILL_SUIDGID.
            clear_privileges: size.is_some() && lacks_privilege(request),
        };
        self.attr(reply, self.fs.setattr(caller(request), ino(number), &changes));
    }

    fn statfs(&self, _: &Request, number: INodeNo, reply: ReplyStatfs) {
        let _span = self.enter(Operation::StatFs, number);
        let totals = self.fs.statfs();
        let free = totals.free_bytes / PAGE_SIZE;
        let (page, name_max) = (PAGE_SIZE as u32, NAME_MAX as u32);
        // Both sizes are the page: some programs multiply the counts by the one, some by the other.
        reply.statfs(
            totals.size_bytes / PAGE_SIZE,
            free,
            free,
            totals.inodes_max,
            totals.inodes_free,
            page,
            name_max,
            page,
        );
    }

    fn setxattr(
        &self,
        request: &Request,
        number: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        let _span = self.enter(Operation::SetXattr, number);
        let Some(mode) = xattr_mode(flags) else {
            return reply.error(Errno::EINVAL);
        };
        let caller = caller(request);
        empty(
            reply,
            self.fs
                .setxattr(caller, ino(number), name.as_bytes(), value, mode),
        );
    }

    fn getxattr(&self, _: &Request, number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let _span = self.enter(Operation::GetXattr, number);
        sized(reply, size, self.fs.getxattr(ino(number), name.as_bytes()));
    }

    fn listxattr(&self, request: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        let _span = self.enter(Operation::ListXattr, number);
        sized(reply, size, self.fs.listxattr(caller(request), ino(number)));
    }

    fn removexattr(&self, _: &Request, number: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _span = self.enter(Operation::RemoveXattr, number);
        empty(reply, self.fs.removexattr(ino(number), name.as_bytes()));
    }

    // Bytes -----------------------------------------------------------------------------------------------------

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        len: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let _span = self.enter(Operation::Read, number);
        let mut buffer = READ_BUFFER.take();
        buffer.clear();
        match self.fs.read(ino(number), offset, len as usize, &mut buffer) {
            Ok(()) => reply.data(&buffer),
            Err(error) => reply.error(errno(&error)),
        }
        if buffer.capacity() <= FUSE_READ_BUFFER_MAX {
            READ_BUFFER.set(buffer);
        }
    }

    /// Appends too come with the right offset: the kernel knows the size of the file, as nobody else changes it. And
    /// `O_APPEND` must not be followed here, for pages of a mapping are written back under any handle of the file.
    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        flags: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let _span = self.enter(Operation::Write, number);
        let clear = flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        match self.fs.write(ino(number), WriteAt::Offset(offset), bytes, clear) {
            // The kernel takes pages that it writes back for clean whatever the number in the answer is: an error alone
            // tells the program that some of a mapping's bytes are lost.
            Ok(written) if flags.contains(WriteFlags::FUSE_WRITE_CACHE) && written.len < bytes.len() => {
                reply.error(Errno::ENOSPC);
            }
            // A request carries at most `FUSE_WRITE_MAX` bytes.
            Ok(written) => reply.written(written.len as u32),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn fallocate(
        &self,
        request: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        len: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let _span = self.enter(Operation::Fallocate, number);
        let Some(mode) = fallocate_mode(mode) else {
            return reply.error(Errno::EOPNOTSUPP);
        };
        let result = ByteRange::at(offset, len)
            .and_then(|range| self.fs.fallocate(ino(number), range, mode))
            .and_then(|()| match lacks_privilege(request) {
                true => self.clear_privileges(request, ino(number)),
                false => Ok(()),
            });
        empty(reply, result);
    }

    fn lseek(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let _span = self.enter(Operation::Lseek, number);
        let (Ok(offset), Some(to)) = (u64::try_from(offset), seek_to(whence)) else {
            return reply.error(Errno::EINVAL);
        };
        match self.fs.seek(ino(number), offset, to) {
            Ok(found) => reply.offset(found.cast_signed()),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn copy_file_range(
        &self,
        request: &Request,
        source: INodeNo,
        _: FileHandle,
        source_offset: u64,
        target: INodeNo,
        _: FileHandle,
        target_offset: u64,
        len: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let _span = self.enter(Operation::CopyFileRange, source);
        // The answer has 32 bits; programs ask again for the rest. Whole pages, so that they can be shared.
        let len_max = u64::from(u32::MAX) & !(PAGE_SIZE - 1);
        let range = CopyRange {
            source: ino(source),
            source_offset,
            target: ino(target),
            target_offset,
            len: len.min(len_max),
        };
        match self.fs.copy_range(&range, lacks_privilege(request)) {
            Ok(copied) => reply.written(copied as u32),
            Err(error) => reply.error(errno(&error)),
        }
    }

    // Directories -----------------------------------------------------------------------------------------------

    fn readdir(&self, _: &Request, dir: INodeNo, _: FileHandle, cookie: u64, mut reply: ReplyDirectory) {
        let _span = self.enter(Operation::ReadDir, dir);
        let result = self.fs.readdir(ino(dir), cookie, false, &mut |entry| {
            let name = OsStr::from_bytes(entry.name);
            match reply.add(INodeNo(entry.ino.0), entry.cookie, file_type(entry.kind), name) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        match result {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(&error)),
        }
    }

    /// `.` and `..` come without attributes; the kernel takes only their number and type.
    fn readdirplus(
        &self,
        _: &Request,
        dir: INodeNo,
        _: FileHandle,
        cookie: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let _span = self.enter(Operation::ReadDirPlus, dir);
        let result = self.fs.readdir(ino(dir), cookie, true, &mut |entry| {
            let name = OsStr::from_bytes(entry.name);
            let attr = match &entry.attr {
                Some(attr) => file_attr(attr, self.io_size),
                None => bare_attr(entry.ino.0, entry.kind),
            };
            match reply.add(attr.ino, entry.cookie, name, &FOREVER, &attr, GENERATION) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        match result {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(&error)),
        }
    }

    // Handles ---------------------------------------------------------------------------------------------------
    // ENOSYS to each of these means to the kernel: done, and do not ask again.

    fn open(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let _span = self.enter(Operation::Open, number);
        match self.no_open {
            true => reply.error(Errno::ENOSYS),
            false => reply.opened(NO_HANDLE, FopenFlags::FOPEN_KEEP_CACHE),
        }
    }

    fn opendir(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let _span = self.enter(Operation::OpenDir, number);
        match self.no_opendir {
            true => reply.error(Errno::ENOSYS),
            false => reply.opened(
                NO_HANDLE,
                FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR,
            ),
        }
    }

    fn release(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let _span = self.enter(Operation::Release, number);
        reply.ok();
    }

    fn releasedir(&self, _: &Request, number: INodeNo, _: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        let _span = self.enter(Operation::ReleaseDir, number);
        reply.ok();
    }

    fn flush(&self, _: &Request, number: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        let _span = self.enter(Operation::Flush, number);
        reply.error(Errno::ENOSYS);
    }

    fn fsync(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let _span = self.enter(Operation::Fsync, number);
        reply.error(Errno::ENOSYS);
    }

    fn fsyncdir(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let _span = self.enter(Operation::FsyncDir, number);
        reply.error(Errno::ENOSYS);
    }

    fn access(&self, _: &Request, number: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        let _span = self.enter(Operation::Access, number);
        reply.error(Errno::ENOSYS);
    }
}
