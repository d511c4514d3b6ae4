//! Blocks as a namespace knows them: kept under a key, or lent to the holders of a handle.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use super::apart::Apart;
use super::budget::{Account, Pool};
use super::index::{BlockIndex, Slice};
use super::memory::Memory;
use super::press::Press;
use super::seal::{Bucket, Seals};
use super::shards::Shards;
use crate::{Error, ErrorKind, Result};

/// A counted handle on a block that is owned, not keyed: the block lives as long as one of its handles.
///
/// It is open, or sealed: then it does not change until it is opened (`sealing.rs`).
#[derive(Clone)]
pub struct Block(pub(super) Arc<Lent>);

impl Block {
    /// Where the namespace shows the block.
    pub fn index(&self) -> BlockIndex {
        self.0.index()
    }

    /// Bytes in the block, 0 to the block size.
    pub fn len(&self) -> u32 {
        self.0.memory.len()
    }

    /// Whether the block holds no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory that the block takes: the size class of its length, a larger one after appending ([`Block::truncate`]
    /// to the length returns the difference), or a smaller one while it is compressed.
    pub fn held_bytes(&self) -> u32 {
        self.0.memory.held_bytes()
    }

    /// Whether another handle exists, so that the block must not be written to. Who wants to write asks
    /// [`Block::open`].
    ///
    /// A `false` holds until the handle is cloned. The grid's own holds on a block, which it found by its index, do not
    /// count: they are waited for.
    pub fn is_shared(&self) -> bool {
        let shared = || Arc::strong_count(&self.0) > 1;
        shared() && {
            let _no_holds = self.0.home.holds.write();
            shared()
        }
    }

    /// How many handles there are, with this one and without the grid's own.
    ///
    /// Others may come at any time: by being cloned, or where the block is sealed by its hash.
    pub fn handles(&self) -> usize {
        match self.is_shared() {
            false => 1,
            true => {
                let _no_holds = self.0.home.holds.write();
                Arc::strong_count(&self.0)
            }
        }
    }

    /// Calls `f` with the bytes of the slice (cut at the block's end) under the block's read lock. Bytes of a compressed
    /// block are unpacked as a whole, unless it is the one that this thread has unpacked last.
    ///
    /// `f` must not write to the block.
    pub fn read<R>(&self, slice: Slice, f: impl FnOnce(&[u8]) -> R) -> R {
        self.0.memory.read(&self.0.home.account, slice, f)
    }

    /// Writes at `offset`; what lies between the old end and `offset` becomes zeros. Grows the block's memory where
    /// needed: when bytes are appended by up to half of it, so that small appends do not copy the block each time.
    /// Without bytes nothing changes. On an error nothing has changed. A compressed block becomes plain, for which it
    /// needs memory even where it does not grow.
    ///
    /// # Errors
    /// `InvalidArgument` where the end lies behind the block size; `NoSpace`; `QuotaExceeded`.
    pub fn write(&self, offset: u32, bytes: &[u8]) -> Result<()> {
        let home = &self.0.home;
        home.with_room(|| self.0.memory.write(&home.account, offset, bytes))
    }

    /// Cuts the block to `len` bytes if it is longer, and moves it to the smallest class that fits what it holds.
    /// It keeps its memory where a smaller slot cannot be had, and where it takes less as it is, being compressed.
    pub fn truncate(&self, len: u32) {
        self.0.memory.truncate(&self.0.home.account, len);
    }

    /// What the block is charged to.
    pub(super) fn account(&self) -> &Arc<Account> {
        &self.0.home.account
    }

    /// Cuts the block to the bytes of the slice and moves them to its front. Returns whether it did so: a compressed
    /// block stays as it is where it lacks the memory.
    pub fn keep(&self, slice: Slice) -> bool {
        self.0.memory.keep(&self.0.home.account, slice)
    }

    /// Makes a compressed block plain: until it is compressed again, writing in place of what it holds cannot fail.
    ///
    /// # Errors
    /// `NoSpace`; `QuotaExceeded`. Nothing has changed then.
    pub fn expand(&self) -> Result<()> {
        let home = &self.0.home;
        home.with_room(|| self.0.memory.expand(&home.account))
    }

