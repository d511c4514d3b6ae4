//! Who may take how many bytes: the budget of the grid, the quota and the figures of each namespace.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::apart::Apart;
use super::arena::{Arena, Slot};
use super::bell::Bell;
use super::class::Class;
use super::figures::{Compressed, Figures};
use super::heap::Heap;
use crate::limits::{BLOCK_COST, COMPACT_MIN, SEAL_COST, SEAL_SHARE, SLACK_BYTES, SLACK_SHARE, WASTE_SHARE};
use crate::{Error, ErrorKind, Result};

/// What a grid or namespace holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Blocks.
    pub blocks: u64,
    /// Sealed blocks among them.
    pub sealed_blocks: u64,
    /// Bytes stored in blocks (their lengths).
    pub stored_bytes: u64,
    /// Bytes of memory that these blocks take (size classes).
    pub held_bytes: u64,
    /// Blocks that are held compressed.
    pub compressed_blocks: u64,
    /// Bytes of memory that these would take if they were not (size classes).
    pub compressed_plain_bytes: u64,
    /// Bytes of memory that they take; part of `held_bytes`.
    pub compressed_held_bytes: u64,
    /// Bytes charged for metadata: [`BLOCK_COST`] per block, [`SEAL_COST`] per sealed one, and what users of the grid
    /// charge for their own, the nodes of their maps among it.
    pub metadata_bytes: u64,
    /// Bound on held and metadata bytes (budget of the grid; quota of a namespace, `u64::MAX` where none).
    pub limit_bytes: u64,
}

impl Usage {
    /// Bytes of memory that blocks would take if none were compressed. Figures that are read while others change them
    /// may be a little off.
    pub fn plain_bytes(&self) -> u64 {
        (self.held_bytes + self.compressed_plain_bytes).saturating_sub(self.compressed_held_bytes)
    }

    /// Adds the figures of another; the limit stays.
    pub(super) fn add(&mut self, other: &Self) {
        self.blocks += other.blocks;
        self.sealed_blocks += other.sealed_blocks;
        self.stored_bytes += other.stored_bytes;
        self.held_bytes += other.held_bytes;
        self.compressed_blocks += other.compressed_blocks;
        self.compressed_plain_bytes += other.compressed_plain_bytes;
        self.compressed_held_bytes += other.compressed_held_bytes;
        self.metadata_bytes += other.metadata_bytes;
    }
}

/// A sum with a bound. It passes the bound only where it is told to, and where the bound is set below it.
struct Meter {
    used: AtomicU64,
    limit: AtomicU64,
}

impl Meter {
    fn new(limit: u64) -> Self {
        Self {
            used: AtomicU64::new(0),
            limit: AtomicU64::new(limit),
        }
    }

    /// Adds `bytes` if the sum stays within the bound; whether it did.
    fn charge(&self, bytes: u64) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let fits = |used: u64| {
            used.checked_add(bytes)
                .filter(|&after| bytes == 0 || after <= limit)
        };
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .is_ok()
    }

    /// Adds `bytes`, whatever the bound.
    fn charge_anyway(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    fn release(&self, bytes: u64) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "only what was charged is released");
    }

    fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

/// What all namespaces of a grid share: the arena and its budget.
pub(super) struct Pool {
    pub(super) arena: Arena,
    pub(super) block_size: u32,
    pub(super) bell: Bell,
    budget: Apart<Meter>,
    /// The part of the budget that is not in the arena.
    pub(super) heap: Apart<Heap>,
    /// Scattered bytes that were left when blocks were last brought together.
    scattered_for_good: AtomicU64,
    compacting: Mutex<()>,
}

impl Pool {
    pub(super) fn new(arena: Arena, size_bytes: u64, block_size: u32) -> Self {
        Self {
            arena,
            block_size,
            bell: Bell::default(),
            budget: Apart(Meter::new(size_bytes)),
            heap: Apart(Heap::new()),
            scattered_for_good: AtomicU64::new(0),
            compacting: Mutex::new(()),
        }
    }

    /// Bytes charged to the budget.
    pub(super) fn used_bytes(&self) -> u64 {
        self.budget.used()
    }

    /// The budget.
    pub(super) fn size_bytes(&self) -> u64 {
        self.budget.limit.load(Ordering::Relaxed)
    }

    /// Gives unused pages of the heap back, and counts what they were less.
    pub(super) fn trim_heap(&self) {
        self.heap.trim(|| self.arena.resident_bytes());
    }

    /// Whether so many pages are in use only in part that it is worth to bring together what is on them.
    pub(super) fn is_scattered(&self) -> bool {
        let scattered = self.scattered_bytes();
        let for_good = self.scattered_for_good.fetch_min(scattered, Ordering::Relaxed);
        scattered >= for_good + COMPACT_MIN
    }

