//! The structures of the FUSE protocol, whatever carries them (include/uapi/linux/fuse.h, version 7.42).
//!
//! fuser keeps its own private. All integers have the machine's byte order.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Operations as requests number them (`enum fuse_opcode`).
pub(super) mod opcode {
    pub(crate) const LOOKUP: u32 = 1;
    pub(crate) const FORGET: u32 = 2;
    pub(crate) const GETATTR: u32 = 3;
    pub(crate) const SETATTR: u32 = 4;
    pub(crate) const READLINK: u32 = 5;
    pub(crate) const SYMLINK: u32 = 6;
    pub(crate) const MKNOD: u32 = 8;
    pub(crate) const MKDIR: u32 = 9;
    pub(crate) const UNLINK: u32 = 10;
    pub(crate) const RMDIR: u32 = 11;
    pub(crate) const RENAME: u32 = 12;
    pub(crate) const LINK: u32 = 13;
    pub(crate) const OPEN: u32 = 14;
    pub(crate) const READ: u32 = 15;
    pub(crate) const WRITE: u32 = 16;
    pub(crate) const STATFS: u32 = 17;
    pub(crate) const RELEASE: u32 = 18;
    pub(crate) const FSYNC: u32 = 20;
    pub(crate) const SETXATTR: u32 = 21;
    pub(crate) const GETXATTR: u32 = 22;
    pub(crate) const LISTXATTR: u32 = 23;
    pub(crate) const REMOVEXATTR: u32 = 24;
    pub(crate) const FLUSH: u32 = 25;
    pub(crate) const OPENDIR: u32 = 27;
    pub(crate) const READDIR: u32 = 28;
    pub(crate) const RELEASEDIR: u32 = 29;
    pub(crate) const FSYNCDIR: u32 = 30;
    pub(crate) const ACCESS: u32 = 34;
    pub(crate) const CREATE: u32 = 35;
    pub(crate) const DESTROY: u32 = 38;
    pub(crate) const BATCH_FORGET: u32 = 42;
    pub(crate) const FALLOCATE: u32 = 43;
    pub(crate) const READDIRPLUS: u32 = 44;
    pub(crate) const RENAME2: u32 = 45;
    pub(crate) const LSEEK: u32 = 46;
    pub(crate) const COPY_FILE_RANGE: u32 = 47;
    /// Since Linux 6.18: the answer has 64 bits.
    pub(crate) const COPY_FILE_RANGE_64: u32 = 53;
}

/// Bits of `fuse_setattr_in::valid`.
pub(super) mod valid {
    pub(crate) const MODE: u32 = 1 << 0;
    pub(crate) const UID: u32 = 1 << 1;
    pub(crate) const GID: u32 = 1 << 2;
    pub(crate) const SIZE: u32 = 1 << 3;
    pub(crate) const ATIME: u32 = 1 << 4;
    pub(crate) const MTIME: u32 = 1 << 5;
    pub(crate) const ATIME_NOW: u32 = 1 << 7;
    pub(crate) const MTIME_NOW: u32 = 1 << 8;
    pub(crate) const CTIME: u32 = 1 << 10;
    /// The size is changed by one without the privilege to keep set-user-ID bits.
    pub(crate) const KILL_SUIDGID: u32 = 1 << 11;
}

/// Bits of `fuse_write_in::write_flags`.
pub(super) mod write_flag {
    pub(crate) const CACHE: u32 = 1 << 0;
    pub(crate) const KILL_SUIDGID: u32 = 1 << 2;
}

/// Bits of `fuse_open_out::open_flags`.
pub(super) mod open_flag {
    pub(crate) const KEEP_CACHE: u32 = 1 << 1;
    pub(crate) const CACHE_DIR: u32 = 1 << 3;
}

macro_rules! structures {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? })*) => { $(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
        pub(super) struct $name { $(pub(super) $field: $type),* }
    )* };
}

