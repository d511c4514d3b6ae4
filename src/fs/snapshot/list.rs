//! The snapshots of a volume: their names, their order, and what each has kept.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::clock::Timestamp;
use crate::limits::{SNAPSHOT_NAME_MAX, SNAPSHOTS_MAX};
use crate::vfs::Ino;
use crate::{Error, ErrorKind, Result};

/// One snapshot.
pub(in crate::fs) struct Snapshot {
    /// Immutable: later snapshots have greater numbers, and no number is used twice.
    pub(in crate::fs) number: u64,
    /// Immutable.
    pub(in crate::fs) name: Box<str>,
    /// Immutable.
    pub(in crate::fs) created: Timestamp,
    /// Immutable: inodes with this number or a greater one were made later.
    pub(in crate::fs) next_ino: u64,
    /// Inodes that have a record of this snapshot's number; last in the lock order.
    pub(in crate::fs) touched: Mutex<Vec<Ino>>,
}

impl Snapshot {
    /// Whether the inode was there already.
    pub(in crate::fs) fn knows(&self, ino: Ino) -> bool {
        ino.0 < self.next_ino
    }
}

/// The living snapshots, oldest first.
pub(in crate::fs) struct Snapshots {
    living: BTreeMap<u64, Snapshot>,
    /// Number of the newest living one, 0 without any: each change asks for it.
    newest: u64,
    /// Greatest number ever given.
    last: u64,
    /// When a snapshot last came or went.
    changed: Timestamp,
}

impl Snapshots {
    /// No snapshot yet.
    pub(in crate::fs) fn new(now: Timestamp) -> Self {
        Self {
            living: BTreeMap::new(),
            newest: 0,
            last: 0,
            changed: now,
        }
    }

    /// Adds a snapshot of this moment.
    ///
    /// # Errors
    /// `Exists`, `NoSpace` where all numbers are used up.
    pub(in crate::fs) fn add(&mut self, name: &str, now: Timestamp, next_ino: u64) -> Result<()> {
        if self.find(name).is_ok() {
            return Err(Error::new(
                ErrorKind::Exists,
                format!(
                    "there is a snapshot `{name}` already\nhint: choose another name, or delete that one"
                ),
            ));
        }
        if self.last == SNAPSHOTS_MAX {
            return Err(Error::new(
                ErrorKind::NoSpace,
                format!("a drive makes at most {SNAPSHOTS_MAX} snapshots in its life"),
            ));
        }
        self.last += 1;
        let snapshot = Snapshot {
            number: self.last,
            name: name.into(),
            created: now,
            next_ino,
            touched: Mutex::new(Vec::new()),
        };
        self.living.insert(self.last, snapshot);
        self.newest = self.last;
        self.changed = now;
        Ok(())
    }

    /// Takes a snapshot out of the list.
    pub(in crate::fs) fn remove(&mut self, number: u64, now: Timestamp) -> Option<Snapshot> {
        let removed = self.living.remove(&number);
        self.newest = self.living.keys().next_back().copied().unwrap_or(0);
        self.changed = now;
        removed
    }

    /// The snapshot of this name.
    ///
    /// # Errors
    /// `NotFound`.
    pub(in crate::fs) fn find(&self, name: &str) -> Result<&Snapshot> {
        let found = self.living.values().find(|snapshot| &*snapshot.name == name);
        found.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!(
                    "there is no snapshot `{name}`\nhint: `okapi snapshot list` names those that there are"
                ),
            )
        })
    }

    /// The snapshot of this number.
    pub(in crate::fs) fn get(&self, number: u64) -> Option<&Snapshot> {
        self.living.get(&number)
    }

    /// All, oldest first.
    pub(in crate::fs) fn iter(&self) -> impl Iterator<Item = &Snapshot> {
        self.living.values()
    }

    /// The snapshot of this number and all newer ones, oldest first.
    pub(in crate::fs) fn from(&self, number: u64) -> impl Iterator<Item = &Snapshot> {
        self.living.range(number..).map(|(_, snapshot)| snapshot)
    }

    /// The newest snapshot older than this number.
    pub(in crate::fs) fn before(&self, number: u64) -> Option<&Snapshot> {
        self.living
            .range(..number)
            .next_back()
            .map(|(_, snapshot)| snapshot)
    }

    /// Number of the newest, 0 without any.
    pub(in crate::fs) fn newest_number(&self) -> u64 {
        self.newest
    }

    /// Those that were made on request, oldest first: the others have a dot before their name.
    pub(in crate::fs) fn shown(&self) -> impl Iterator<Item = &Snapshot> {
        self.iter().filter(|snapshot| !snapshot.name.starts_with('.'))
    }

    /// When one last came or went.
    pub(in crate::fs) fn changed(&self) -> Timestamp {
        self.changed
    }
}

/// Refuses a name that is no path component, needs quoting, or begins with a dot as those of the volume's own snapshots.
///
/// # Errors
/// `InvalidArgument`.
pub(in crate::fs) fn check_name(name: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+:@".contains(&byte);
    let sound = (1..=SNAPSHOT_NAME_MAX).contains(&name.len())
        && name.bytes().all(allowed)
        && !name.starts_with(['.', '-']);
    if sound {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidArgument,
        format!(
            "bad snapshot name `{}`\nhint: up to {SNAPSHOT_NAME_MAX} of A-Z a-z 0-9 . _ - + : @, beginning with none of . -",
            name.escape_default()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_path_components_that_need_no_quoting() {
        for good in ["a", "2026-11-21T10:00", "x.y_z+1@home"] {
            check_name(good).unwrap();
        }
        let long = "n".repeat(SNAPSHOT_NAME_MAX + 1);
        for bad in ["", ".", "..", ".a", "-a", "a/b", "a b", "\u{fc}", "a\n", &long] {
            let error = check_name(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{bad}");
        }
    }

    #[test]
    fn numbers_ascend_and_are_not_used_again() {
        let now = Timestamp::default();
        let mut snapshots = Snapshots::new(now);
        snapshots.add("a", now, 2).unwrap();
        snapshots.add("b", now, 3).unwrap();
        assert_eq!(snapshots.add("a", now, 3).unwrap_err().kind(), ErrorKind::Exists);
        assert_eq!(snapshots.newest_number(), 2);
        snapshots.remove(2, now).unwrap();
        assert_eq!(snapshots.newest_number(), 1);
        snapshots.add("b", now, 3).unwrap();
        assert_eq!(snapshots.newest_number(), 3);
        assert_eq!(snapshots.before(3).unwrap().number, 1);
        snapshots.add(".own", now, 3).unwrap();
        assert_eq!((snapshots.iter().count(), snapshots.shown().count()), (3, 2));
    }
}