    /// Whether so much of the memory is scattered that it is worth a walk through all blocks though nobody waits.
    pub(super) fn is_wasteful(&self) -> bool {
        self.is_scattered() && self.scattered_bytes() >= self.held_bytes() / WASTE_SHARE
    }

    /// Calls `move_all`, which moves every block that can be moved to a lower page, and gives back the pages that
    /// come free. Does nothing if another thread just did so.
    pub(super) fn compact(&self, move_all: impl FnOnce()) {
        let _one_at_a_time = self.compacting.lock();
        if !self.is_scattered() {
            return;
        }
        self.arena.trim();
        if self.is_scattered() {
            self.move_locked(move_all);
        }
    }

    /// As [`Pool::compact`], but whether there is much to be had or not; gives back what else is free, too.
    pub(super) fn gather(&self, move_all: impl FnOnce()) {
        let one_at_a_time = self.compacting.lock();
        self.arena.trim();
        self.move_locked(move_all);
        drop(one_at_a_time);
        self.trim_heap();
    }

    fn move_locked(&self, move_all: impl FnOnce()) {
        move_all();
        self.arena.trim();
        self.scattered_for_good
            .store(self.scattered_bytes(), Ordering::Relaxed);
    }

    /// Free bytes on pages that are in use or warm.
    fn scattered_bytes(&self) -> u64 {
        self.arena.resident_bytes().saturating_sub(self.held_bytes())
    }

    fn held_bytes(&self) -> u64 {
        self.used_bytes().saturating_sub(self.heap.charged_bytes())
    }

    /// A slot; where fresh pages would pass the bound, what is free elsewhere is given back first.
    fn take(&self, class: Class) -> Result<Slot> {
        let first = self.arena.take(class, || self.resident_max());
        if first.is_err() && self.heap.has_shrunk() {
            self.trim_heap();
            return self.arena.take(class, || self.resident_max());
        }
        first
    }

    fn add_metadata(&self, bytes: u64) {
        self.heap.add(bytes);
        if self.arena.resident_bytes() > self.resident_max() {
            self.arena.trim();
        }
    }

    /// Bound on the arena's pages: with the metadata they stay within the budget and a little for pages of which
    /// only a part is in use.
    ///
    /// Holes that metadata left in the heap come off that little, but not off the budget itself: nothing can close
    /// them, and a drive that is full while it is half empty would be worse.
    fn resident_max(&self) -> u64 {
        let size = self.size_bytes();
        let slack = size / SLACK_SHARE + SLACK_BYTES;
        let strict = (size + slack).saturating_sub(self.heap.held_bytes());
        if self.heap.has_shrunk() {
            // The holes are to be measured first.
            return strict;
        }
        strict.max(size.saturating_sub(self.heap.charged_bytes()))
    }
}

/// The figures of one namespace. Every charge goes to its quota and to the grid's budget, or to neither.
///
/// (1) The sum in `quota` is held bytes plus metadata; (2) metadata is `BLOCK_COST` for each block, `SEAL_COST` for each
/// sealed one, what users charged, and what `nodes` says; (3) over all namespaces the sums make up the sum of the budget.
/// They hold between operations.
pub(super) struct Account {
    pub(super) pool: Arc<Pool>,
    quota: Apart<Meter>,
    figures: Figures,
    /// What users charged.
    external: AtomicU64,
    /// What [`Charge`](super::charge::Charge)s hold, apart from the rest: they come and go at any time, so that the rest
    /// can be compared while they do.
    nodes: AtomicU64,
}

impl Account {
    pub(super) fn new(pool: Arc<Pool>, quota_bytes: Option<u64>) -> Self {
        Self {
            pool,
            quota: Apart(Meter::new(quota_bytes.unwrap_or(u64::MAX))),
            figures: Figures::default(),
            external: AtomicU64::new(0),
            nodes: AtomicU64::new(0),
        }
    }

    pub(super) fn arena(&self) -> &Arena {
        &self.pool.arena
    }

