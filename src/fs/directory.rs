//! The entries of one directory: found by name, listed in the order of their cookies.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::limits::DENTRY_COST;
use crate::vfs::{FileKind, Ino};
use crate::{Error, ErrorKind, Result};

/// Cookie of `.`; `..` follows, then the entries.
pub(super) const COOKIE_DOT: u64 = 1;
/// Cookie of `..`.
pub(super) const COOKIE_DOT_DOT: u64 = 2;

/// Tombstones that a small directory may keep before it is compacted.
const TOMBSTONES_MIN: usize = 32;

/// Bytes charged for an entry of this name.
pub(super) fn entry_cost(name: &[u8]) -> u64 {
    DENTRY_COST + name.len() as u64
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) ino: Ino,
    pub(super) kind: FileKind,
}

/// One entry: its place in the listing, its name, its inode.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) cookie: u64,
    pub(super) name: Box<[u8]>,
    /// `None`: a tombstone that keeps the positions in `by_name` valid until the next compaction.
    target: Option<Target>,
}

/// Entries of a directory.
///
/// Invariants:
/// 1. `entries` ascends by cookie, and cookies are never used again: a listing that goes on behind a cookie meets
///    each lasting entry exactly once, whatever else came or went.
/// 2. `by_name` holds the position of each entry that has a target, under the hash of its name, and no other.
/// 3. `live` counts the entries with a target; tombstones are at most as many, plus `TOMBSTONES_MIN`.
#[derive(Debug)]
pub(super) struct Entries {
    entries: Vec<Entry>,
    by_name: HashTable<u32>,
    live: usize,
    next_cookie: u64,
    hasher: RandomState,
    /// Set when the directory is removed: nothing may be added any more.
    pub(super) removed: bool,
}

impl Entries {
    pub(super) fn new() -> Self {
        Self::from_cookie(COOKIE_DOT_DOT + 1)
    }

