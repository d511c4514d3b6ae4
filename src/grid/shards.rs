//! The index map of a namespace, in shards, so that threads seldom meet.
//!
//! ```text
//! index   = | rank ........ | column |      a shard has one index of each rank: (column + scatter(rank)) mod shards
//! shard   = entries: hash table, index -> entry               looks one up
//!           order:   ordered map, rank / 64 -> 64 bits        lists them by range
//! ```
//!
//! Neighbours lie in different shards, and so do multiples of any power of two. Within a shard indexes have the order
//! of their ranks, so dense indexes share words of `order`: it is small where there is much to list.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hasher};
use std::mem;

use parking_lot::RwLock;

use super::apart::Apart;
use crate::limits::INDEX_SHARDS;

const COLUMN_BITS: u32 = INDEX_SHARDS.ilog2();
const WORD_BITS: u32 = u64::BITS.ilog2();

/// A map from block indexes to `E`.
///
/// No `E` is dropped under a shard's lock: dropping a block enters the map of its namespace again. The closures that
/// run under a lock pass on what they take out.
pub(super) struct Shards<E> {
    shards: Box<[Apart<RwLock<Map<E>>>]>,
}

impl<E> Shards<E> {
    pub(super) fn new() -> Self {
        let scatter = Scatter::new();
        Self {
            shards: (0..INDEX_SHARDS)
                .map(|number| Apart(RwLock::new(Map::new(number as u64, scatter))))
                .collect(),
        }
    }

    /// Looks at one entry, under the shard's read lock.
    pub(super) fn view<R>(&self, index: u64, f: impl FnOnce(Option<&E>) -> R) -> R {
        f(self.shard(index).read().entries.get(&index))
    }

    /// Changes one entry, under the shard's write lock.
    pub(super) fn edit<R>(&self, index: u64, f: impl FnOnce(Place<'_, E>) -> R) -> R {
        let map = &mut *self.shard(index).write();
        f(Place { map, index })
    }

    /// The lowest `max` indexes from `from` on whose entries `wanted` approves, ascending.
    pub(super) fn select(&self, from: u64, max: usize, wanted: impl Fn(&E) -> bool) -> Vec<u64> {
        let mut found = Vec::new();
        let mut from = from;
        while found.len() < max {
            // An even share from each shard and a little more is seldom too few.
            let missing = max - found.len();
            let share = (missing / INDEX_SHARDS).saturating_add(16).min(missing);
            let (mut round, horizon) = self.select_share(from, share, &wanted);
            round.retain(|&index| horizon.is_none_or(|horizon| index <= horizon));
            round.sort_unstable();
            round.truncate(missing);
            found.extend(round);
            match horizon {
                Some(horizon) => from = horizon + 1,
                None => break,
            }
        }
        found
    }

    /// At most `share` indexes from each shard, and how far they are complete: `None` for all the way.
    fn select_share(&self, from: u64, share: usize, wanted: impl Fn(&E) -> bool) -> (Vec<u64>, Option<u64>) {
        let (mut found, mut horizon) = (Vec::new(), None);
        for shard in &self.shards {
            let map = shard.read();
            let some = map.range(from).filter(|(_, entry)| wanted(entry));
            let before = found.len();
            found.extend(some.map(|(index, _)| index).take(share));
            if found.len() - before == share {
                let last = found.last().copied().unwrap_or(u64::MAX);
                horizon = Some(horizon.map_or(last, |horizon: u64| horizon.min(last)));
            }
        }
        (found, horizon)
    }

    /// Number of shards.
    pub(super) fn count(&self) -> usize {
        self.shards.len()
    }

    /// Looks at one shard's map, under its read lock.
    pub(super) fn view_shard<R>(&self, shard: usize, f: impl FnOnce(&Map<E>) -> R) -> R {
        f(&self.shards[shard].read())
    }

    /// Whether a shard has an entry for exactly the indexes that its order lists, each at home there.
    pub(super) fn is_sound(&self, shard: usize) -> bool {
        let map = self.shards[shard].read();
        let at_home = |&index: &u64| shard_of(index) == shard && map.entries.contains_key(&index);
        let listed: usize = map.order.values().map(|bits| bits.count_ones() as usize).sum();
        let empty_words = map.order.values().filter(|&&bits| bits == 0).count();
        empty_words == 0 && listed == map.entries.len() && map.indexes(0).filter(at_home).count() == listed
    }

    /// Takes all entries out and drops them.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            let taken = {
                let mut map = shard.write();
                let scatter = *map.entries.hasher();
                map.order.clear();
                mem::replace(&mut map.entries, HashMap::with_hasher(scatter))
            };
            drop(taken);
        }
    }

    fn shard(&self, index: u64) -> &RwLock<Map<E>> {
        &self.shards[shard_of(index)]
    }
}

