//! A namespace: a private grid with its own indexes, quota and figures.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::RwLock;

use super::block::{Block, Home, Kept, Pin, removed};
use super::budget::{Account, Usage};
use super::index::{BlockIndex, Slice, end_in_block};
use super::memory::Memory;
use crate::Result;

/// A private grid of blocks, in a grid that it shares memory and budget with.
///
/// Kept blocks live under their index until a put without bytes deletes them. Lent blocks live as long as a
/// [`Block`] handle; [`Namespace::get`] and [`Namespace::keys`] show them too, a put on their index is refused.
pub struct Namespace {
    /// *Immutable.*
    name: String,
    pub(super) home: Arc<Home>,
    /// Held while the blocks of a record are swapped or found, so that a record is seen whole.
    pub(super) records: RwLock<()>,
}

impl Namespace {
    pub(super) fn new(name: &str, home: Arc<Home>) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            home,
            records: RwLock::new(()),
        })
    }

    /// Name in its grid.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Most bytes that a block holds: a power of two.
    pub fn block_size(&self) -> u32 {
        self.account().pool.block_size
    }

    /// Bytes that may still be taken: both the quota and the grid's size bound them.
    pub fn room_bytes(&self) -> u64 {
        self.account().room_bytes()
    }

    /// What it holds, and its quota.
    pub fn usage(&self) -> Usage {
        self.account().usage()
    }

    /// Memory of the blocks that are lent out, counted one by one: those that are kept under a key are not among them.
    /// Blocks that come or go meanwhile may be missing.
    pub fn lent_bytes(&self) -> u64 {
        let mut held_bytes = 0;
        self.home.each_block(|pin| {
            if let Pin::Lent(_) = &pin {
                held_bytes += u64::from(pin.memory().held_bytes());
            }
        });
        held_bytes
    }

    /// Sets the bound on held and metadata bytes. A quota below what is held now only stops growth.
    pub fn set_quota(&self, quota_bytes: Option<u64>) {
        self.account().set_quota(quota_bytes);
    }

    /// Hands the bytes of each slice to `sink(position in requests, bytes)`, in order; an empty index, and what lies
    /// behind a block's end, is zero bytes (a shorter or empty slice).
    ///
    /// A block is locked for reading while `sink` sees it: `sink` must not put to this namespace.
    pub fn get(&self, requests: &[(BlockIndex, Slice)], sink: &mut dyn FnMut(usize, &[u8])) {
        for (position, &(index, slice)) in requests.iter().enumerate() {
            match self.home.pin(index) {
                Some(pin) => pin
                    .memory()
                    .read(self.account(), slice, |bytes| sink(position, bytes)),
                None => sink(position, &[]),
            }
        }
    }

    /// Stores bytes at offsets inside blocks, in order; no bytes delete the block. What lies between a block's end
    /// and the offset becomes zeros.
    ///
    /// All or nothing, as long as no other thread changes the same blocks meanwhile: memory is found for all of them
    /// before the first byte is written. So memory of blocks that the same call deletes does not count as free.
    /// Other threads may see some of the blocks changed and others not yet.
    ///
    /// # Errors
    /// `Busy` for an index that is lent out; `InvalidArgument` where a slice ends behind the block size; `NoSpace`;
    /// `QuotaExceeded`; `NotFound` for a namespace that was removed.
    pub fn put(self: &Arc<Self>, requests: &[(BlockIndex, u32, &[u8])]) -> Result<()> {
        for &(_, offset, bytes) in requests {
            end_in_block(offset, bytes.len(), self.block_size())?;
        }
        self.home.with_room(|| self.put_all(requests))
    }

    /// Occupied indexes from `from` on, ascending, with their lengths in bytes; at most `max`.
    ///
    /// Fewer than `max` means that there are no more. Blocks that come or go meanwhile may be missing.
    pub fn keys(&self, from: BlockIndex, max: usize) -> Vec<(BlockIndex, u32)> {
        let mut keys = Vec::new();
        let mut from = Some(from);
        while let Some(start) = from.filter(|_| keys.len() < max) {
            let missing = max - keys.len();
            let indexes = self.home.select(start, missing);
            from = indexes
                .last()
                .filter(|_| indexes.len() == missing)
                .and_then(|last| last.plus(1).ok());
            let lengths = indexes
                .into_iter()
                .filter_map(|index| Some((index, self.home.pin(index)?.memory().len())));
            keys.extend(lengths);
        }
        keys
    }

    /// A new open block at a fresh index holding `zeros` zero bytes followed by `bytes`.
    ///
    /// # Errors
    /// `InvalidArgument` where they are more than a block holds; `NoSpace`; `QuotaExceeded`; `NotFound` for a
    /// namespace that was removed.
    pub fn new_block(self: &Arc<Self>, zeros: u32, bytes: &[u8]) -> Result<Block> {
        let memory = self
            .home
            .with_room(|| Memory::new(self.account(), zeros, bytes))?;
        self.home.lend(memory)
    }

    /// Charges metadata to budget and quota.
    ///
    /// # Errors
    /// `NoSpace`; `QuotaExceeded`; `NotFound` for a namespace that was removed.
    pub fn charge(&self, bytes: u64) -> Result<()> {
        if self.home.is_closed() {
            return Err(removed());
        }
        self.account().charge(bytes)
    }

    /// Whether so many bytes could be charged just now.
    ///
    /// # Errors
    /// `NoSpace`, `QuotaExceeded` where not.
    pub fn probe(&self, bytes: u64) -> Result<()> {
        self.account().probe(bytes)
    }

    /// Returns what [`Namespace::charge`] took.
    ///
    /// # Panics
    /// Where more is returned than was charged.
    pub fn release(&self, bytes: u64) {
        self.account().discharge(bytes);
    }

    /// What [`Namespace::charge`] took and [`Namespace::release`] did not return.
    pub fn charged_bytes(&self) -> u64 {
        self.account().external_bytes()
    }

    /// What is charged by [`Charge`](super::Charge).
    pub fn node_bytes(&self) -> u64 {
        self.account().node_bytes()
    }

    pub(super) fn account(&self) -> &Arc<Account> {
        &self.home.account
    }

    fn put_all(&self, requests: &[(BlockIndex, u32, &[u8])]) -> Result<()> {
        let mut staged = Staged::default();
        if requests.len() > 1 {
            staged.prepare(&self.home, requests)?;
        }
        for &(index, offset, bytes) in requests {
            if bytes.is_empty() {
                self.home.replace(index, None)?;
            } else {
                self.put_one(index, offset, bytes, staged.take(index))?;
            }
        }
        Ok(())
    }

    /// Puts to one block. `spare` is an empty block to be used where there is none.
    fn put_one(&self, index: BlockIndex, offset: u32, bytes: &[u8], spare: Option<Arc<Kept>>) -> Result<()> {
        if let Some(kept) = self.home.pin_kept(index)? {
            return kept.write(offset, bytes);
        }
        let fresh = match spare {
            Some(spare) => {
                spare.write(offset, bytes)?;
                spare
            }
            None => Kept::new(self.account(), offset, bytes)?,
        };
        while !self.home.keep(index, &fresh)? {
            // Another thread put there first.
            if let Some(kept) = self.home.pin_kept(index)? {
                return kept.write(offset, bytes);
            }
        }
        Ok(())
    }
}

