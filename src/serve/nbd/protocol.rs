//! The numbers of the NBD protocol.

/// What a server says first: `NBDMAGIC`, `IHAVEOPT`, and its handshake flags.
pub const GREETING: [u8; 18] = *b"NBDMAGICIHAVEOPT\x00\x03";
/// Before each option of a client.
pub const OPTION_MAGIC: [u8; 8] = *b"IHAVEOPT";
/// Before each reply to an option.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// Before each request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// Before a reply that is an error number, and the bytes of a read.
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// Before each chunk of a structured reply.
pub const CHUNK_MAGIC: u32 = 0x668e_33ef;

/// Flags of a client's greeting.
pub mod client_flag {
    /// The client speaks the fixed newstyle.
    pub const FIXED_NEWSTYLE: u32 = 1 << 0;
    /// No zeros behind the answer to EXPORT_NAME.
    pub const NO_ZEROES: u32 = 1 << 1;
    /// All that are known.
    pub const ALL: u32 = FIXED_NEWSTYLE | NO_ZEROES;
}

/// Codes of options.
pub mod option {
    /// Choose an export, without an answer in words.
    pub const EXPORT_NAME: u32 = 1;
    /// End the connection.
    pub const ABORT: u32 = 2;
    /// Name the exports.
    pub const LIST: u32 = 3;
    /// Tell about an export.
    pub const INFO: u32 = 6;
    /// Tell about an export and choose it.
    pub const GO: u32 = 7;
    /// Answer requests in chunks.
    pub const STRUCTURED_REPLY: u32 = 8;
    /// Name metadata contexts.
    pub const LIST_META_CONTEXT: u32 = 9;
    /// Choose metadata contexts.
    pub const SET_META_CONTEXT: u32 = 10;
}

/// Types of replies to options.
pub mod option_reply {
    /// Done.
    pub const ACK: u32 = 1;
    /// An export's name.
    pub const SERVER: u32 = 2;
    /// Something about an export.
    pub const INFO: u32 = 3;
    /// A metadata context.
    pub const META_CONTEXT: u32 = 4;
    /// An unknown option.
    pub const ERR_UNSUP: u32 = (1 << 31) + 1;
    /// An option that makes no sense.
    pub const ERR_INVALID: u32 = (1 << 31) + 3;
    /// An unknown export.
    pub const ERR_UNKNOWN: u32 = (1 << 31) + 6;
    /// An option that is too long.
    pub const ERR_TOO_BIG: u32 = (1 << 31) + 9;
}

/// Kinds of information about an export.
pub mod info {
    /// Size and transmission flags.
    pub const EXPORT: u16 = 0;
    /// Least, preferred and largest length of a request.
    pub const BLOCK_SIZE: u16 = 3;
}

/// What an export can do.
pub mod transmission_flag {
    /// Always set.
    pub const HAS_FLAGS: u16 = 1 << 0;
    /// Writes are refused.
    pub const READ_ONLY: u16 = 1 << 1;
    /// FLUSH is understood.
    pub const SEND_FLUSH: u16 = 1 << 2;
    /// FUA is understood.
    pub const SEND_FUA: u16 = 1 << 3;
    /// TRIM is understood.
    pub const SEND_TRIM: u16 = 1 << 5;
    /// WRITE_ZEROES is understood.
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
    /// DF is understood.
    pub const SEND_DF: u16 = 1 << 7;
    /// Several connections see the same bytes.
    pub const CAN_MULTI_CONN: u16 = 1 << 8;
    /// FAST_ZERO is understood.
    pub const SEND_FAST_ZERO: u16 = 1 << 11;
}

/// Flags of a request.
pub mod command_flag {
    /// Answer when what was written is as safe as it will be.
    pub const FUA: u16 = 1 << 0;
    /// Zeros that keep their memory.
    pub const NO_HOLE: u16 = 1 << 1;
    /// One chunk for all bytes that are read.
    pub const DF: u16 = 1 << 2;
    /// One run of the block status.
    pub const REQ_ONE: u16 = 1 << 3;
    /// Zeros faster than by writing them, or not at all.
    pub const FAST_ZERO: u16 = 1 << 4;
}

/// Types of chunks.
pub mod chunk {
    /// Nothing more.
    pub const NONE: u16 = 0;
    /// Bytes at an offset.
    pub const OFFSET_DATA: u16 = 1;
    /// Zeros at an offset.
    pub const OFFSET_HOLE: u16 = 2;
    /// Runs of a metadata context.
    pub const BLOCK_STATUS: u16 = 5;
    /// An error number.
    pub const ERROR: u16 = (1 << 15) + 1;
    /// Flag: the last chunk of a reply.
    pub const DONE: u16 = 1;
}

/// The metadata context that says where memory is.
pub const ALLOCATION: &[u8] = b"base:allocation";
/// Its number in replies.
pub const ALLOCATION_ID: u32 = 1;
/// The state of a hole: no memory, reads as zeros.
pub const STATE_HOLE_ZERO: u32 = 0b11;
/// The metadata context that says where an image differs from its base.
pub const DIFFERENCE: &[u8] = b"okapi:diff";
/// Its number in replies.
pub const DIFFERENCE_ID: u32 = 2;
/// The state of bytes that differ.
pub const STATE_DIFFERS: u32 = 1;

/// Error numbers of replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    /// A write to what is read-only.
    NotPermitted = 1,
    /// Damage, or the image is gone.
    InputOutput = 5,
    /// The host refused memory.
    NoMemory = 12,
    /// A request that makes no sense.
    Invalid = 22,
    /// The drive is full, or a write behind the end of the image.
    NoSpace = 28,
    /// More than one chunk holds.
    Overflow = 75,
    /// Zeros cannot be had fast.
    NotSupported = 95,
    /// The server is about to end.
    Shutdown = 108,
}