/// An index and what it holds, under the lock of its shard.
pub(super) struct Place<'a, E> {
    map: &'a mut Map<E>,
    index: u64,
}

impl<E> Place<'_, E> {
    pub(super) fn get(&self) -> Option<&E> {
        self.map.entries.get(&self.index)
    }

    /// Enters something; what was there.
    pub(super) fn put(&mut self, entry: E) -> Option<E> {
        self.map.insert(self.index, entry)
    }

    /// Takes out what is there.
    pub(super) fn take(&mut self) -> Option<E> {
        self.map.remove(self.index)
    }
}

/// The entries of one shard. An index is in `entries` exactly if its bit is set in `order`.
pub(super) struct Map<E> {
    /// *Immutable.* The shard's position.
    number: u64,
    entries: HashMap<u64, E, Scatter>,
    /// A bit per rank, in words without which none is set.
    order: BTreeMap<u64, u64>,
}

impl<E> Map<E> {
    fn new(number: u64, scatter: Scatter) -> Self {
        Self {
            number,
            entries: HashMap::with_hasher(scatter),
            order: BTreeMap::new(),
        }
    }

    /// All entries, in no order.
    pub(super) fn values(&self) -> impl Iterator<Item = &E> {
        self.entries.values()
    }

    /// The entries from index `from` on, ascending.
    pub(super) fn range(&self, from: u64) -> impl Iterator<Item = (u64, &E)> {
        self.indexes(from).map(|index| {
            let entry = self.entries.get(&index);
            (index, entry.expect("an index that is in the order has an entry"))
        })
    }

    /// The indexes in the order from `from` on.
    fn indexes(&self, from: u64) -> impl Iterator<Item = u64> {
        let first = from >> COLUMN_BITS;
        let words = self.order.range(first >> WORD_BITS..);
        words
            .flat_map(|(&word, &bits)| Bits(bits).map(move |bit| word << WORD_BITS | bit))
            .map(|rank| index_at(self.number, rank))
            .skip_while(move |&index| index < from)
    }

    fn insert(&mut self, index: u64, entry: E) -> Option<E> {
        let before = self.entries.insert(index, entry);
        if before.is_none() {
            let (word, bit) = word_of(index);
            *self.order.entry(word).or_default() |= bit;
        }
        before
    }

    fn remove(&mut self, index: u64) -> Option<E> {
        let removed = self.entries.remove(&index)?;
        let (word, bit) = word_of(index);
        let bits = self
            .order
            .get_mut(&word)
            .expect("an index that has an entry is in the order");
        *bits &= !bit;
        if *bits == 0 {
            self.order.remove(&word);
        }
        // A table a quarter full gives half of its memory back; it grows again only when it is twice as full.
        if self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
        Some(removed)
    }
}

/// Bits that are set in a word, ascending.
struct Bits(u64);

impl Iterator for Bits {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let bit = self.0.trailing_zeros();
        self.0 &= self.0.checked_sub(1)?;
        Some(u64::from(bit))
    }
}

/// The word of an index in the order of its shard, and its bit there.
fn word_of(index: u64) -> (u64, u64) {
    let rank = index >> COLUMN_BITS;
    (rank >> WORD_BITS, 1 << (rank % u64::from(u64::BITS)))
}

fn shard_of(index: u64) -> usize {
    let (rank, column) = (index >> COLUMN_BITS, index);
    (column.wrapping_add(shift_of(rank)) % INDEX_SHARDS as u64) as usize
}

/// The index of this rank in a shard.
fn index_at(shard: u64, rank: u64) -> u64 {
    (rank << COLUMN_BITS) | (shard.wrapping_sub(shift_of(rank)) % INDEX_SHARDS as u64)
}

/// By how many shards the columns of a rank are shifted.
fn shift_of(rank: u64) -> u64 {
    // Multiplying by 2^64 over the golden ratio scatters neighbours and multiples of powers of two alike.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    rank.wrapping_mul(SPREAD) >> (u64::BITS - COLUMN_BITS)
}

