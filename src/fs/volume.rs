//! The volume: how it is made, what it has, its totals.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::inode::{Body, Directory, Inode, MODE_MASK, Meta};
use super::table::Table;
use crate::clock::{Clock, Timestamp};
use crate::grid::{Grid, Namespace, Usage};
use crate::limits::{DENTRY_COST, INODE_COST};
use crate::vfs::{FileKind, Ino, StatFs};
use crate::{ErrorKind, Result};

/// How often a full volume waits for unlinked files to be forgotten: at first 1 ms, then twice as long each time.
const ROOM_WAITS: u32 = 6;

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
    /// Memory that the files would take without sharing: extents in full, however often shared.
    pub logical_bytes: u64,
    /// Inodes.
    pub inodes: u64,
    /// Inodes that there can be.
    pub inodes_max: u64,
}

/// One filesystem in one namespace; implements [`Vfs`](crate::vfs::Vfs).
pub struct Volume {
    pub(super) grid: Arc<Grid>,
    pub(super) namespace: Arc<Namespace>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) table: Table,
    /// First in the lock order (see [`super`]).
    pub(super) structure: RwLock<()>,
    /// Unlinked files that stayed when a writer waited for them to be forgotten.
    lasting_orphans: AtomicU64,
}

impl Volume {
    /// A new, empty volume in `namespace`.
    ///
    /// # Errors
    /// `NoSpace` where not even the root directory fits.
    pub fn new(
        grid: &Arc<Grid>,
        namespace: Arc<Namespace>,
        clock: Arc<dyn Clock>,
        config: VolumeConfig,
    ) -> Result<Arc<Self>> {
        let table = Table::new(Arc::clone(&namespace), config.inodes_max);
        let reservation = table.reserve(0)?;
        let ino = reservation.number();
        debug_assert_eq!(ino, Ino::ROOT, "the first number is the root's");
        reservation.insert(Inode {
            ino,
            kind: FileKind::Directory,
            lookups: AtomicU64::new(1),
            readers: RwLock::new(()),
            meta: Mutex::new(Meta::new(
                config.root_mode & MODE_MASK,
                (config.uid, config.gid),
                2,
                clock.now(),
            )),
            body: Body::Directory(Directory::new(Ino::ROOT)),
        });
        let structure = RwLock::new(());
        Ok(Arc::new(Self {
            grid: Arc::clone(grid),
            namespace,
            clock,
            table,
            structure,
            lasting_orphans: AtomicU64::new(0),
        }))
    }

    /// Totals; walks all inodes.
    pub fn stat(&self) -> VolumeStat {
        let held = |inode: &Arc<Inode>| inode.content().map_or(0, |content| content.read().held_bytes());
        VolumeStat {
            usage: self.namespace.usage(),
            logical_bytes: self.table.snapshot().iter().map(held).sum(),
            inodes: self.table.len(),
            inodes_max: self.totals().inodes_max,
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Bytes that can still be taken: the grid's budget and the namespace's quota both bound it.
    fn free_bytes(&self) -> u64 {
        let free = |usage: Usage| {
            usage
                .limit_bytes
                .saturating_sub(usage.held_bytes + usage.metadata_bytes)
        };
        free(self.grid.usage()).min(free(self.namespace.usage()))
    }

    /// Drops look-ups of an inode, which may be its death; returns whether they were the last. No lock may be held.
    pub(super) fn drop_lookups(&self, ino: Ino, count: u64) -> bool {
        let structure = self.structure.read();
        let inode = self.table.forget_locked(ino, count);
        let forgotten = inode.is_some();
        let dead = inode.and_then(|inode| self.table.take_dead_locked(&inode));
        drop(structure);
        // Its content ends without a lock.
        drop(dead);
        forgotten
    }

    /// Runs an operation that needs memory; where there is none, but unlinked files wait to be forgotten, it gives the
    /// frontend a moment to pass that on. So `rm` makes room for the very next write, though a kernel tells of the
    /// last use of a file only afterwards. No lock may be held.
    ///
    /// Files that are unlinked and still open look the same: after one wait in vain nobody waits for so many again.
    pub(super) fn with_room<T>(&self, mut operation: impl FnMut() -> Result<T>) -> Result<T> {
        for wait in 0..ROOM_WAITS {
            let orphans = self.table.orphans();
            match operation() {
                Err(full)
                    if full.kind() == ErrorKind::NoSpace
                        && orphans > self.lasting_orphans.fetch_min(orphans, Ordering::Relaxed) =>
                {
                    thread::sleep(Duration::from_millis(1 << wait));
                }
                done => return done,
            }
        }
        self.lasting_orphans
            .store(self.table.orphans(), Ordering::Relaxed);
        operation()
    }

    /// Totals as statvfs(3) wants them.
    pub(super) fn totals(&self) -> StatFs {
        let free_bytes = self.free_bytes();
        let usage = self.namespace.usage();
        let inodes = self.table.len();
        let fitting = free_bytes / (INODE_COST + DENTRY_COST);
        let inodes_free = self
            .table
            .max()
            .map_or(fitting, |max| max.saturating_sub(inodes).min(fitting));
        StatFs {
            size_bytes: free_bytes + usage.held_bytes + usage.metadata_bytes,
            free_bytes,
            inodes_max: self.table.max().unwrap_or(inodes + inodes_free),
            inodes_free,
            block_size: self.namespace.block_size(),
        }
    }
}