/// Memory for a put of many blocks, found before the first of them changes.
#[derive(Default)]
struct Staged {
    /// Empty blocks with room for what will be written, for indexes that have none.
    fresh: BTreeMap<BlockIndex, Arc<Kept>>,
}

impl Staged {
    fn prepare(&mut self, home: &Home, requests: &[(BlockIndex, u32, &[u8])]) -> Result<()> {
        let mut grown = Vec::new();
        let prepared = self.reserve(home, requests, &mut grown);
        if prepared.is_err() {
            grown.iter().for_each(|kept| kept.fit());
        }
        prepared
    }

    fn reserve(
        &mut self,
        home: &Home,
        requests: &[(BlockIndex, u32, &[u8])],
        grown: &mut Vec<Arc<Kept>>,
    ) -> Result<()> {
        let mut deleted = BTreeSet::new();
        for &(index, offset, bytes) in requests {
            let present = home.pin_kept(index)?;
            if bytes.is_empty() {
                deleted.insert(index);
                continue;
            }
            let end = offset + bytes.len() as u32;
            let present = present.filter(|_| !deleted.contains(&index));
            if let Some(kept) = present.as_ref().or(self.fresh.get(&index)) {
                kept.reserve(end)?;
            } else {
                self.fresh.insert(index, Kept::with_capacity(&home.account, end)?);
            }
            grown.extend(present);
        }
        Ok(())
    }

    fn take(&mut self, index: BlockIndex) -> Option<Arc<Kept>> {
        self.fresh.remove(&index)
    }
}
