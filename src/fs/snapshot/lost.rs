//! Entries that a directory has lost since a snapshot, which still has them.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::fs::directory::{Target, entry_cost};
use crate::{Error, ErrorKind, Result};

/// An entry as it was.
pub(in crate::fs) struct LostEntry {
    pub(in crate::fs) name: Box<[u8]>,
    pub(in crate::fs) target: Target,
}

/// Entries by cookie and by name.
///
/// Invariants:
/// 1. `by_name` holds the cookie of each entry under the hash of its name, and no other.
/// 2. Names differ: all entries were in the directory at one moment.
/// 3. `charged` is the cost of all entries.
#[derive(Default)]
pub(in crate::fs) struct Lost {
    entries: BTreeMap<u64, LostEntry>,
    by_name: HashTable<u64>,
    hasher: RandomState,
    charged: u64,
}

impl Lost {
    /// Adds an entry, unless an older version of it is there already.
    pub(in crate::fs) fn insert(&mut self, cookie: u64, name: &[u8], target: Target) {
        if self.has(cookie) {
            return;
        }
        let hash = self.hasher.hash_one(name);
        self.charged += entry_cost(name);
        self.entries.insert(
            cookie,
            LostEntry {
                name: name.into(),
                target,
            },
        );
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.by_name
            .insert_unique(hash, cookie, |at| hasher.hash_one(&*entries[at].name));
    }

    /// Whether the entry of this cookie is there.
    pub(in crate::fs) fn has(&self, cookie: u64) -> bool {
        self.entries.contains_key(&cookie)
    }

    /// The entry of this name, with its cookie.
    pub(in crate::fs) fn find(&self, name: &[u8]) -> Option<(u64, Target)> {
        let hash = self.hasher.hash_one(name);
        let cookie = *self.by_name.find(hash, |at| &*self.entries[at].name == name)?;
        Some((cookie, self.entries[&cookie].target))
    }

    /// Entries behind one cookie and before another, ascending.
    pub(in crate::fs) fn between(&self, cookie: u64, end: u64) -> impl Iterator<Item = (u64, &LostEntry)> {
        let range = if cookie.saturating_add(1) < end {
            cookie + 1..end
        } else {
            end..end
        };
        self.entries.range(range).map(|(cookie, entry)| (*cookie, entry))
    }

    /// Bytes charged for the entries.
    pub(in crate::fs) fn charged(&self) -> u64 {
        self.charged
    }

    /// Verifies invariants 1 to 3.
    pub(in crate::fs) fn check(&self) -> Result<()> {
        let named = |(cookie, entry): (&u64, &LostEntry)| {
            self.find(&entry.name).is_some_and(|(found, _)| found == *cookie)
        };
        let cost: u64 = self.entries.values().map(|entry| entry_cost(&entry.name)).sum();
        if self.entries.iter().all(named) && self.by_name.len() == self.entries.len() && cost == self.charged
        {
            return Ok(());
        }
        let context = format!(
            "lost entries: {} of {} hashed, {} bytes charged for {cost}",
            self.by_name.len(),
            self.entries.len(),
            self.charged
        );
        Err(Error::new(ErrorKind::Corrupt, context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::{FileKind, Ino};

    fn target(ino: u64) -> Target {
        Target {
            ino: Ino(ino),
            kind: FileKind::Regular,
        }
    }

    #[test]
    fn the_oldest_version_of_an_entry_stays() {
        let mut lost = Lost::default();
        lost.insert(9, b"b", target(3));
        lost.insert(5, b"a", target(2));
        lost.insert(5, b"a", target(7));
        assert_eq!(lost.find(b"a"), Some((5, target(2))));
        assert_eq!(lost.find(b"c"), None);
        lost.check().unwrap();
        let cookies = |after, end| lost.between(after, end).map(|(at, _)| at).collect::<Vec<_>>();
        assert_eq!(cookies(0, 10), [5, 9]);
        assert_eq!(cookies(5, 10), [9]);
        assert_eq!(cookies(5, 9), [0; 0]);
        assert_eq!(cookies(u64::MAX, 9), [0; 0]);
    }
}
