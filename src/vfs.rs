//! The interface between a filesystem and whatever shows it: FUSE, WinFsp, a network protocol, a test.
//!
//! Names are bytes, attributes are POSIX's. The caller of a frontend has checked permissions already, by the
//! kernel (`default_permissions`) or by a security descriptor; the filesystem enforces everything else.
//!
//! **Look-up counts.** Each [`Attr`] that a method returns for a *name* (`lookup`, `create`, `link`, an entry of
//! `readdir` with attributes) adds one to the inode's look-up count, and the frontend owes one [`Vfs::forget`] for
//! each. An unlinked inode lives until its count is zero, which is what keeps open-unlinked files readable.

use std::ops::ControlFlow;

use crate::Result;
use crate::clock::Timestamp;
use crate::range::ByteRange;

pub use crate::extent::{Differences, Shared};

/// An inode number, unique for the life of the volume: numbers are not used again, so the generation is constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub u64);

impl Ino {
    /// The root directory.
    pub const ROOT: Self = Self(1);
}

/// What an inode is (the S_IFMT bits of `st_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A FIFO.
    Fifo,
    /// A Unix socket's name.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// Attributes of an inode, as `stat(2)` shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Inode number.
    pub ino: Ino,
    /// Type.
    pub kind: FileKind,
    /// Permission bits with set-user-ID, set-group-ID and sticky: 0 to 0o7777.
    pub mode: u16,
    /// Hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node, as `makedev(3)` packs it in 32 bits.
    pub rdev: u32,
    /// Size in bytes.
    pub size: u64,
    /// Memory held, in units of 512 bytes.
    pub blocks: u64,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of the attributes.
    pub ctime: Timestamp,
    /// Creation.
    pub btime: Timestamp,
}

/// On whose behalf an operation runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
}

/// A timestamp to set: a given one, or the volume's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeOrNow {
    /// This time.
    At(Timestamp),
    /// The time of the operation.
    Now,
}

/// The attributes that [`Vfs::setattr`] changes; `None` leaves one alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// Permission bits, 0 to 0o7777.
    pub mode: Option<u16>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes: truncates, or extends by a hole.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<TimeOrNow>,
    /// Modification time.
    pub mtime: Option<TimeOrNow>,
    /// Change time; `None` means now (POSIX leaves no other choice to programs, a kernel may).
    pub ctime: Option<Timestamp>,
    /// Clear set-user-ID and, where the group may execute, set-group-ID: the change comes from one without the
    /// privilege to keep them. A change of owner clears them in any case.
    pub clear_privileges: bool,
}

/// A node to make with [`Vfs::create`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewNode<'a> {
    /// An empty regular file.
    Regular,
    /// An empty directory.
    Directory,
    /// A symbolic link to a target of 1 to 4095 bytes.
    Symlink(&'a [u8]),
    /// A FIFO.
    Fifo,
    /// A socket's name.
    Socket,
    /// A character device with its number.
    CharDevice(u32),
    /// A block device with its number.
    BlockDevice(u32),
}

/// How [`Vfs::rename`] treats the destination (renameat2(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RenameMode {
    /// Fail with `Exists` where the new name is taken (RENAME_NOREPLACE).
    pub no_replace: bool,
    /// Swap the two names, both of which must exist (RENAME_EXCHANGE).
    pub exchange: bool,
    /// Leave a whiteout (character device 0:0) under the old name (RENAME_WHITEOUT).
    pub whiteout: bool,
}

/// Where [`Vfs::write`] puts its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteAt {
    /// At this offset.
    Offset(u64),
    /// At the end of the file, atomically (O_APPEND).
    End,
}

/// What [`Vfs::write`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Where the bytes went.
    pub offset: u64,
    /// How many of them; fewer than asked only where the space ended.
    pub len: usize,
}

/// What [`Vfs::fallocate`] does with a range (fallocate(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallocate {
    /// Back the range with memory; existing bytes stay.
    Allocate {
        /// Do not let the file grow (FALLOC_FL_KEEP_SIZE).
        keep_size: bool,
    },
    /// Turn the range into a hole; never grows the file (FALLOC_FL_PUNCH_HOLE).
    Punch,
    /// Make the range read as zeros (FALLOC_FL_ZERO_RANGE).
    Zero {
        /// Do not let the file grow (FALLOC_FL_KEEP_SIZE).
        keep_size: bool,
    },
}

/// What [`Vfs::seek`] looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeekTo {
    /// The next byte that is not in a hole (SEEK_DATA).
    Data,
    /// The next hole, or the end of the file (SEEK_HOLE).
    Hole,
}

/// How [`Vfs::setxattr`] treats an existing attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrMode {
    /// Make or replace.
    Set,
    /// Fail with `Exists` where there is one (XATTR_CREATE).
    Create,
    /// Fail with `NoAttribute` where there is none (XATTR_REPLACE).
    Replace,
}