    /// Has the press pack a copy of the block's bytes, without a lock held. Returns whether there is something for
    /// [`Block::compress`] to do: not where the block is compressed already, or was found not to be worth it.
    pub fn pack(&self, press: &mut Press) -> bool {
        press.clear();
        let is_compressible = self.is_compressible();
        if is_compressible {
            self.read(Slice::ALL, |bytes| press.load(bytes));
            press.pack();
        }
        is_compressible
    }

    /// Holds the block compressed, as the press has packed it. Returns whether it is compressed now; not where that
    /// does not pay (which is kept in mind until the block changes), where the block has changed since, where somebody
    /// uses it just now, or where no memory can be had.
    ///
    /// The bytes stay the same, whoever else has a handle. But an owner who writes after [`Block::expand`] trusts that
    /// nobody compresses the block meanwhile: the caller holds what keeps the owner from writing.
    pub fn compress(&self, press: &Press) -> bool {
        press
            .pressed()
            .is_some_and(|pressed| self.0.memory.compress(&self.0.home.account, pressed))
    }

    /// Whether it may be worth to compress the block, and has not been tried since it changed.
    pub fn is_compressible(&self) -> bool {
        self.0.memory.is_compressible()
    }

    fn memory(&self) -> &Memory {
        &self.0.memory
    }
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Block")
            .field("index", &self.index().get())
            .field("len", &self.len())
            .finish()
    }
}

/// A block that the holders of its handles own.
pub(super) struct Lent {
    /// Its index, *immutable*, and above it marks and a count, *atomic*: see `sealing.rs`.
    pub(super) state: AtomicU64,
    /// *Immutable.*
    pub(super) home: Arc<Home>,
    pub(super) memory: Memory,
}

impl Lent {
    fn index(&self) -> BlockIndex {
        let index = self.state.load(Ordering::Relaxed) & BlockIndex::MAX.get();
        BlockIndex::new(index).expect("what lies above an index is masked")
    }
}

// With the counts of its `Arc` and the heap's own word it fits the 64 bytes that BLOCK_COST has for it.
const _: () = assert!(size_of::<Lent>() <= 40 && size_of::<Kept>() <= 40);

impl Drop for Lent {
    fn drop(&mut self) {
        let bucket = self.home.forget(self.index(), self);
        self.end_seal(bucket);
        self.memory.close(&self.home.account);
    }
}

/// A block that its namespace owns.
pub(super) struct Kept {
    /// *Immutable.*
    account: Arc<Account>,
    memory: Memory,
}

impl Kept {
    /// A block, not yet in the namespace, that holds these bytes.
    pub(super) fn new(account: &Arc<Account>, zeros: u32, bytes: &[u8]) -> Result<Arc<Self>> {
        Ok(Self::of(account, Memory::new(account, zeros, bytes)?))
    }

    /// An empty block, not yet in the namespace, with room for `capacity` bytes.
    pub(super) fn with_capacity(account: &Arc<Account>, capacity: u32) -> Result<Arc<Self>> {
        Ok(Self::of(account, Memory::with_capacity(account, capacity)?))
    }

    fn of(account: &Arc<Account>, memory: Memory) -> Arc<Self> {
        Arc::new(Self {
            account: account.clone(),
            memory,
        })
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// As [`Memory::write`].
    pub(super) fn write(&self, offset: u32, bytes: &[u8]) -> Result<()> {
        self.memory.write(&self.account, offset, bytes)
    }

    /// As [`Memory::reserve`].
    pub(super) fn reserve(&self, capacity: u32) -> Result<()> {
        self.memory.reserve(&self.account, capacity)
    }

    /// Returns memory that was reserved in vain.
    pub(super) fn fit(&self) {
        self.memory.truncate(&self.account, u32::MAX);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.memory.close(&self.account);
    }
}

/// What an index holds.
enum Entry {
    Kept(Arc<Kept>),
    /// Dead from the moment when the last handle goes until it has taken the entry out. The bucket counts while the
    /// block is sealed: here it takes no memory.
    Lent(Weak<Lent>, Bucket),
}

const _: () = assert!(size_of::<Entry>() == 16);

impl Entry {
    fn is_alive(&self) -> bool {
        match self {
            Self::Kept(_) => true,
            Self::Lent(lent, _) => lent.strong_count() > 0,
        }
    }

