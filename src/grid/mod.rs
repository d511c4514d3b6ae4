//! The grid: sparse arrays of memory blocks, under one budget. It knows no files.
//!
//! PLACEHOLDER while the pieces are being built in parallel.

use crate::Result;
use std::sync::Arc;

/// Index of a block in its namespace: 0 to 2^48 - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockIndex(u64);
impl BlockIndex {
    pub fn new(index: u64) -> Result<Self> {
        todo!("{index}")
    }
    pub fn get(self) -> u64 {
        self.0
    }
}

/// Bytes `offset..offset+len` of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    pub offset: u32,
    pub len: u32,
}

#[derive(Clone, Copy, Debug)]
pub struct GridConfig {
    pub size_bytes: u64,
    pub block_size: u32,
}

/// What a grid or namespace holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Blocks.
    pub blocks: u64,
    /// Bytes stored in blocks (their lengths).
    pub stored_bytes: u64,
    /// Bytes of memory that these blocks take (size classes).
    pub held_bytes: u64,
    /// Bytes charged for metadata.
    pub metadata_bytes: u64,
    /// Bound on held + metadata (budget of the grid; quota of a namespace, u64::MAX where none).
    pub limit_bytes: u64,
}

pub struct Grid {}
impl Grid {
    pub fn new(config: GridConfig) -> Result<Arc<Self>> {
        todo!("{config:?}")
    }
    pub fn block_size(&self) -> u32 {
        todo!()
    }
    /// The namespace of that name, made with this quota where missing.
    pub fn create_namespace(
        self: &Arc<Self>,
        name: &str,
        quota_bytes: Option<u64>,
    ) -> Result<Arc<Namespace>> {
        todo!("{name} {quota_bytes:?}")
    }
    pub fn namespace(&self, name: &str) -> Option<Arc<Namespace>> {
        todo!("{name}")
    }
    pub fn namespaces(&self) -> Vec<Arc<Namespace>> {
        todo!()
    }
    pub fn remove_namespace(&self, name: &str) -> Result<()> {
        todo!("{name}")
    }
    pub fn usage(&self) -> Usage {
        todo!()
    }
    /// Bytes of the arena that are backed by pages just now (at least held_bytes).
    pub fn resident_bytes(&self) -> u64 {
        todo!()
    }
    /// Gives the pages of free slots back to the system; returns how many bytes.
    pub fn trim(&self) -> u64 {
        todo!()
    }
    pub fn check(&self) -> Result<()> {
        todo!()
    }
}

pub struct Namespace {}
impl Namespace {
    pub fn name(&self) -> &str {
        todo!()
    }
    pub fn block_size(&self) -> u32 {
        todo!()
    }
    pub fn usage(&self) -> Usage {
        todo!()
    }
    pub fn set_quota(&self, quota_bytes: Option<u64>) {
        todo!("{quota_bytes:?}")
    }

    // keyed blocks -----------------------------------------------------------------------------------------
    /// Hands the bytes of each slice to `sink(position in requests, bytes)`; an empty index, and what lies behind a
    /// block's end, is zero bytes (a shorter or empty slice).
    pub fn get(&self, requests: &[(BlockIndex, Slice)], sink: &mut dyn FnMut(usize, &[u8])) {
        todo!("{}", requests.len());
    }
    /// Stores bytes at offsets inside blocks; no bytes delete the block.
    pub fn put(self: &Arc<Self>, requests: &[(BlockIndex, u32, &[u8])]) -> Result<()> {
        todo!("{}", requests.len())
    }
    /// Occupied indexes from `from` on, ascending, with their lengths in bytes; at most `max`.
    pub fn keys(&self, from: BlockIndex, max: usize) -> Vec<(BlockIndex, u32)> {
        todo!("{from:?} {max}")
    }
    /// A record of any length: spread over the blocks from `first` on.
    pub fn put_record(self: &Arc<Self>, first: BlockIndex, bytes: &[u8]) -> Result<()> {
        todo!("{first:?} {}", bytes.len())
    }
    pub fn get_record(&self, first: BlockIndex, out: &mut Vec<u8>) -> Result<()> {
        todo!("{first:?} {}", out.len())
    }

    // owned blocks -----------------------------------------------------------------------------------------
    /// A new open block at a fresh index holding `zeros` zero bytes followed by `bytes`.
    pub fn new_block(self: &Arc<Self>, zeros: u32, bytes: &[u8]) -> Result<Block> {
        todo!("{zeros} {}", bytes.len())
    }

    // metadata ---------------------------------------------------------------------------------------------
    /// Charges metadata to budget and quota.
    pub fn charge(&self, bytes: u64) -> Result<()> {
        todo!("{bytes}")
    }
    /// Returns what `charge` took.
    pub fn release(&self, bytes: u64) {
        todo!("{bytes}")
    }
}

/// A counted handle on a block that is owned, not keyed: the block lives as long as one of its handles.
#[derive(Clone)]
pub struct Block {}
impl Block {
    pub fn index(&self) -> BlockIndex {
        todo!()
    }
    /// Bytes in the block, 0 to the block size.
    pub fn len(&self) -> u32 {
        todo!()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Memory that the block takes: the size class of its length.
    pub fn held_bytes(&self) -> u32 {
        todo!()
    }
    /// Whether another handle exists, so that the block must not be written to.
    pub fn is_shared(&self) -> bool {
        todo!()
    }
    /// Calls `f` with the bytes of the slice (cut at the block's end) under the block's read lock.
    pub fn read<R>(&self, slice: Slice, f: impl FnOnce(&[u8]) -> R) -> R {
        let _ = slice;
        let _ = f;
        todo!()
    }
    /// Writes at `offset`; what lies between the old end and `offset` becomes zeros. Grows the block's memory where
    /// needed. On an error nothing has changed.
    pub fn write(&self, offset: u32, bytes: &[u8]) -> Result<()> {
        todo!("{offset} {}", bytes.len())
    }
    /// Cuts the block to `len` bytes, moving it to less memory where a smaller class fits.
    pub fn truncate(&self, len: u32) {
        todo!("{len}")
    }
}
/// Memory that a block of `len` bytes takes.
pub fn class_bytes(len: u32) -> u32 {
    todo!("{len}")
}
