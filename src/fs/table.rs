//! The inode table: numbers to inodes, what they are charged, and when they die.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

use super::inode::Inode;
use crate::grid::Namespace;
use crate::limits::{INO_BITS, INODE_COST};
use crate::vfs::Ino;
use crate::{Error, ErrorKind, Result};

/// Locks that the table is spread over.
const SHARDS: usize = 64;

/// All inodes of a volume.
///
/// An inode is in the table from its making until it has neither a name nor a look-up; each charges
/// `INODE_COST + extra` to the namespace for as long, where `extra` is the length of a symlink's target.
pub(super) struct Table {
    inodes: DashMap<u64, Arc<Inode>>,
    next: AtomicU64,
    count: AtomicU64,
    /// Inodes without a name that a look-up keeps.
    orphans: AtomicU64,
    max: Option<u64>,
    namespace: Arc<Namespace>,
}

/// The right to add one inode; gives its charge back unless it is used.
pub(super) struct Reservation<'a> {
    table: &'a Table,
    cost: u64,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.table.count.fetch_sub(1, Ordering::Relaxed);
        self.table.namespace.release(self.cost);
    }
}

impl Reservation<'_> {
    /// The number for the new inode.
    pub(super) fn number(&self) -> Ino {
        Ino(self.table.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Adds the inode, which keeps the charge from now on.
    pub(super) fn insert(self, inode: Inode) -> Arc<Inode> {
        let inode = Arc::new(inode);
        self.table.inodes.insert(inode.ino.0, Arc::clone(&inode));
        std::mem::forget(self);
        inode
    }
}

impl Table {
    pub(super) fn new(namespace: Arc<Namespace>, max: Option<u64>) -> Self {
        Self {
            inodes: DashMap::with_shard_amount(SHARDS),
            next: AtomicU64::new(Ino::ROOT.0),
            count: AtomicU64::new(0),
            orphans: AtomicU64::new(0),
            max,
            namespace,
        }
    }

    /// Charges for one more inode with `extra` bytes beside it.
    ///
    /// # Errors
    /// `NoSpace` at the largest number of inodes or at the budget, `QuotaExceeded`.
    pub(super) fn reserve(&self, extra: u64) -> Result<Reservation<'_>> {
        let cost = INODE_COST + extra;
        self.namespace.charge(cost)?;
        let before = self.count.fetch_add(1, Ordering::Relaxed);
        let reservation = Reservation { table: self, cost };
        if self.next() >> INO_BITS != 0 {
            return Err(Error::new(ErrorKind::NoSpace, "all inode numbers are used up"));
        }
        match self.max {
            Some(max) if before >= max => Err(Error::new(
                ErrorKind::NoSpace,
                format!("all {max} inodes are in use"),
            )),
            Some(_) | None => Ok(reservation),
        }
    }

    /// The inode, or `Stale`.
    pub(super) fn get(&self, ino: Ino) -> Result<Arc<Inode>> {
        match self.inodes.get(&ino.0) {
            Some(inode) => Ok(Arc::clone(&inode)),
            None => Err(ErrorKind::Stale.into()),
        }
    }

    /// Takes `count` look-ups off; returns the inode where that were the last, to be taken out if it has no name before
    /// the caller lets go of the structure lock.
    pub(super) fn forget_locked(&self, ino: Ino, count: u64) -> Option<Arc<Inode>> {
        let inode = self.get(ino).ok()?;
        let less = |lookups: u64| Some(lookups.saturating_sub(count));
        let before = inode
            .lookups
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, less)
            .unwrap_or(0);
        (before <= count).then_some(inode)
    }

    /// Takes the inode out if it has neither names nor look-ups. The caller holds the structure lock, and drops what
    /// is returned without it: the content dies there.
    pub(super) fn take_dead_locked(&self, inode: &Inode) -> Option<Arc<Inode>> {
        let dead = |_: &u64, inode: &Arc<Inode>| {
            inode.lookups.load(Ordering::Acquire) == 0 && inode.meta().nlink == 0
        };
        let (_, inode) = self.inodes.remove_if(&inode.ino.0, dead)?;
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.orphans.fetch_sub(1, Ordering::Relaxed);
        self.namespace.release(inode.cost());
        Some(inode)
    }

    /// Adds an inode that a snapshot has kept; its charge is taken already.
    pub(super) fn revive(&self, inode: Inode) -> Arc<Inode> {
        let inode = Arc::new(inode);
        self.inodes.insert(inode.ino.0, Arc::clone(&inode));
        self.count.fetch_add(1, Ordering::Relaxed);
        inode
    }

    /// The number of the next inode that is made.
    pub(super) fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Notes that an inode without a name has one again.
    pub(super) fn note_named_again(&self) {
        self.orphans.fetch_sub(1, Ordering::Relaxed);
    }

    /// Notes that an inode has lost its last name; the caller holds its `meta`, and tries to take it out later.
    pub(super) fn note_orphan_locked(&self) {
        self.orphans.fetch_add(1, Ordering::Relaxed);
    }

    /// Inodes without a name that a look-up keeps.
    pub(super) fn orphans(&self) -> u64 {
        self.orphans.load(Ordering::Relaxed)
    }

    /// Number of inodes.
    pub(super) fn len(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// The bound that was set.
    pub(super) fn max(&self) -> Option<u64> {
        self.max
    }

    /// The numbers of all inodes of this moment that `wanted` approves.
    pub(super) fn numbers(&self, wanted: impl Fn(&Inode) -> bool) -> Vec<Ino> {
        let wanted = self.inodes.iter().filter(|entry| wanted(entry.value()));
        wanted.map(|entry| Ino(*entry.key())).collect()
    }

    /// All inodes of this moment.
    pub(super) fn snapshot(&self) -> Vec<Arc<Inode>> {
        self.inodes
            .iter()
            .map(|entry| Arc::clone(entry.value()))
            .collect()
    }
}
