//! The index map of a namespace: an ordered map in shards, so that threads seldom meet.
//!
//! Ordered maps rather than hash tables, because the occupied indexes are listed by range, and because their memory
//! shrinks when blocks go.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::mem;

use parking_lot::RwLock;

use crate::limits::INDEX_SHARDS;

/// A map from block indexes to `E`.
///
/// No `E` is dropped under a shard's lock: dropping a block enters the map of its namespace again. The closures that
/// run under a lock pass on what they take out.
pub(super) struct Shards<E> {
    shards: Box<[Shard<E>]>,
}

/// On its own cache line.
#[repr(align(64))]
struct Shard<E> {
    lock: RwLock<BTreeMap<u64, E>>,
}

impl<E> Shards<E> {
    pub(super) fn new() -> Self {
        Self {
            shards: (0..INDEX_SHARDS)
                .map(|_| Shard {
                    lock: RwLock::new(BTreeMap::new()),
                })
                .collect(),
        }
    }

    /// Looks at one entry, under the shard's read lock.
    pub(super) fn view<R>(&self, index: u64, f: impl FnOnce(Option<&E>) -> R) -> R {
        f(self.shard(index).lock.read().get(&index))
    }

    /// Changes one entry, under the shard's write lock.
    pub(super) fn edit<R>(&self, index: u64, f: impl FnOnce(Entry<'_, u64, E>) -> R) -> R {
        f(self.shard(index).lock.write().entry(index))
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
            let map = shard.lock.read();
            let some = map.range(from..).filter(|(_, entry)| wanted(entry));
            let before = found.len();
            found.extend(some.map(|(&index, _)| index).take(share));
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
    pub(super) fn view_shard<R>(&self, shard: usize, f: impl FnOnce(&BTreeMap<u64, E>) -> R) -> R {
        f(&self.shards[shard].lock.read())
    }

    /// Takes all entries out and drops them.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            let taken = mem::take(&mut *shard.lock.write());
            drop(taken);
        }
    }

    fn shard(&self, index: u64) -> &Shard<E> {
        // Multiplying by 2^64 over the golden ratio scatters neighbours and multiples of powers of two alike.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let top = index.wrapping_mul(SPREAD) >> (u64::BITS - INDEX_SHARDS.ilog2());
        &self.shards[top as usize]
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
                map.edit(index, |entry| *entry.or_insert(index));
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
