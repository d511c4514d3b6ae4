//! What a write puts into blocks: given bytes or a run of zeros.

use std::sync::Arc;

use super::run::block_len;
use crate::Result;
use crate::grid::{Block, Namespace};

/// Zeros to write over bytes that are there already.
static ZEROS: [u8; 16 << 10] = [0; 16 << 10];

/// Bytes to be written.
#[derive(Clone, Copy)]
pub(super) enum Data<'a> {
    /// These.
    Bytes(&'a [u8]),
    /// That many zeros.
    Zeros(u64),
}

impl Data<'_> {
    /// Number of bytes.
    pub(super) fn len(self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Zeros(len) => len,
        }
    }

    /// The first `len` bytes.
    pub(super) fn first(self, len: u64) -> Self {
        match self {
            Self::Bytes(bytes) => Self::Bytes(&bytes[..block_len(len) as usize]),
            Self::Zeros(_) => Self::Zeros(len),
        }
    }

    /// What follows the first `len` bytes.
    pub(super) fn behind(self, len: u64) -> Self {
        match self {
            Self::Bytes(bytes) => Self::Bytes(&bytes[block_len(len) as usize..]),
            Self::Zeros(all) => Self::Zeros(all - len),
        }
    }

    /// A new block of `lead` zeros and these bytes.
    pub(super) fn new_block(self, namespace: &Arc<Namespace>, lead: u32) -> Result<Block> {
        match self {
            Self::Bytes(bytes) => namespace.new_block(lead, bytes),
            Self::Zeros(len) => namespace.new_block(lead + block_len(len), &[]),
        }
    }

    /// Writes to a private block, all or nothing; what lies between its end and `offset` becomes zeros.
    ///
    /// # Errors
    /// `NoSpace`, `QuotaExceeded`; never where the block is long enough and plain.
    pub(super) fn write_to(self, block: &Block, offset: u32) -> Result<()> {
        match self {
            Self::Bytes(bytes) => block.write(offset, bytes),
            Self::Zeros(0) => Ok(()),
            Self::Zeros(len) => write_zeros(block, offset, offset + block_len(len)),
        }
    }

    /// Appends the bytes to a buffer.
    pub(super) fn append_to(self, out: &mut Vec<u8>) {
        match self {
            Self::Bytes(bytes) => out.extend_from_slice(bytes),
            Self::Zeros(len) => out.resize(out.len() + block_len(len) as usize, 0),
        }
    }
}

/// Makes `start..end` of a private block zeros. A block that is too short grows first, by its last byte, since the
/// growth alone can fail and brings zeros with it.
fn write_zeros(block: &Block, start: u32, end: u32) -> Result<()> {
    let old_len = block.len();
    if old_len < end {
        block.write(end - 1, &[0])?;
    }
    let mut at = start;
    let end = end.min(old_len);
    while at < end {
        let chunk = ((end - at) as usize).min(ZEROS.len());
        block.write(at, &ZEROS[..chunk])?;
        at += block_len(chunk as u64);
    }
    Ok(())
}