/// Hashes an index by one multiplication. The factor is drawn at random: who chooses indexes cannot choose collisions.
#[derive(Clone, Copy)]
struct Scatter {
    factor: u64,
}

/// The hash of the last number that was written.
struct Scattered {
    factor: u64,
    hash: u64,
}

impl Scatter {
    fn new() -> Self {
        Self {
            // Odd, so that no two indexes have the same product.
            factor: RandomState::new().build_hasher().finish() | 1,
        }
    }
}

impl BuildHasher for Scatter {
    type Hasher = Scattered;

    fn build_hasher(&self) -> Scattered {
        Scattered {
            factor: self.factor,
            hash: 0,
        }
    }
}

impl Hasher for Scattered {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(u64::from(byte)));
    }

    fn write_u64(&mut self, number: u64) {
        // The table uses the highest bits and the lowest: both depend on all of the number.
        let product = u128::from(number ^ self.hash.rotate_left(8)) * u128::from(self.factor);
        self.hash = (product >> 64) as u64 ^ product as u64;
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_selected_in_order_however_they_are_spread() {
        for stride in [1, 32, 4096, 1 << 40] {
            let map = Shards::new();
            let indexes: Vec<u64> = (0..200).map(|n| n * stride).collect();
            for &index in indexes.iter().rev() {
                map.edit(index, |mut place| place.put(index));
            }
            for max in [0, 1, 2, 31, 64, 199, 200, 1000, usize::MAX] {
                for skip in [0, 1, 77, 199] {
                    let from = indexes[skip];
                    let expected = &indexes[skip..(skip.saturating_add(max)).min(200)];
                    assert_eq!(map.select(from, max, |_| true), expected, "{stride} {max} {skip}");
                }
            }
            let even: Vec<u64> = indexes.iter().copied().step_by(2).take(40).collect();
            assert_eq!(map.select(0, 40, |&index| index / stride % 2 == 0), even);
            map.clear();
            assert!(map.select(0, 1, |_| true).is_empty());
        }
    }

    #[test]
    fn an_index_is_found_by_its_shard_and_rank() {
        for index in (0..5000).flat_map(|n| [n, n << 20, (1 << 48) - 1 - n, n * 0xdead_beef]) {
            assert_eq!(index_at(shard_of(index) as u64, index >> COLUMN_BITS), index);
        }
    }

    #[test]
    fn entries_that_go_leave_a_small_sound_map() {
        for stride in [1, 1 << 20] {
            let map = Shards::new();
            for n in 0..10_000 {
                assert_eq!(map.edit(n * stride, |mut place| place.put(n)), None);
            }
            for n in (0..10_000).filter(|n| n % 100 > 0) {
                assert_eq!(map.edit(n * stride, |mut place| place.take()), Some(n));
                assert_eq!(map.edit(n * stride, |mut place| place.take()), None);
            }
            let left: Vec<u64> = (0..10_000).step_by(100).map(|n| n * stride).collect();
            assert_eq!(map.select(0, usize::MAX, |_| true), left);
            for shard in 0..map.count() {
                assert!(map.is_sound(shard));
                let room = map.view_shard(shard, |map| map.entries.capacity());
                assert!(room < 32, "{room}");
            }
        }
    }

    #[test]
    fn an_order_that_disagrees_is_noticed() {
        let damages: [fn(&mut Map<()>); 4] = [
            |map| map.order.clear(),
            |map| {
                map.order.insert(1 << 20, 0);
            },
            |map| {
                map.entries.insert(u64::MAX, ());
            },
            |map| map.order.values_mut().for_each(|bits| *bits <<= 1),
        ];
        for damage in damages {
            let map = Shards::new();
            map.edit(1, |mut place| place.put(()));
            let shard = shard_of(1);
            assert!(map.is_sound(shard));
            damage(&mut map.shards[shard].write());
            assert!(!map.is_sound(shard));
        }
    }

    #[test]
    fn neighbours_are_in_different_shards() {
        let map: Shards<()> = Shards::new();
        for first in [0, 1 << 20] {
            let mut shards: Vec<_> = (first..first + 64)
                .map(|i| std::ptr::from_ref(map.shard(i)))
                .collect();
            shards.sort_unstable();
            shards.dedup();
            assert_eq!(shards.len(), INDEX_SHARDS);
        }
    }
}