    fn is_lent(&self) -> bool {
        matches!(self, Self::Lent(..)) && self.is_alive()
    }

    /// Whether it stands for this lent block.
    fn is(&self, lent: *const Lent) -> bool {
        matches!(self, Self::Lent(weak, _) if std::ptr::eq(weak.as_ptr(), lent))
    }

    fn bucket(&self) -> Bucket {
        match self {
            Self::Kept(_) => Bucket::default(),
            Self::Lent(_, bucket) => *bucket,
        }
    }

    fn kept(&self) -> Option<Arc<Kept>> {
        match self {
            Self::Kept(kept) => Some(kept.clone()),
            Self::Lent(..) => None,
        }
    }

    fn into_kept(self) -> Option<Arc<Kept>> {
        match self {
            Self::Kept(kept) => Some(kept),
            Self::Lent(..) => None,
        }
    }

    fn pin<'a>(&self, hold: RwLockReadGuard<'a, ()>) -> Option<Pin<'a>> {
        match self {
            Self::Kept(kept) => Some(Pin::Kept(kept.clone())),
            Self::Lent(lent, _) => {
                let block = Block(lent.upgrade()?);
                Some(Pin::Lent(Held { block, _hold: hold }))
            }
        }
    }
}

/// A block found by its index, which lives at least as long as this.
pub(super) enum Pin<'a> {
    Kept(Arc<Kept>),
    Lent(Held<'a>),
}

/// A lent block in the hands of the grid.
pub(super) struct Held<'a> {
    block: Block,
    /// Last, so that it ends after the block was let go.
    _hold: RwLockReadGuard<'a, ()>,
}

impl Pin<'_> {
    pub(super) fn memory(&self) -> &Memory {
        match self {
            Self::Kept(kept) => kept.memory(),
            Self::Lent(held) => held.block.memory(),
        }
    }

    /// The block, where it is lent.
    pub(super) fn lent(&self) -> Option<&Block> {
        match self {
            Self::Kept(_) => None,
            Self::Lent(held) => Some(&held.block),
        }
    }
}

/// The homes of all namespaces of a grid.
#[derive(Default)]
pub(super) struct Homes {
    list: Mutex<Vec<Weak<Home>>>,
}

impl Homes {
    /// Brings small blocks together on as few pages as they need, if that is worth it.
    pub(super) fn compact(&self, pool: &Pool) {
        pool.compact(|| self.move_all());
    }

    /// Brings small blocks together in any case.
    pub(super) fn gather(&self, pool: &Pool) {
        pool.gather(|| self.move_all());
    }

    fn move_all(&self) {
        for home in self.alive() {
            home.each_block(|pin| pin.memory().compact(&home.account));
        }
    }

    fn add(&self, home: &Arc<Home>) {
        let mut list = self.list.lock();
        list.retain(|home| home.strong_count() > 0);
        list.push(Arc::downgrade(home));
    }

    fn alive(&self) -> Vec<Arc<Home>> {
        self.list.lock().iter().filter_map(Weak::upgrade).collect()
    }
}

/// Blocks that a walk holds at a time.
const PINS_AT_ONCE: usize = 64;

/// Index 0 is for a superblock.
const FIRST_LENT: u64 = 1;

/// Where the blocks of one namespace live: the account that pays for them, and the index map.
pub(super) struct Home {
    pub(super) account: Arc<Account>,
    homes: Arc<Homes>,
    /// Held shared with each handle on a lent block that the grid has for itself, taken before it.
    holds: Apart<RwLock<()>>,
    index: Shards<Entry>,
    pub(super) seals: Seals<Lent>,
    /// Where to look for a fresh index.
    next: Apart<AtomicU64>,
    /// The namespace was removed: no block comes in any more.
    closed: AtomicBool,
}

impl Home {
    pub(super) fn new(account: Account, homes: Arc<Homes>) -> Arc<Self> {
        let home = Arc::new(Self {
            account: Arc::new(account),
            homes,
            holds: Apart(RwLock::new(())),
            index: Shards::new(),
            seals: Seals::new(),
            next: Apart(AtomicU64::new(FIRST_LENT)),
            closed: AtomicBool::new(false),
        });
        home.homes.add(&home);
        home
    }

