//! The local filesystem: POSIX semantics over extents. PLACEHOLDER while the pieces are being built in parallel.

use crate::Result;
use crate::clock::Clock;
use crate::grid::{Grid, Namespace, Usage};
use std::sync::Arc;

/// How a volume is made.
#[derive(Clone, Copy, Debug)]
pub struct VolumeConfig {
    /// Most inodes that it may have; `None` leaves the bound to the memory budget.
    pub inodes_max: Option<u64>,
    /// Permission bits of the root directory.
    pub root_mode: u16,
    /// Owner of the root directory.
    pub uid: u32,
    /// Group of the root directory.
    pub gid: u32,
}

/// Totals of a volume for `okapi stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeStat {
    /// The volume's blocks and metadata.
    pub usage: Usage,
    /// Bytes that the files show: extents in full, however often shared.
    pub logical_bytes: u64,
    /// Inodes.
    pub inodes: u64,
    /// Inodes that there can be.
    pub inodes_max: u64,
}

/// One filesystem in one namespace; implements [`crate::vfs::Vfs`].
pub struct Volume {}
impl Volume {
    /// A new, empty volume in `namespace`.
    pub fn new(
        grid: &Arc<Grid>,
        namespace: Arc<Namespace>,
        clock: Arc<dyn Clock>,
        config: VolumeConfig,
    ) -> Result<Arc<Self>> {
        let _ = (grid, namespace, clock, config);
        todo!()
    }
    /// Totals.
    pub fn stat(&self) -> VolumeStat {
        todo!()
    }
    /// Verifies every structure of the volume: tables, link counts, extents, accounting. Writers wait meanwhile.
    pub fn check(&self) -> Result<CheckReport> {
        todo!()
    }
}
/// What a check went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    pub inodes: u64,
    pub directories: u64,
    pub entries: u64,
    pub extents: u64,
}
