//! The volume: how it is made, what it has, its totals.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::backlog::Backlog;
use super::compress::Compress;
use super::dedup::Dedup;
use super::inode::change::{Books, Change, Gate, Structure};
use super::inode::{Body, Directory, Inode, MODE_MASK, Meta, NewInode};
use super::looks::Looks;
use super::snapshot::history::History;
use super::snapshot::list::Snapshots;
use super::snapshot::usage::SnapshotUsage;
use super::table::Table;
use crate::clock::{Clock, Timestamp};
use crate::grid::{Grid, Namespace, Usage};
use crate::limits::{DENTRY_COST, INODE_COST};
use crate::vfs::{FileKind, Ino, Outdated, StatFs};
use crate::{Error, ErrorKind, Result};

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
    /// When equal blocks are looked for. Whoever sets `Idle` or `Inline` starts a [`Sealer`](super::Sealer) too.
    pub dedup: Dedup,
    /// How blocks are held that were left alone. Whoever compresses starts a [`Sealer`](super::Sealer) too.
    pub compress: Compress,
}

/// As many inodes as fit, a root directory of user 0 that all may read, no deduplication, no
/// compression.
impl Default for VolumeConfig {
    fn default() -> Self {
        Self {
            inodes_max: None,
            root_mode: 0o755,
            uid: 0,
            gid: 0,
            dedup: Dedup::Off,
            compress: Compress::Off,
        }
    }
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
    /// Snapshots.
    pub snapshots: u64,
    /// Memory of files' bytes that only snapshots hold.
    pub snapshot_bytes: u64,
    /// Inodes that wait to be sealed.
    pub unsealed_inodes: u64,
}

/// One filesystem in one namespace; implements [`Vfs`](crate::vfs::Vfs).
pub struct Volume {
    pub(super) grid: Arc<Grid>,
    pub(super) namespace: Arc<Namespace>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) table: Table,
    /// First in the lock order: see [`super`] for what runs one at a time.
    pub(super) managing: Mutex<()>,
    /// The gate, first in the lock order of operations (see [`super`]); shared by all that change something.
    pub(super) snapshots: RwLock<Snapshots>,
    /// See [`super`].
    pub(super) structure: RwLock<()>,
    pub(super) history: History,
    /// Immutable.
    pub(super) dedup: Dedup,
    /// Immutable.
    pub(super) compress: Compress,
    /// What waits to be sealed; its lock is below all others.
    pub(super) backlog: Arc<Backlog>,
    /// Tells the frontend what it may remember no more; called with no lock but `managing`.
    pub(super) outdated: RwLock<Box<Forget>>,
    /// Files that are compared, which makes a full volume refuse more than it must.
    pub(super) looks: Looks,
    /// Unlinked files that stayed when a writer waited for them to be forgotten.
    lasting_orphans: AtomicU64,
}

/// What a frontend does about outdated knowledge.
pub(super) type Forget = dyn Fn(&[Outdated]) + Send + Sync;

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
        let now = clock.now();
        let meta = Meta::new(config.root_mode & MODE_MASK, (config.uid, config.gid), 2, now);
        let root = NewInode {
            ino,
            kind: FileKind::Directory,
            lookups: 1,
            meta,
            body: Body::Directory(Directory::new(Ino::ROOT)),
        };
        reservation.insert(Inode::new(root, 0));
        Ok(Arc::new(Self {
            grid: Arc::clone(grid),
            history: History::new(Arc::clone(&namespace)),
            namespace,
            clock,
            table,
            dedup: config.dedup,
            compress: config.compress,
            backlog: Arc::default(),
            managing: Mutex::new(()),
            snapshots: RwLock::new(Snapshots::new(now)),
            structure: RwLock::new(()),
            outdated: RwLock::new(Box::new(|_| {})),
            looks: Looks::default(),
            lasting_orphans: AtomicU64::new(0),
        }))
    }

    /// Totals; walks all inodes, and all extents where there are snapshots.
    pub fn stat(&self) -> VolumeStat {
        let held = |inode: &Arc<Inode>| inode.content().map_or(0, |content| content.held_bytes());
        VolumeStat {
            usage: self.namespace.usage(),
            logical_bytes: self.table.snapshot().iter().map(held).sum(),
            inodes: self.table.len(),
            inodes_max: self.totals().inodes_max,
            snapshots: self.snapshots.read().shown().count() as u64,
            snapshot_bytes: SnapshotUsage::of_all(&self.history, &self.table).total_bytes(),
            unsealed_inodes: self.backlog.len(),
        }
    }

    /// Begins a change of attributes or bytes.
    pub(super) fn change(&self) -> Change<'_> {
        self.change_under(Gate::Shared(self.snapshots.read()), Structure::free)
    }

    /// Begins a change of names in one directory.
    pub(super) fn change_names(&self) -> Change<'_> {
        self.change_under(Gate::Shared(self.snapshots.read()), Structure::shared)
    }

    /// Begins a change of names that meets no other.
    pub(super) fn change_names_alone(&self) -> Change<'_> {
        self.change_under(Gate::Shared(self.snapshots.read()), Structure::exclusive)
    }

    /// Begins a change; the gate is passed before the structure is locked.
    pub(super) fn change_under<'v>(
        &'v self,
        gate: Gate<'v>,
        structure: impl FnOnce(&'v RwLock<()>) -> Structure<'v>,
    ) -> Change<'v> {
        let books = Books {
            table: &self.table,
            history: &self.history,
            backlog: self.is_settling().then_some(&self.backlog),
        };
        Change::new(gate, structure(&self.structure), books)
    }

    /// Whether something is done with files that were left alone.
    pub(super) fn is_settling(&self) -> bool {
        self.dedup != Dedup::Off || self.compress != Compress::Off
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
    /// last use of a file only afterwards. Where files were compared meanwhile, it waits for that to pause. No lock may
    /// be held.
    ///
    /// Files that are unlinked and still open look the same: after one wait in vain nobody waits for so many again.
    pub(super) fn with_room<T>(&self, mut operation: impl FnMut() -> Result<T>) -> Result<T> {
        let mut turn = None;
        for wait in 0..ROOM_WAITS {
            let orphans = self.table.orphans();
            let ended = self.looks.ended();
            let _turn = turn.take();
            let full = match operation() {
                Err(error) if is_full(&error) => error,
                done => return done,
            };
            let looked = self.looks.since(ended);
            let unlinked = full.kind() == ErrorKind::NoSpace
                && orphans > self.lasting_orphans.fetch_min(orphans, Ordering::Relaxed);
            if !looked && !unlinked {
                return Err(full);
            }
            turn = looked.then(|| self.looks.turn());
            if unlinked {
                thread::sleep(Duration::from_millis(1 << wait));
            }
        }
        self.lasting_orphans
            .store(self.table.orphans(), Ordering::Relaxed);
        let _turn = turn;
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

fn is_full(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NoSpace | ErrorKind::QuotaExceeded)
}
