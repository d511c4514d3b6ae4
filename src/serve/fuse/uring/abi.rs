//! The structures by which io_uring carries requests of the FUSE protocol (include/uapi/linux/fuse.h, version 7.42).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `FUSE_IO_URING_CMD_REGISTER`: hands an entry to the kernel for the first time.
pub(super) const COMMAND_REGISTER: u32 = 1;
/// `FUSE_IO_URING_CMD_COMMIT_AND_FETCH`: answers the entry's request and waits for another.
pub(super) const COMMAND_COMMIT_AND_FETCH: u32 = 2;

/// Bytes of `fuse_uring_req_header::in_out`: the request's header, then the answer's.
pub(super) const IN_OUT_SIZE: usize = 128;
/// Bytes of `fuse_uring_req_header::op_in`: the operation's fixed arguments.
pub(super) const ARGUMENTS_SIZE: usize = 128;
/// Bytes of `fuse_uring_req_header` in all.
pub(super) const HEADER_SIZE: usize = IN_OUT_SIZE + ARGUMENTS_SIZE + size_of::<EntryInOut>();

/// `fuse_uring_ent_in_out`; answers have it too.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct EntryInOut {
    pub(super) flags: u64,
    pub(super) commit_id: u64,
    pub(super) payload_size: u32,
    pub(super) padding: u32,
    pub(super) reserved: u64,
}

/// `fuse_uring_cmd_req`, in the command area of a submission
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct CommandArguments {
    pub(super) flags: u64,
    pub(super) commit_id: u64,
    pub(super) queue: u16,
    pub(super) padding: [u16; 3],
    pub(super) unused: [u64; 7],
}

// The sizes of the protocol.
const _: () = assert!(HEADER_SIZE == 288 && size_of::<CommandArguments>() == 80);
