//! What a partition is.

/// A partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// As Linux counts: from 1, logical ones of an MBR from 5.
    pub number: u32,
    /// Offset of its first byte.
    pub start: u64,
    /// Bytes.
    pub len: u64,
}
