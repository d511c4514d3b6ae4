//! What drivers and disks say to each other (virtio 1.2, 2.7 and 5.2.6).

/// Types of requests (virtio 1.2, 5.2.6).
pub mod kind {
    /// Read.
    pub const IN: u32 = 0;
    /// Write.
    pub const OUT: u32 = 1;
    /// Flush.
    pub const FLUSH: u32 = 4;
    /// Tell the disk's name.
    pub const GET_ID: u32 = 8;
    /// Give memory back.
    pub const DISCARD: u32 = 11;
    /// Make zeros.
    pub const WRITE_ZEROES: u32 = 13;
}

/// How requests end.
pub mod status {
    /// Done.
    pub const OK: u8 = 0;
    /// Failed.
    pub const IOERR: u8 = 1;
    /// Unknown.
    pub const UNSUPP: u8 = 2;
}

/// Bits of features.
pub mod feature {
    /// No writes.
    pub const RO: u64 = 1 << 5;
    /// Discard.
    pub const DISCARD: u64 = 1 << 13;
    /// Write zeroes.
    pub const WRITE_ZEROES: u64 = 1 << 14;
    /// Descriptors in tables of their own.
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// Notifications by index.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// Virtio 1.
    pub const VERSION_1: u64 = 1 << 32;
}

/// Flags of descriptors.
pub mod flag {
    /// Another one follows.
    pub const NEXT: u16 = 1;
    /// The disk writes there.
    pub const WRITE: u16 = 2;
    /// It names a table of descriptors.
    pub const INDIRECT: u16 = 4;
}
/// Descriptors of a queue.
pub const QUEUE_SIZE: u16 = 256;

/// `struct virtq_desc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// In the guest's memory.
    pub address: u64,
    /// Bytes.
    pub len: u32,
    /// Of [`flag`].
    pub flags: u16,
    /// Place of the next one.
    pub next: u16,
}

/// How requests are laid out.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Bytes of data for each descriptor.
    pub segment_bytes: usize,
    /// Whether header and data, data and status share descriptors where they can.
    pub joined: bool,
    /// Whether descriptors are in a table of their own.
    pub indirect: bool,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            segment_bytes: 65_536,
            joined: false,
            indirect: false,
        }
    }
}
/// As the tables have them.
pub(super) fn encoded(descriptors: &[Descriptor]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for descriptor in descriptors {
        bytes.extend_from_slice(&descriptor.address.to_le_bytes());
        bytes.extend_from_slice(&descriptor.len.to_le_bytes());
        bytes.extend_from_slice(&descriptor.flags.to_le_bytes());
        bytes.extend_from_slice(&descriptor.next.to_le_bytes());
    }
    bytes
}

/// A chain of address, length, and whether the disk writes there.
pub fn linked(parts: &[(u64, usize, bool)]) -> Vec<Descriptor> {
    let last = parts.len().saturating_sub(1);
    let link = |(place, &(address, len, writes)): (usize, &(u64, usize, bool))| Descriptor {
        address,
        len: len as u32,
        flags: if writes { flag::WRITE } else { 0 } | if place < last { flag::NEXT } else { 0 },
        next: if place < last { place as u16 + 1 } else { 0 },
    };
    parts.iter().enumerate().map(link).collect()
}
