//! Content: the bytes of a file as a copy-on-write map of extents. It knows no names.
//!
//! PLACEHOLDER while the pieces are being built in parallel.

use crate::Result;
use crate::grid::Namespace;
use crate::range::ByteRange;
use std::sync::Arc;

/// The bytes of one file: a length and a map of extents.
#[derive(Default)]
pub struct Content {}
impl Content {
    pub fn new() -> Self {
        todo!()
    }
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        todo!()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Memory of all extents, counting shared ones in full (for st_blocks).
    pub fn held_bytes(&self) -> u64 {
        todo!()
    }
    /// Pins the bytes of `offset..offset+len` (cut at the end of the file), to be copied out without a lock on the content.
    pub fn plan(&self, offset: u64, len: usize) -> ReadPlan {
        todo!("{offset} {len}")
    }
    /// Writes; returns how many bytes fitted (all of them but at the bound). On an error nothing has changed.
    pub fn write(&mut self, namespace: &Arc<Namespace>, offset: u64, bytes: &[u8]) -> Result<usize> {
        todo!("{} {offset} {}", namespace.name(), bytes.len())
    }
    pub fn set_len(&mut self, len: u64) {
        todo!("{len}")
    }
    pub fn punch(&mut self, namespace: &Arc<Namespace>, range: ByteRange) -> Result<()> {
        todo!("{} {range:?}", namespace.name())
    }
    /// Backs the range with memory; the length stays. All or nothing.
    pub fn allocate(&mut self, namespace: &Arc<Namespace>, range: ByteRange) -> Result<()> {
        todo!("{} {range:?}", namespace.name())
    }
    /// Makes the range read as zeros and backs it with memory; the length stays.
    pub fn zero(&mut self, namespace: &Arc<Namespace>, range: ByteRange) -> Result<()> {
        todo!("{} {range:?}", namespace.name())
    }
    pub fn seek_data(&self, offset: u64) -> Option<u64> {
        todo!("{offset}")
    }
    pub fn seek_hole(&self, offset: u64) -> Option<u64> {
        todo!("{offset}")
    }
    /// The bytes of a range, pinned, to be put elsewhere with [`Content::paste`].
    pub fn clip(&self, range: ByteRange) -> Clip {
        todo!("{range:?}")
    }
    /// Puts a clip at `offset`: shares whole pages where source and target agree modulo the page size, copies the rest.
    /// Returns bytes done; fewer only at the bound.
    pub fn paste(&mut self, namespace: &Arc<Namespace>, offset: u64, clip: &Clip) -> Result<u64> {
        let _ = (namespace, offset, clip);
        todo!()
    }
    /// Verifies every invariant.
    pub fn check(&self) -> Result<()> {
        todo!()
    }
}
pub struct ReadPlan {}
impl ReadPlan {
    /// Bytes that the plan yields.
    pub fn len(&self) -> usize {
        todo!()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Appends the bytes to `out`.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        out.clear();
        todo!()
    }
}
pub struct Clip {}