    /// The block at an index. To be dropped without a lock held.
    pub(super) fn pin(&self, index: BlockIndex) -> Option<Pin<'_>> {
        // A kept block needs no hold: all threads that look blocks up would meet there.
        let kept = self.index.view(index.get(), |entry| entry.map(Entry::kept));
        match kept? {
            Some(kept) => Some(Pin::Kept(kept)),
            None => self.pin_held(index),
        }
    }

    /// The block at an index, of whatever kind it is by now.
    fn pin_held(&self, index: BlockIndex) -> Option<Pin<'_>> {
        let hold = self.hold();
        self.index
            .view(index.get(), |entry| entry.and_then(|entry| entry.pin(hold)))
    }

    /// The right to a handle on a lent block. A thread may have several: it does not queue behind those who wait for
    /// the first of them to end.
    pub(super) fn hold(&self) -> RwLockReadGuard<'_, ()> {
        self.holds.read_recursive()
    }

    /// The kept block at an index.
    ///
    /// # Errors
    /// `Busy` where the index is lent.
    pub(super) fn pin_kept(&self, index: BlockIndex) -> Result<Option<Arc<Kept>>> {
        match self.pin(index) {
            Some(Pin::Kept(kept)) => Ok(Some(kept)),
            Some(Pin::Lent(_)) => Err(busy(index)),
            None => Ok(None),
        }
    }

    /// Lends a block out at a fresh index.
    ///
    /// # Errors
    /// `NoSpace` where no index is left; `NotFound` where the namespace was removed.
    pub(super) fn lend(self: &Arc<Self>, memory: Memory) -> Result<Block> {
        let mut memory = Some(memory);
        let lent = loop {
            match self.try_lend(&mut memory) {
                Ok(Some(lent)) => break Ok(Block(lent)),
                Ok(None) => {}
                Err(error) => break Err(error),
            }
        };
        if let Some(mut unused) = memory {
            unused.close(&self.account);
        }
        lent
    }

    /// Lends a block out at the next index, unless that is taken.
    fn try_lend(self: &Arc<Self>, memory: &mut Option<Memory>) -> Result<Option<Arc<Lent>>> {
        let index = BlockIndex::new(self.next.fetch_add(1, Ordering::Relaxed))
            .map_err(|_| Error::new(ErrorKind::NoSpace, "the namespace has no fresh index left"))?;
        self.enter(index, || {
            let lent = Arc::new(Lent {
                state: AtomicU64::new(index.get()),
                home: self.clone(),
                memory: memory.take().expect("memory is used for one block"),
            });
            (Entry::Lent(Arc::downgrade(&lent), Bucket::default()), lent)
        })
    }

    /// Enters a kept block if the index is empty; whether it was.
    ///
    /// # Errors
    /// `NotFound` where the namespace was removed.
    pub(super) fn keep(&self, index: BlockIndex, kept: &Arc<Kept>) -> Result<bool> {
        let entered = self.enter(index, || (Entry::Kept(kept.clone()), ()))?;
        Ok(entered.is_some())
    }

    fn enter<R>(&self, index: BlockIndex, make: impl FnOnce() -> (Entry, R)) -> Result<Option<R>> {
        self.index.edit(index.get(), |mut place| {
            if self.closed.load(Ordering::Relaxed) {
                return Err(removed());
            }
            if place.get().is_some_and(Entry::is_alive) {
                return Ok(None);
            }
            let (entry, made) = make();
            // What it replaces is dead and holds only a weak reference: dropping that drops no block.
            place.put(entry);
            Ok(Some(made))
        })
    }

    /// Puts another kept block, or none, in the place of one; what was there.
    ///
    /// # Errors
    /// `Busy` where the index is lent; `NotFound` where the namespace was removed.
    pub(super) fn replace(&self, index: BlockIndex, with: Option<Arc<Kept>>) -> Result<Option<Arc<Kept>>> {
        self.index.edit(index.get(), |mut place| {
            if with.is_some() && self.closed.load(Ordering::Relaxed) {
                return Err(removed());
            }
            if place.get().is_some_and(Entry::is_lent) {
                return Err(busy(index));
            }
            let before = match with {
                Some(kept) => place.put(Entry::Kept(kept)),
                None => place.take(),
            };
            Ok(before.and_then(Entry::into_kept))
        })
    }

    /// The lowest `max` occupied indexes from `from` on, ascending.
    pub(super) fn select(&self, from: BlockIndex, max: usize) -> Vec<BlockIndex> {
        self.index
            .select(from.get(), max, Entry::is_alive)
            .into_iter()
            .map(|index| BlockIndex::new(index).expect("only block indexes are entered"))
            .collect()
    }

    /// Whether the index map agrees with itself.
    pub(super) fn is_index_sound(&self) -> bool {
        (0..self.index.count()).all(|shard| self.index.is_sound(shard))
    }

    /// Calls `f` with every block, holding no lock; how many entries were found dead.
    pub(super) fn each_block(&self, mut f: impl FnMut(Pin<'_>)) -> usize {
        let mut dead = 0;
        for shard in 0..self.index.count() {
            let mut from = Some(0);
            while let Some(start) = from {
                let first = self.hold();
                let some: Vec<_> = self.index.view_shard(shard, |map| {
                    let entries = map.range(start).take(PINS_AT_ONCE);
                    entries
                        .map(|(index, entry)| (index, entry.pin(self.hold())))
                        .collect()
                });
                drop(first);
                let full = some.len() == PINS_AT_ONCE;
                from = some.last().filter(|_| full).map(|&(index, _)| index + 1);
                dead += some.iter().filter(|(_, pin)| pin.is_none()).count();
                some.into_iter().filter_map(|(_, pin)| pin).for_each(&mut f);
            }
        }
        dead
    }

    /// Does something that takes memory. If there is none because free memory is scattered, brings blocks of all
    /// namespaces together and does it again. The caller holds no lock.
    pub(super) fn with_room<R>(&self, work: impl Fn() -> Result<R>) -> Result<R> {
        let first = work();
        let full = matches!(&first, Err(error) if error.kind() == ErrorKind::NoSpace);
        if full && self.account.pool.is_scattered() {
            self.homes.compact(&self.account.pool);
            return work();
        }
        first
    }

    /// Removes all kept blocks for good.
    ///
    /// # Errors
    /// `Busy` where blocks are lent or metadata is charged.
    pub(super) fn close(&self) -> Result<()> {
        // Asked before it is closed too, so that a volume in use does not notice.
        if !self.is_in_use() {
            self.closed.store(true, Ordering::Relaxed);
            if !self.is_in_use() {
                self.index.clear();
                return Ok(());
            }
            self.closed.store(false, Ordering::Relaxed);
        }
        Err(ErrorKind::Busy.into())
    }

    fn is_in_use(&self) -> bool {
        let any_lent = |shard| {
            self.index
                .view_shard(shard, |map| map.values().any(Entry::is_lent))
        };
        self.account.external_bytes() > 0 || (0..self.index.count()).any(any_lent)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Takes out the entry of a lent block that ends, unless its index has been used again; returns its bucket.
    fn forget(&self, index: BlockIndex, lent: *const Lent) -> Bucket {
        let taken = self.index.edit(index.get(), |mut place| {
            let is_its_own = place.get().is_some_and(|entry| entry.is(lent));
            is_its_own.then(|| place.take()).flatten()
        });
        taken.map_or(Bucket::default(), |entry| entry.bucket())
    }

    /// Where a sealed block is among the seals.
    pub(super) fn bucket(&self, index: BlockIndex) -> Bucket {
        self.index.view(index.get(), |entry| {
            entry.map_or(Bucket::default(), Entry::bucket)
        })
    }

    /// Notes where a block that is being sealed is among the seals.
    pub(super) fn set_bucket(&self, block: &Block, bucket: Bucket) {
        let entry = Entry::Lent(Arc::downgrade(&block.0), bucket);
        // What it replaces is a weak reference to the same block.
        self.index.edit(block.index().get(), |mut place| place.put(entry));
    }
}

fn busy(index: BlockIndex) -> Error {
    let index = index.get();
    Error::new(
        ErrorKind::Busy,
        format!("block {index} is lent out: choose another index"),
    )
}

/// The error of whoever uses a namespace after its end.
pub(super) fn removed() -> Error {
    Error::new(ErrorKind::NotFound, "the namespace was removed")
}