// What requests bring.
structures! {
    /// `fuse_in_header`
    InHeader { len: u32, opcode: u32, unique: u64, nodeid: u64, uid: u32, gid: u32, pid: u32, extlen: u16, padding: u16 }
    /// `fuse_setattr_in`
    SetattrIn {
        valid: u32, padding: u32, handle: u64, size: u64, lock_owner: u64, atime: i64, mtime: i64, ctime: i64,
        atime_nanos: u32, mtime_nanos: u32, ctime_nanos: u32, mode: u32, unused: u32, uid: u32, gid: u32,
        unused_too: u32,
    }
    /// `fuse_mknod_in`
    MknodIn { mode: u32, device: u32, umask: u32, padding: u32 }
    /// `fuse_mkdir_in`
    MkdirIn { mode: u32, umask: u32 }
    /// `fuse_rename_in`
    RenameIn { new_dir: u64 }
    /// `fuse_rename2_in`
    Rename2In { new_dir: u64, flags: u32, padding: u32 }
    /// `fuse_link_in`
    LinkIn { old: u64 }
    /// `fuse_read_in`; READDIR and READDIRPLUS have it too, with the cookie as the offset.
    ReadIn { handle: u64, offset: u64, size: u32, read_flags: u32, lock_owner: u64, flags: i32, padding: u32 }
    /// `fuse_write_in`
    WriteIn { handle: u64, offset: u64, size: u32, write_flags: u32, lock_owner: u64, flags: i32, padding: u32 }
    /// `fuse_setxattr_in` without FUSE_SETXATTR_EXT
    SetxattrIn { size: u32, flags: i32 }
    /// `fuse_getxattr_in`; LISTXATTR has it too.
    GetxattrIn { size: u32, padding: u32 }
    /// `fuse_fallocate_in`
    FallocateIn { handle: u64, offset: u64, len: u64, mode: i32, padding: u32 }
    /// `fuse_lseek_in`
    LseekIn { handle: u64, offset: i64, whence: i32, padding: u32 }
    /// `fuse_copy_file_range_in`
    CopyFileRangeIn {
        source_handle: u64, source_offset: u64, target: u64, target_handle: u64, target_offset: u64, len: u64,
        flags: u64,
    }
    /// `fuse_batch_forget_in`
    BatchForgetIn { count: u32, padding: u32 }
    /// `fuse_forget_one`
    ForgetOne { nodeid: u64, count: u64 }
}

// What answers take.
structures! {
    /// `fuse_out_header`
    OutHeader { len: u32, error: i32, unique: u64 }
    /// `fuse_attr`
    AttrOut {
        ino: u64, size: u64, blocks: u64, atime: i64, mtime: i64, ctime: i64, atime_nanos: u32, mtime_nanos: u32,
        ctime_nanos: u32, mode: u32, nlink: u32, uid: u32, gid: u32, rdev: u32, block_size: u32, flags: u32,
    }
    /// `fuse_entry_out`
    EntryOut {
        nodeid: u64, generation: u64, entry_valid: u64, attr_valid: u64, entry_valid_nanos: u32, attr_valid_nanos: u32,
        attr: AttrOut,
    }
    /// `fuse_attr_out`
    GetattrOut { attr_valid: u64, attr_valid_nanos: u32, padding: u32, attr: AttrOut }
    /// `fuse_open_out`
    OpenOut { handle: u64, open_flags: u32, backing_id: u32 }
    /// `fuse_write_out`; COPY_FILE_RANGE has it too.
    WriteOut { size: u32, padding: u32 }
    /// `fuse_copy_file_range_out`
    CopyFileRangeOut { copied: u64 }
    /// `fuse_statfs_out`
    StatfsOut {
        blocks: u64, free: u64, available: u64, inodes: u64, inodes_free: u64, block_size: u32, name_max: u32,
        fragment_size: u32, padding: u32, spare: [u32; 6],
    }
    /// `fuse_getxattr_out`
    GetxattrOut { size: u32, padding: u32 }
    /// `fuse_lseek_out`
    LseekOut { offset: u64 }
    /// `fuse_dirent` without its name
    Dirent { ino: u64, cookie: u64, name_len: u32, kind: u32 }
}

/// Bytes of an operation's fixed arguments, where names or data follow them or where they are looked at.
pub(super) fn arguments_size(operation: u32) -> usize {
    match operation {
        opcode::FORGET => size_of::<u64>(),
        opcode::BATCH_FORGET => size_of::<BatchForgetIn>(),
        opcode::SETATTR => size_of::<SetattrIn>(),
        opcode::MKNOD => size_of::<MknodIn>(),
        opcode::MKDIR => size_of::<MkdirIn>(),
        opcode::RENAME => size_of::<RenameIn>(),
        opcode::RENAME2 => size_of::<Rename2In>(),
        opcode::LINK => size_of::<LinkIn>(),
        opcode::READ | opcode::READDIR | opcode::READDIRPLUS => size_of::<ReadIn>(),
        opcode::WRITE => size_of::<WriteIn>(),
        opcode::SETXATTR => size_of::<SetxattrIn>(),
        opcode::GETXATTR | opcode::LISTXATTR => size_of::<GetxattrIn>(),
        opcode::FALLOCATE => size_of::<FallocateIn>(),
        opcode::LSEEK => size_of::<LseekIn>(),
        opcode::COPY_FILE_RANGE | opcode::COPY_FILE_RANGE_64 => size_of::<CopyFileRangeIn>(),
        _ => 0,
    }
}

// The sizes of the protocol.
const _: () = {
    assert!(size_of::<InHeader>() == 40 && size_of::<OutHeader>() == 16);
    assert!(size_of::<SetattrIn>() == 88 && size_of::<CopyFileRangeIn>() == 56);
    assert!(size_of::<ReadIn>() == 40 && size_of::<WriteIn>() == 40);
    assert!(size_of::<AttrOut>() == 88 && size_of::<EntryOut>() == 128 && size_of::<GetattrOut>() == 104);
    assert!(size_of::<StatfsOut>() == 80 && size_of::<Dirent>() == 24 && size_of::<OpenOut>() == 16);
};
