//! The classic transport: fuser reads requests from /dev/fuse, decodes them, and carries the answers of
//! [`Operations`] back.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, FopenFlags, Generation, INodeNo,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
    Request, WriteFlags,
};
use parking_lot::Mutex;

use super::convert::{bare_attr, file_attr, file_type, ino, time_or_now, timestamp};
use super::counters::Operation;
use super::decode::permissions;
use super::errno::{Answer, Refusal};
use super::negotiate::{Wishes, negotiate};
use super::operations::{
    COPY_MAX_32, FOREVER, Operations, Sized, Space, WriteMode, is_direct, lacks_privilege,
};
use crate::limits::FUSE_READ_BUFFER_MAX;
use crate::vfs::{Attr, Caller, CopyRange, FileKind, NewName, SetAttr};

/// Inode numbers are not used again.
const GENERATION: Generation = Generation(0);

/// No operation needs a handle.
const NO_HANDLE: FileHandle = FileHandle(0);

/// How long forgotten inodes may gather.
const FORGET_REST: Duration = Duration::from_millis(2);
/// How long a thread forgets what has gathered before it rests again.
const FORGET_RUN: Duration = Duration::from_micros(200);

thread_local! {
    /// What the thread's last read left behind, to be filled again.
    static READ_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Carries requests from fuser to [`Operations`].
pub(super) struct FuseAdapter {
    operations: Arc<Operations>,
    wishes: Wishes,
    /// When the thread beside io_uring has last rested.
    rested: Option<Mutex<Instant>>,
}

impl FuseAdapter {
    pub(super) fn new(operations: Arc<Operations>, wishes: Wishes) -> Self {
        Self {
            operations,
            wishes,
            rested: wishes.uring.then(|| Mutex::new(Instant::now())),
        }
    }

    fn entry(&self, reply: ReplyEntry, answer: Answer<Attr>) {
        match answer {
            Ok(attr) => reply.entry(&FOREVER, &file_attr(&attr, self.operations.io_size), GENERATION),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn attr(&self, reply: ReplyAttr, answer: Answer<Attr>) {
        match answer {
            Ok(attr) => reply.attr(&FOREVER, &file_attr(&attr, self.operations.io_size)),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    /// Beside io_uring nothing but FORGET comes by the device. A thread that waits for the next would be woken, often
    /// from another processor, for each file that a program removes: while it sleeps they gather to one batch.
    fn rest(&self) {
        let Some(rested) = &self.rested else { return };
        let mut rested = rested.lock();
        if rested.elapsed() > FORGET_RUN {
            thread::sleep(FORGET_REST);
            *rested = Instant::now();
        }
    }

    fn release(&self, operation: Operation, number: INodeNo, reply: ReplyEmpty) {
        self.operations.release(operation, ino(number));
        reply.ok();
    }

    fn unknown(&self, operation: Operation, number: INodeNo, reply: ReplyEmpty) {
        reply.error(errno(self.operations.unknown(operation, ino(number))));
    }
}

fn errno(refusal: Refusal) -> Errno {
    Errno::from_i32(refusal.0)
}

fn empty(reply: ReplyEmpty, answer: Answer<()>) {
    match answer {
        Ok(()) => reply.ok(),
        Err(refusal) => reply.error(errno(refusal)),
    }
}

fn sized(reply: ReplyXattr, answer: Answer<Sized<impl AsRef<[u8]>>>) {
    match answer {
        Ok(Sized::Value(value)) => reply.data(value.as_ref()),
        Ok(Sized::Length(len)) => reply.size(len),
        Err(refusal) => reply.error(errno(refusal)),
    }
}

fn caller(request: &Request) -> Caller {
    Caller {
        uid: request.uid(),
        gid: request.gid(),
    }
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
        self.operations.agree(negotiate(self.wishes, config)?);
        Ok(())
    }

    // Names -----------------------------------------------------------------------------------------------------

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.operations.lookup(ino(parent), name.as_bytes()) {
            Ok(None) => reply.entry(&FOREVER, &bare_attr(0, FileKind::Regular), GENERATION),
            Ok(Some(attr)) => self.entry(reply, Ok(attr)),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn forget(&self, _: &Request, number: INodeNo, count: u64) {
        self.operations.forget(ino(number), count);
        self.rest();
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
        let at = new_name(parent, name, mode, umask);
        self.entry(reply, self.operations.mknod(caller(request), at, mode, device));
    }

    /// Not here: the kernel then makes files by MKNOD, which asks for no more and ends no handle.
    fn create(&self, _: &Request, parent: INodeNo, _: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        reply.error(errno(self.operations.unknown(Operation::Create, ino(parent))));
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
        let at = new_name(parent, name, mode, umask);
        self.entry(reply, self.operations.mkdir(caller(request), at));
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let (name, target) = (name.as_bytes(), target.as_os_str().as_bytes());
        let answer = self
            .operations
            .symlink(caller(request), ino(parent), name, target);
        self.entry(reply, answer);
    }

    fn link(&self, _: &Request, number: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let answer = self.operations.link(ino(number), ino(parent), name.as_bytes());
        self.entry(reply, answer);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.operations.unlink(ino(parent), name.as_bytes()));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.operations.rmdir(ino(parent), name.as_bytes()));
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
        let from = (ino(parent), name.as_bytes());
        let to = (ino(new_parent), new_name.as_bytes());
        let answer = self.operations.rename(caller(request), from, to, flags.bits());
        empty(reply, answer);
    }

    fn readlink(&self, _: &Request, number: INodeNo, reply: ReplyData) {
        match self.operations.readlink(ino(number)) {
            Ok(target) => reply.data(&target),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    // Attributes ------------------------------------------------------------------------------------------------

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.attr(reply, self.operations.getattr(ino(number)));
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
        let caller = caller(request);
        let changes = SetAttr {
            mode: mode.map(permissions),
            uid,
            gid,
            size,
            atime: atime.map(time_or_now),
            mtime: mtime.map(time_or_now),
            ctime: ctime.map(timestamp),
            // fuser 0.18 hides the protocol's own flag for this, FATTR_KILL_SUIDGID.
            clear_privileges: size.is_some() && lacks_privilege(caller),
        };
        self.attr(reply, self.operations.setattr(caller, ino(number), &changes));
    }

    fn statfs(&self, _: &Request, number: INodeNo, reply: ReplyStatfs) {
        let space = self.operations.statfs(ino(number));
        reply.statfs(
            space.blocks,
            space.free,
            space.free,
            space.inodes,
            space.inodes_free,
            Space::BLOCK_SIZE,
            Space::NAME_MAX,
            Space::BLOCK_SIZE,
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
        let pair = (name.as_bytes(), value);
        let answer = self
            .operations
            .setxattr(caller(request), ino(number), pair, flags);
        empty(reply, answer);
    }

    fn getxattr(&self, _: &Request, number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        sized(
            reply,
            self.operations.getxattr(ino(number), name.as_bytes(), size),
        );
    }

    fn listxattr(&self, request: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        sized(
            reply,
            self.operations.listxattr(caller(request), ino(number), size),
        );
    }

    fn removexattr(&self, _: &Request, number: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.operations.removexattr(ino(number), name.as_bytes()));
    }

    // Bytes -----------------------------------------------------------------------------------------------------

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        len: u32,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let len = len as usize;
        let mut buffer = READ_BUFFER.take();
        if buffer.len() < len {
            buffer.resize(len, 0);
        }
        let direct = is_direct(flags.0);
        match self
            .operations
            .read(ino(number), offset, &mut buffer[..len], direct)
        {
            Ok(len) => reply.data(&buffer[..len]),
            Err(refusal) => reply.error(errno(refusal)),
        }
        if buffer.len() <= FUSE_READ_BUFFER_MAX {
            READ_BUFFER.set(buffer);
        }
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        flags: WriteFlags,
        open_flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mode = WriteMode {
            direct: is_direct(open_flags.0),
            from_cache: flags.contains(WriteFlags::FUSE_WRITE_CACHE),
            clear_privileges: flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID),
        };
        match self.operations.write(ino(number), offset, bytes, mode) {
            Ok(written) => reply.written(written),
            Err(refusal) => reply.error(errno(refusal)),
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
        let answer = self
            .operations
            .fallocate(caller(request), ino(number), (offset, len), mode);
        empty(reply, answer);
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
        match self.operations.lseek(ino(number), offset, whence) {
            Ok(found) => reply.offset(found.cast_signed()),
            Err(refusal) => reply.error(errno(refusal)),
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
        let range = CopyRange {
            source: ino(source),
            source_offset,
            target: ino(target),
            target_offset,
            len,
        };
        // Programs ask again for what is more than the answer can carry.
        match self
            .operations
            .copy_file_range(caller(request), range, COPY_MAX_32)
        {
            Ok(copied) => reply.written(copied as u32),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    // Directories -----------------------------------------------------------------------------------------------

    fn readdir(&self, _: &Request, dir: INodeNo, _: FileHandle, cookie: u64, mut reply: ReplyDirectory) {
        let answer = self.operations.readdir(ino(dir), cookie, false, &mut |entry| {
            let name = OsStr::from_bytes(entry.name);
            match reply.add(INodeNo(entry.ino.0), entry.cookie, file_type(entry.kind), name) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        match answer {
            Ok(()) => reply.ok(),
            Err(refusal) => reply.error(errno(refusal)),
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
        let answer = self.operations.readdir(ino(dir), cookie, true, &mut |entry| {
            let name = OsStr::from_bytes(entry.name);
            let attr = match &entry.attr {
                Some(attr) => file_attr(attr, self.operations.io_size),
                None => bare_attr(entry.ino.0, entry.kind),
            };
            match reply.add(attr.ino, entry.cookie, name, &FOREVER, &attr, GENERATION) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        match answer {
            Ok(()) => reply.ok(),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    // Handles ---------------------------------------------------------------------------------------------------

    fn open(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.operations.open(ino(number)) {
            Ok(()) => reply.opened(NO_HANDLE, FopenFlags::FOPEN_KEEP_CACHE),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn opendir(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.operations.opendir(ino(number)) {
            Ok(()) => reply.opened(
                NO_HANDLE,
                FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR,
            ),
            Err(refusal) => reply.error(errno(refusal)),
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
        self.release(Operation::Release, number, reply);
    }

    fn releasedir(&self, _: &Request, number: INodeNo, _: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.release(Operation::ReleaseDir, number, reply);
    }

    fn flush(&self, _: &Request, number: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        self.unknown(Operation::Flush, number, reply);
    }

    fn fsync(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.unknown(Operation::Fsync, number, reply);
    }

    fn fsyncdir(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.unknown(Operation::FsyncDir, number, reply);
    }

    fn access(&self, _: &Request, number: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        self.unknown(Operation::Access, number, reply);
    }
}
