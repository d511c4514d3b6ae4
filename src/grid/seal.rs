//! The sealed blocks of a namespace, found by the hash of their bytes.
//!
//! The table leads from a hash to the block that was sealed first with such bytes, and keeps no block alive: it has
//! weak references. Whoever finds a block compares the bytes, so that 64 bits of the hash are enough: two different
//! blocks that agree in them share nothing, that is all.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Weak};

use hashbrown::HashTable;
use parking_lot::{Mutex, MutexGuard};

use super::apart::Apart;
use crate::limits::SEAL_SHARDS;

/// The first 64 bits of the blake3 hash of a block's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHash(u64);

impl BlockHash {
    /// The hash of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let hash = blake3::hash(bytes);
        let (first, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
        Self(u64::from_le_bytes(*first))
    }
}

/// Where a hash has its place. A sealed block remembers it, so that its entry is found without its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bucket(u32);

/// Sealed blocks by hash; `T` is what is counted of a block.
pub(super) struct Seals<T> {
    shards: Box<[Apart<Shard<T>>]>,
    /// Drawn at random: who chooses bytes cannot choose that they meet in one bucket.
    factor: u64,
}

type Shard<T> = Mutex<HashTable<Seal<T>>>;

struct Seal<T> {
    hash: BlockHash,
    /// Dead from the moment when the last handle goes until it has taken the entry out.
    block: Weak<T>,
}

/// What became of a block that was to be entered.
pub(super) enum Entered<T> {
    /// It is in the table now.
    Fresh(Bucket),
    /// A block of that hash is there already; perhaps this very block.
    Present(Arc<T>),
}

impl<T> Seals<T> {
    pub(super) fn new() -> Self {
        Self {
            shards: (0..SEAL_SHARDS).map(|_| Apart::default()).collect(),
            factor: RandomState::new().build_hasher().finish() | 1,
        }
    }

    /// The living block of that hash. To be dropped with no shard held, as every handle.
    pub(super) fn find(&self, hash: BlockHash) -> Option<Arc<T>> {
        let bucket = self.bucket(hash);
        let shard = self.shard(bucket);
        shard
            .find(spread(bucket), |seal| seal.hash == hash)?
            .block
            .upgrade()
    }

    /// Enters a block, unless a living one of that hash is there.
    pub(super) fn enter(&self, hash: BlockHash, block: &Arc<T>) -> Entered<T> {
        let bucket = self.bucket(hash);
        let mut shard = self.shard(bucket);
        if let Some(seal) = shard.find_mut(spread(bucket), |seal| seal.hash == hash) {
            if let Some(present) = seal.block.upgrade() {
                return Entered::Present(present);
            }
            seal.block = Arc::downgrade(block);
            return Entered::Fresh(bucket);
        }
        let seal = Seal {
            hash,
            block: Arc::downgrade(block),
        };
        shard.insert_unique(spread(bucket), seal, |seal| spread(self.bucket(seal.hash)));
        Entered::Fresh(bucket)
    }

    /// Takes a block's entry out, unless another has taken its place. The block is not found from then on.
    pub(super) fn take_out(&self, bucket: Bucket, block: *const T) {
        let mut shard = self.shard(bucket);
        if let Ok(entry) = shard.find_entry(spread(bucket), |seal| seal.is(block)) {
            entry.remove();
        }
        // As in the index map: a table a quarter full gives half of its memory back.
        if shard.len() < shard.capacity() / 4 {
            let room = shard.len() * 2;
            shard.shrink_to(room, |seal| spread(self.bucket(seal.hash)));
        }
    }

    /// The hash under which a block is entered.
    pub(super) fn hash_of(&self, bucket: Bucket, block: *const T) -> Option<BlockHash> {
        let shard = self.shard(bucket);
        shard
            .find(spread(bucket), |seal| seal.is(block))
            .map(|seal| seal.hash)
    }

    /// Number of entries.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    fn bucket(&self, hash: BlockHash) -> Bucket {
        Bucket((hash.0.wrapping_mul(self.factor) >> 32) as u32)
    }

    fn shard(&self, bucket: Bucket) -> MutexGuard<'_, HashTable<Seal<T>>> {
        // By the high bits: those that `spread` leaves in place tell entries of one shard apart.
        let shift = u32::BITS - SEAL_SHARDS.ilog2();
        self.shards[(bucket.0 >> shift) as usize].lock()
    }
}

impl<T> Seal<T> {
    fn is(&self, block: *const T) -> bool {
        std::ptr::eq(self.block.as_ptr(), block)
    }
}

/// A bucket as the hash table wants it: the low bits give the place, the highest tell neighbours apart.
fn spread(bucket: Bucket) -> u64 {
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    u64::from(bucket.0).wrapping_mul(SPREAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u64) -> BlockHash {
        BlockHash::of(&number.to_le_bytes())
    }

    fn fresh(entered: &Entered<u64>) -> Bucket {
        match entered {
            Entered::Fresh(bucket) => *bucket,
            Entered::Present(number) => panic!("{number} is there"),
        }
    }

    #[test]
    fn a_block_is_found_by_its_hash_until_it_is_taken_out() {
        let seals = Seals::new();
        let blocks: Vec<_> = (0..10_000).map(Arc::new).collect();
        let buckets: Vec<_> = blocks
            .iter()
            .map(|block| fresh(&seals.enter(hash(**block), block)))
            .collect();
        assert_eq!(seals.len(), blocks.len());
        for block in &blocks {
            let found = seals.find(hash(**block)).expect("it was entered");
            assert!(Arc::ptr_eq(&found, block));
        }
        assert!(seals.find(hash(10_000)).is_none());
        for (block, bucket) in blocks.iter().zip(buckets) {
            assert_eq!(seals.hash_of(bucket, Arc::as_ptr(block)), Some(hash(**block)));
            seals.take_out(bucket, Arc::as_ptr(block));
            assert!(seals.find(hash(**block)).is_none());
        }
        assert_eq!(seals.len(), 0);
        let room: usize = seals.shards.iter().map(|shard| shard.lock().capacity()).sum();
        assert!(room < 100 * SEAL_SHARDS, "room for {room} is left");
    }

    #[test]
    fn the_first_block_of_a_hash_stays_while_it_lives() {
        let seals = Seals::new();
        let (first, second) = (Arc::new(1_u64), Arc::new(1));
        let bucket = fresh(&seals.enter(hash(1), &first));
        for block in [&first, &second] {
            let Entered::Present(present) = seals.enter(hash(1), block) else {
                panic!("the first is there");
            };
            assert!(Arc::ptr_eq(&present, &first));
        }
        let first_at = Arc::as_ptr(&first);
        drop(first);
        assert!(seals.find(hash(1)).is_none(), "it is dead");
        assert_eq!(fresh(&seals.enter(hash(1), &second)), bucket);
        seals.take_out(bucket, first_at);
        assert!(seals.find(hash(1)).is_some(), "the second has the place now");
    }
}