/// One entry of a directory.
#[derive(Clone, Copy, Debug)]
pub struct DirEntry<'a> {
    /// Pass it to [`Vfs::readdir`] to go on behind this entry. Stays valid while entries come and go.
    pub cookie: u64,
    /// Inode number.
    pub ino: Ino,
    /// Type.
    pub kind: FileKind,
    /// Name.
    pub name: &'a [u8],
    /// Attributes, where asked for (never of `.` and `..`).
    pub attr: Option<Attr>,
}

/// What a frontend may have remembered and must ask for again: the filesystem has changed it by itself, or for another
/// frontend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outdated {
    /// An inode's attributes, and all its bytes or entries.
    Inode(Ino),
    /// An inode's attributes alone.
    Attributes(Ino),
    /// An inode's attributes, and its bytes in a range.
    Bytes {
        /// Regular file.
        ino: Ino,
        /// What has changed in it.
        range: ByteRange,
    },
    /// What a name stands for, or that it stands for nothing.
    Entry {
        /// Directory.
        parent: Ino,
        /// Name.
        name: Box<[u8]>,
    },
}

/// Totals of a volume (statvfs(3)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatFs {
    /// Size of the volume in bytes.
    pub size_bytes: u64,
    /// Bytes that writers may still take.
    pub free_bytes: u64,
    /// Inodes that there can be.
    pub inodes_max: u64,
    /// Inodes that can still be made.
    pub inodes_free: u64,
    /// Preferred size of reads and writes in bytes.
    pub block_size: u32,
}

/// A source and a destination of [`Vfs::copy_range`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyRange {
    /// File to read.
    pub source: Ino,
    /// Where in it.
    pub source_offset: u64,
    /// File to write.
    pub target: Ino,
    /// Where in it.
    pub target_offset: u64,
    /// Bytes; what lies behind the end of the source is not copied.
    pub len: u64,
}

/// A filesystem: operations on inodes, each atomic to the others.
///
/// Every method fails with `Stale` for an inode that is gone. Conditions are listed in the order in which POSIX
/// states them.
pub trait Vfs: Send + Sync {
    /// Finds `name` (not `/` in it) in `parent`; `..` is allowed, and `.` is `parent` itself, which need not be a
    /// directory then.
    ///
    /// # Errors
    /// `NotDirectory`, `NameTooLong`, `NotFound`.
    fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Attr>;

    /// Drops `count` look-ups of an inode; returns whether they were the last.
    fn forget(&self, ino: Ino, count: u64) -> bool;

    /// Attributes of an inode (stat(2)).
    ///
    /// # Errors
    /// `Stale`.
    fn getattr(&self, ino: Ino) -> Result<Attr>;

    /// Changes attributes (chmod(2), chown(2), truncate(2), utimensat(2)).
    ///
    /// # Errors
    /// `IsDirectory` or `InvalidArgument` for the size of what is no regular file, `FileTooBig`, `NoSpace`.
    fn setattr(&self, caller: Caller, ino: Ino, changes: &SetAttr) -> Result<Attr>;

    /// Target of a symbolic link.
    ///
    /// # Errors
    /// `InvalidArgument` where `ino` is none.
    fn readlink(&self, ino: Ino) -> Result<Box<[u8]>>;

    /// Makes a node (open(2) with O_CREAT and O_EXCL, mkdir(2), mknod(2), symlink(2)).
    ///
    /// `mode` comes without the umask applied; `umask` counts unless `parent` has a default ACL.
    ///
    /// # Errors
    /// `NotDirectory`, `NotFound` where `parent` was removed, `InvalidArgument` for a bad name, `NameTooLong`,
    /// `Exists`, `TooManyLinks`, `NoSpace`.
    fn create(&self, caller: Caller, at: NewName<'_>, node: NewNode<'_>) -> Result<Attr>;

    /// Removes a name that is no directory (unlink(2)).
    ///
    /// # Errors
    /// `NotDirectory`, `NotFound`, `IsDirectory`.
    fn unlink(&self, parent: Ino, name: &[u8]) -> Result<()>;

    /// Removes an empty directory (rmdir(2)).
    ///
    /// # Errors
    /// `NotDirectory`, `NotFound`, `InvalidArgument` for `.`, `NotEmpty` also for `..`, `Busy` for the root.
    fn rmdir(&self, parent: Ino, name: &[u8]) -> Result<()>;

    /// Moves a name (renameat2(2)).
    ///
    /// # Errors
    /// `NotDirectory`, `NotFound`, `InvalidArgument` for a directory into itself or contradicting modes, `Exists`,
    /// `IsDirectory`, `NotEmpty`, `NoSpace`.
    fn rename(&self, caller: Caller, from: (Ino, &[u8]), to: (Ino, &[u8]), mode: RenameMode) -> Result<()>;