    /// No entries; the first that is added gets this cookie.
    pub(super) fn from_cookie(next_cookie: u64) -> Self {
        Self {
            entries: Vec::new(),
            by_name: HashTable::new(),
            live: 0,
            next_cookie,
            hasher: RandomState::new(),
            removed: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.live
    }

    pub(super) fn is_empty(&self) -> bool {
        self.live == 0
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<Target> {
        let position = self.position(name)?;
        self.entries[position].target
    }

    /// As [`Entries::get`], with the entry's place in the listing.
    pub(super) fn find(&self, name: &[u8]) -> Option<(&Entry, Target)> {
        let entry = &self.entries[self.position(name)?];
        Some((entry, entry.target?))
    }

    /// The cookie of the next entry that is added: all that are there have smaller ones.
    pub(super) fn next_cookie(&self) -> u64 {
        self.next_cookie
    }

    /// Adds an entry at the end of the listing.
    ///
    /// # Errors
    /// `NoSpace` where the directory holds 2^32 entries and tombstones.
    pub(super) fn insert(&mut self, name: &[u8], target: Target) -> Result<()> {
        debug_assert!(self.position(name).is_none(), "the caller has looked the name up");
        let position = u32::try_from(self.entries.len())
            .map_err(|_| Error::new(ErrorKind::NoSpace, "the directory is full (2^32 entries)"))?;
        self.entries.push(Entry {
            cookie: self.next_cookie,
            name: name.into(),
            target: Some(target),
        });
        self.next_cookie += 1;
        let hash = self.hasher.hash_one(name);
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.by_name
            .insert_unique(hash, position, |&at| hasher.hash_one(&*entries[at as usize].name));
        self.live += 1;
        Ok(())
    }

    /// Points an existing name to another inode; its place in the listing stays.
    pub(super) fn replace(&mut self, name: &[u8], target: Target) {
        let position = self.position(name).expect("the caller has looked the name up");
        self.entries[position].target = Some(target);
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, name: &[u8]) -> Option<(Entry, Target)> {
        let hash = self.hasher.hash_one(name);
        let entries = &self.entries;
        let found = self
            .by_name
            .find_entry(hash, |&at| &*entries[at as usize].name == name)
            .ok()?;
        let (position, _) = found.remove();
        let entry = &mut self.entries[position as usize];
        let tombstone = Entry {
            cookie: entry.cookie,
            name: Box::default(),
            target: None,
        };
        let removed = std::mem::replace(entry, tombstone);
        let target = removed.target.expect("a name that is found has a target");
        self.live -= 1;
        self.compact_if_sparse();
        Some((removed, target))
    }

    /// Entries behind `cookie`, in order.
    pub(super) fn after(&self, cookie: u64) -> impl Iterator<Item = (&Entry, Target)> {
        let first = self.entries.partition_point(|entry| entry.cookie <= cookie);
        self.entries[first..]
            .iter()
            .filter_map(|entry| Some((entry, entry.target?)))
    }

    /// Names of the entries behind `cookie`.
    pub(super) fn names_behind(&self, cookie: u64) -> Vec<Box<[u8]>> {
        self.after(cookie).map(|(entry, _)| entry.name.clone()).collect()
    }

    fn position(&self, name: &[u8]) -> Option<usize> {
        let hash = self.hasher.hash_one(name);
        let found = self
            .by_name
            .find(hash, |&at| &*self.entries[at as usize].name == name)?;
        Some(*found as usize)
    }

    /// Drops tombstones once they outnumber the living, which makes the cost constant per removal.
    fn compact_if_sparse(&mut self) {
        let tombstones = self.entries.len() - self.live;
        if tombstones <= self.live + TOMBSTONES_MIN {
            return;
        }
        self.entries.retain(|entry| entry.target.is_some());
        self.entries.shrink_to_fit();
        self.by_name = HashTable::with_capacity(self.live);
        let (entries, hasher) = (&self.entries, &self.hasher);
        for (position, entry) in (0u32..).zip(entries) {
            let hash = hasher.hash_one(&*entry.name);
            self.by_name
                .insert_unique(hash, position, |&at| hasher.hash_one(&*entries[at as usize].name));
        }
    }

    /// Verifies invariants 1 to 3.
    pub(super) fn check(&self) -> Result<()> {
        let ascending = self
            .entries
            .windows(2)
            .all(|pair| pair[0].cookie < pair[1].cookie)
            && self
                .entries
                .last()
                .is_none_or(|last| last.cookie < self.next_cookie);
        let named = self
            .after(0)
            .filter(|(entry, _)| self.get(&entry.name).is_some())
            .count();
        let tombstones = self.entries.len() - self.live;
        let sound = ascending
            && named == self.live
            && self.by_name.len() == self.live
            && tombstones <= self.live + TOMBSTONES_MIN
            && !(self.removed && self.live > 0);
        if sound {
            return Ok(());
        }
        let context = format!(
            "directory entries: ascending {ascending}, {named} found by name, {} hashed, {} live, {tombstones} \
             tombstones, removed {}",
            self.by_name.len(),
            self.live,
            self.removed
        );
        Err(Error::new(ErrorKind::Corrupt, context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(ino: u64) -> Target {
        Target {
            ino: Ino(ino),
            kind: FileKind::Regular,
        }
    }

    #[test]
    fn a_listing_goes_on_behind_its_cookie_while_entries_come_and_go() {
        let mut entries = Entries::new();
        for n in 0..1000u64 {
            entries
                .insert(format!("name{n}").as_bytes(), target(n + 2))
                .unwrap();
        }
        let mut seen = Vec::new();
        let mut cookie = 0;
        loop {
            let next = entries
                .after(cookie)
                .next()
                .map(|(entry, target)| (entry.cookie, target.ino.0));
            let Some((at, ino)) = next else { break };
            cookie = at;
            seen.push(ino);
            if ino % 2 == 0 {
                entries.remove(format!("name{}", ino - 2).as_bytes()).unwrap();
                entries.check().unwrap();
            }
        }
        assert_eq!(seen, (2..1002).collect::<Vec<_>>());
        assert_eq!(entries.len(), 500);
    }

    #[test]
    fn a_replaced_name_keeps_its_place() {
        let mut entries = Entries::new();
        entries.insert(b"a", target(2)).unwrap();
        entries.insert(b"b", target(3)).unwrap();
        entries.replace(b"a", target(9));
        let order: Vec<u64> = entries.after(0).map(|(_, t)| t.ino.0).collect();
        assert_eq!(order, [9, 3]);
        entries.check().unwrap();
    }

    #[test]
    fn emptying_a_directory_gives_its_memory_back() {
        let mut entries = Entries::new();
        for n in 0..10_000u64 {
            entries.insert(&n.to_le_bytes(), target(n)).unwrap();
        }
        for n in 0..10_000u64 {
            assert_eq!(entries.remove(&n.to_le_bytes()).unwrap().1, target(n));
        }
        entries.check().unwrap();
        assert!(entries.is_empty() && entries.entries.capacity() <= 2 * TOMBSTONES_MIN + 2);
    }
}