    /// Bounds the sum from now on. A quota below the sum only stops growth.
    pub(super) fn set_quota(&self, quota_bytes: Option<u64>) {
        self.quota
            .limit
            .store(quota_bytes.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Enters a new block with a slot of this class, or without memory.
    ///
    /// # Errors
    /// `NoSpace`, `QuotaExceeded`.
    pub(super) fn open_block(&self, class: Option<Class>) -> Result<Option<Slot>> {
        let bytes = class.map_or(0, |class| u64::from(class.bytes()));
        self.try_charge(BLOCK_COST + bytes)?;
        self.pool.add_metadata(BLOCK_COST);
        let slot = class.map(|class| self.pool.take(class)).transpose();
        let slot = slot.inspect_err(|_| {
            self.pool.heap.sub(BLOCK_COST);
            self.release(BLOCK_COST + bytes);
        })?;
        self.figures.open_block(bytes);
        Ok(slot)
    }

    /// Strikes a block that stores so many bytes, and puts its slot back.
    pub(super) fn close_block(&self, slot: Option<Slot>, stored_bytes: u32) {
        let bytes = slot.as_ref().map_or(0, |slot| u64::from(slot.class().bytes()));
        if let Some(slot) = slot {
            self.return_replaced(slot);
        }
        self.figures.close_block(bytes, u64::from(stored_bytes));
        self.pool.heap.sub(BLOCK_COST);
        self.release(BLOCK_COST + bytes);
    }

    /// Charges for sealing a block; `false` where there is no room for more entries.
    pub(super) fn seal_block(&self) -> bool {
        let bound = self.pool.size_bytes() / SEAL_SHARE;
        let fits = (self.figures.sealed_blocks() + 1) * SEAL_COST <= bound;
        let charged = fits && self.try_charge(SEAL_COST).is_ok();
        if charged {
            self.pool.add_metadata(SEAL_COST);
            self.figures.seal();
        }
        charged
    }

    /// Returns what [`Account::seal_block`] took.
    pub(super) fn unseal_block(&self) {
        self.figures.unseal();
        self.release_metadata(SEAL_COST);
    }

    /// A slot for a block that has memory of class `old` now. The block pays for one of both: for the new one.
    ///
    /// # Errors
    /// `NoSpace`, `QuotaExceeded`.
    pub(super) fn take_slot(&self, new: Class, old: Option<Class>) -> Result<Slot> {
        let (new_bytes, old_bytes) = (
            u64::from(new.bytes()),
            old.map_or(0, |old| u64::from(old.bytes())),
        );
        let extra = new_bytes.saturating_sub(old_bytes);
        self.try_charge(extra)?;
        let slot = self.pool.take(new).inspect_err(|_| self.release(extra))?;
        self.figures.exchange_held(old_bytes, new_bytes);
        self.release(old_bytes.saturating_sub(new_bytes));
        Ok(slot)
    }

    /// Puts back a slot that another has replaced.
    pub(super) fn return_replaced(&self, slot: Slot) {
        self.arena().put_back(slot);
        self.pool.bell.ring();
    }

    /// Puts back a slot with nothing in its place.
    pub(super) fn return_slot(&self, slot: Slot) {
        let bytes = u64::from(slot.class().bytes());
        self.return_replaced(slot);
        self.figures.exchange_held(bytes, 0);
        self.release(bytes);
    }

    /// Enters that a block stores `after` bytes where it stored `before`.
    pub(super) fn exchange_stored(&self, before: u32, after: u32) {
        self.figures.exchange_stored(u64::from(before), u64::from(after));
    }

    /// Enters what a block adds to the compressed ones where that has changed.
    pub(super) fn exchange_compressed(&self, before: Compressed, after: Compressed) {
        if before != after {
            self.figures.exchange_compressed(before, after);
        }
    }

    /// Charges metadata of the grid's users.
    ///
    /// # Errors
    /// `NoSpace`, `QuotaExceeded`.
    pub(super) fn charge(&self, bytes: u64) -> Result<()> {
        self.try_charge(bytes)?;
        self.external.fetch_add(bytes, Ordering::Relaxed);
        self.pool.add_metadata(bytes);
        Ok(())
    }

    /// Whether so many bytes could be charged just now.
    ///
    /// # Errors
    /// `NoSpace`, `QuotaExceeded` where not.
    pub(super) fn probe(&self, bytes: u64) -> Result<()> {
        self.try_charge(bytes)?;
        self.release(bytes);
        Ok(())
    }

    /// Returns what [`Account::charge`] took.
    pub(super) fn discharge(&self, bytes: u64) {
        let before = self.external.fetch_sub(bytes, Ordering::Relaxed);
        assert!(before >= bytes, "no more metadata is released than was charged");
        self.release_metadata(bytes);
        self.pool.bell.ring();
    }

    /// Charges metadata past the bound, if need be.
    pub(super) fn charge_nodes(&self, bytes: u64) {
        self.quota.charge_anyway(bytes);
        self.pool.budget.charge_anyway(bytes);
        self.nodes.fetch_add(bytes, Ordering::Relaxed);
        self.pool.add_metadata(bytes);
    }

    /// Returns what [`Account::charge_nodes`] took.
    pub(super) fn discharge_nodes(&self, bytes: u64) {
        self.nodes.fetch_sub(bytes, Ordering::Relaxed);
        self.release_metadata(bytes);
        self.pool.bell.ring();
    }

    /// Metadata that is charged by [`Charge`](super::charge::Charge)s.
    pub(super) fn node_bytes(&self) -> u64 {
        self.nodes.load(Ordering::Relaxed)
    }

    /// Metadata that users of the grid charged and did not release.
    pub(super) fn external_bytes(&self) -> u64 {
        self.external.load(Ordering::Relaxed)
    }

    /// Bytes charged to the quota.
    pub(super) fn used_bytes(&self) -> u64 {
        self.quota.used()
    }

    /// Bytes that may still be charged.
    pub(super) fn room_bytes(&self) -> u64 {
        let left = |meter: &Meter| meter.limit.load(Ordering::Relaxed).saturating_sub(meter.used());
        left(&self.quota).min(left(&self.pool.budget))
    }

    pub(super) fn usage(&self) -> Usage {
        let (blocks, sealed_blocks) = (self.figures.blocks(), self.figures.sealed_blocks());
        let compressed = self.figures.compressed();
        Usage {
            blocks,
            sealed_blocks,
            stored_bytes: self.figures.stored_bytes(),
            held_bytes: self.figures.held_bytes(),
            compressed_blocks: compressed.blocks,
            compressed_plain_bytes: compressed.plain_bytes,
            compressed_held_bytes: compressed.held_bytes,
            metadata_bytes: blocks * BLOCK_COST
                + sealed_blocks * SEAL_COST
                + self.external_bytes()
                + self.node_bytes(),
            limit_bytes: self.quota.limit.load(Ordering::Relaxed),
        }
    }

    fn try_charge(&self, bytes: u64) -> Result<()> {
        if !self.quota.charge(bytes) {
            return Err(Error::new(
                ErrorKind::QuotaExceeded,
                "the quota of the namespace is spent",
            ));
        }
        if !self.pool.budget.charge(bytes) {
            self.quota.release(bytes);
            return Err(Error::new(
                ErrorKind::NoSpace,
                "no space left in the grid: its size is spent",
            ));
        }
        Ok(())
    }

    fn release(&self, bytes: u64) {
        self.pool.budget.release(bytes);
        self.quota.release(bytes);
    }

    fn release_metadata(&self, bytes: u64) {
        self.pool.heap.sub(bytes);
        self.release(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(size_bytes: u64) -> Arc<Pool> {
        let arena = Arena::new(size_bytes, 4096).unwrap();
        Arc::new(Pool::new(arena, size_bytes, 4096))
    }

    #[test]
    fn a_charge_fits_to_the_byte() {
        let pool = pool(1 << 20);
        let account = Account::new(pool.clone(), None);
        account.charge(1 << 20).unwrap();
        assert_eq!(account.charge(1).unwrap_err().kind(), ErrorKind::NoSpace);
        account.charge(0).unwrap();
        account.discharge(1);
        account.charge(1).unwrap();
        assert_eq!(
            account.charge(u64::MAX / 2).unwrap_err().kind(),
            ErrorKind::NoSpace
        );
        assert!(account.charge(u64::MAX).is_err());
        account.discharge(1 << 20);
        assert_eq!((pool.used_bytes(), pool.heap.charged_bytes()), (0, 0));
    }

    #[test]
    fn the_quota_comes_before_the_budget_and_a_refusal_charges_neither() {
        let pool = pool(1 << 20);
        let account = Account::new(pool.clone(), Some(1000));
        assert_eq!(account.charge(1001).unwrap_err().kind(), ErrorKind::QuotaExceeded);
        let other = Account::new(pool.clone(), None);
        other.charge((1 << 20) - 500).unwrap();
        assert_eq!(account.charge(600).unwrap_err().kind(), ErrorKind::NoSpace);
        assert_eq!((account.used_bytes(), pool.used_bytes()), (0, (1 << 20) - 500));
        account.charge(500).unwrap();
        account.set_quota(Some(10));
        assert_eq!(account.charge(1).unwrap_err().kind(), ErrorKind::QuotaExceeded);
        account.discharge(500);
        account.charge(10).unwrap();
    }

    #[test]
    fn a_block_pays_for_one_slot_while_it_moves() {
        let account = Account::new(pool(1 << 20), Some(4096 + BLOCK_COST));
        let class = |len| Class::of(len).unwrap();
        let small = account.open_block(Some(class(2048))).unwrap().unwrap();
        let large = account.take_slot(class(4096), Some(class(2048))).unwrap();
        account.return_replaced(small);
        assert_eq!(account.usage().held_bytes, 4096);
        let small = account.take_slot(class(64), Some(class(4096))).unwrap();
        account.return_replaced(large);
        assert_eq!(account.usage().held_bytes, 64);
        account.return_slot(small);
        account.close_block(None, 0);
        let limit_bytes = 4096 + BLOCK_COST;
        assert_eq!(
            account.usage(),
            Usage {
                limit_bytes,
                ..Usage::default()
            }
        );
        assert_eq!(account.used_bytes(), 0);
    }
}