    /// Adds a name to an inode (link(2)).
    ///
    /// # Errors
    /// `NotPermitted` for a directory, `NotDirectory`, `NotFound` where the inode has no name left, `Exists`,
    /// `TooManyLinks`, `NoSpace`.
    fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attr>;

    /// Fills `out` with the file's bytes from `offset` on; returns how many there were, fewer at the end of the file
    /// (pread(2)).
    ///
    /// # Errors
    /// `IsDirectory`, `InvalidArgument` where `ino` is no regular file.
    fn read(&self, ino: Ino, offset: u64, out: &mut [u8]) -> Result<usize>;

    /// Writes bytes (pwrite(2)); `clear_privileges` as in [`SetAttr`].
    ///
    /// # Errors
    /// `IsDirectory`, `InvalidArgument`, `FileTooBig`; `NoSpace` and `QuotaExceeded` where not one byte fitted, and
    /// then nothing has changed.
    fn write(&self, ino: Ino, at: WriteAt, bytes: &[u8], clear_privileges: bool) -> Result<Written>;

    /// Allocates, punches or zeroes a range (fallocate(2)).
    ///
    /// # Errors
    /// As [`Vfs::write`].
    fn fallocate(&self, ino: Ino, range: ByteRange, mode: Fallocate) -> Result<()>;

    /// Finds data or a hole at or behind `offset` (lseek(2)).
    ///
    /// # Errors
    /// `BeyondEnd` where `offset` is at or behind the end, or no data follows it.
    fn seek(&self, ino: Ino, offset: u64, to: SeekTo) -> Result<u64>;

    /// Copies bytes between files or within one, sharing memory where it can (copy_file_range(2)); returns how many.
    ///
    /// # Errors
    /// As [`Vfs::write`]; `InvalidArgument` where the ranges overlap within one file.
    fn copy_range(&self, range: &CopyRange, clear_privileges: bool) -> Result<u64>;

    /// Where the bytes of two regular files differ in a range, as if the shorter one went on with zeros: whole pages, cut at
    /// the range's ends. Bytes are compared unless they share memory. Ends early where it has found `most` ranges or
    /// looked at much, but not before it has come forward.
    ///
    /// # Errors
    /// `IsDirectory`, `InvalidArgument` where one is no regular file.
    fn differences(&self, files: [Ino; 2], range: ByteRange, most: usize) -> Result<Differences>;

    /// Lets pages of `target` in a range share the memory of equal ones of `source` (like FIDEDUPERANGE of
    /// ioctl_fideduperange(2), page by page); no byte changes, whoever writes meanwhile. Ends early where it has looked
    /// at much, but not before it has come forward.
    ///
    /// # Errors
    /// `IsDirectory`, `InvalidArgument` where one is no regular file, `ReadOnly`, `NoSpace`, `QuotaExceeded`.
    fn share_pages(&self, source: Ino, target: Ino, range: ByteRange) -> Result<Shared>;

    /// Visits the entries behind `cookie` (0 begins) until `visit` breaks; the entry it breaks on was not taken.
    /// With `plus` each entry carries attributes and one look-up.
    ///
    /// An entry that exists during the whole scan is visited exactly once, whatever happens to others.
    ///
    /// # Errors
    /// `NotDirectory`.
    fn readdir(
        &self,
        dir: Ino,
        cookie: u64,
        plus: bool,
        visit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()>;

    /// Totals of the volume.
    fn statfs(&self) -> StatFs;

    /// Value of an extended attribute, among them `system.posix_acl_access` and `system.posix_acl_default`.
    ///
    /// # Errors
    /// `NoAttribute`, `NotSupported` for a name outside the known prefixes.
    fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Box<[u8]>>;

    /// Sets an extended attribute (setxattr(2)).
    ///
    /// # Errors
    /// `Exists`, `NoAttribute`, `NotPermitted` for `user.` on what is neither file nor directory, `OutOfRange` for
    /// a long name, `TooLarge` for a long value, `InvalidArgument` for a malformed ACL, `NotSupported`, `NoSpace`.
    fn setxattr(&self, caller: Caller, ino: Ino, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()>;

    /// Names of the extended attributes, each ended by a NUL; those of `trusted.` are shown to root alone (xattr(7)).
    ///
    /// # Errors
    /// `Stale`.
    fn listxattr(&self, caller: Caller, ino: Ino) -> Result<Vec<u8>>;

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// `NoAttribute`, `NotSupported`.
    fn removexattr(&self, ino: Ino, name: &[u8]) -> Result<()>;
}

/// A name to be made, with the mode of what it will name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewName<'a> {
    /// Directory.
    pub parent: Ino,
    /// Name, 1 to 255 bytes.
    pub name: &'a [u8],
    /// Permission bits, 0 to 0o7777.
    pub mode: u16,
    /// Bits that are taken from `mode` unless `parent` has a default ACL.
    pub umask: u16,
}
