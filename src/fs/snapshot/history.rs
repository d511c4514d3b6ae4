//! The records of all inodes, by inode and by snapshot.

use std::sync::Arc;

use dashmap::DashMap;

use super::list::Snapshot;
use super::record::Record;
use crate::Result;
use crate::fs::inode::Inode;
use crate::grid::Namespace;
use crate::vfs::{FileKind, Ino};

/// A record, and the snapshot that it was kept for.
#[derive(Clone)]
pub(in crate::fs) struct Version {
    /// Number of the snapshot; it may be deleted by now.
    pub(in crate::fs) number: u64,
    pub(in crate::fs) record: Arc<Record>,
}

/// The records of all inodes.
///
/// Each charges its cost to the namespace for as long as it is here. The shards' locks are held only inside a call.
pub(in crate::fs) struct History {
    /// Invariant: the versions of an inode ascend by number, and there is at least one.
    versions: DashMap<u64, Vec<Version>>,
    namespace: Arc<Namespace>,
}

impl History {
    /// No record yet.
    pub(in crate::fs) fn new(namespace: Arc<Namespace>) -> Self {
        Self {
            versions: DashMap::new(),
            namespace,
        }
    }

    /// What the records are charged to.
    pub(in crate::fs) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Keeps an inode's state for the newest snapshot, unless that was done or is not needed: nothing leads to an
    /// inode without a name. The caller holds the structure lock and none of the inode's.
    ///
    /// # Errors
    /// `NoSpace`, `QuotaExceeded`.
    pub(in crate::fs) fn keep(&self, snapshot: &Snapshot, inode: &Inode) -> Result<()> {
        let entries = inode.directory().ok().map(|directory| directory.entries());
        let meta = inode.meta();
        if inode.kept() >= snapshot.number {
            return Ok(());
        }
        if meta.nlink > 0 {
            let record = Record::of(inode, &meta, entries.as_deref());
            self.namespace.charge(record.cost())?;
            snapshot.touched.lock().push(inode.ino);
            self.versions.entry(inode.ino.0).or_default().push(Version {
                number: snapshot.number,
                record: Arc::new(record),
            });
        }
        inode.set_kept(&meta, snapshot.number);
        Ok(())
    }

    /// Notes for the newest snapshot that nothing in it leads to an inode, unless there is a record for it. The caller
    /// holds the structure lock.
    ///
    /// # Errors
    /// `NoSpace`, `QuotaExceeded`.
    pub(in crate::fs) fn note_absent(&self, newest: &Snapshot, ino: Ino, kind: FileKind) -> Result<()> {
        let mut versions = self.versions.entry(ino.0).or_default();
        if versions.last().is_some_and(|last| last.number >= newest.number) {
            return Ok(());
        }
        let record = Record::absent(kind, newest.created);
        self.namespace.charge(record.cost())?;
        newest.touched.lock().push(ino);
        versions.push(Version {
            number: newest.number,
            record: Arc::new(record),
        });
        Ok(())
    }

    /// The first record of a number from `from` on.
    pub(in crate::fs) fn find(&self, ino: Ino, from: u64) -> Option<Arc<Record>> {
        let versions = self.versions.get(&ino.0)?;
        let first = versions.partition_point(|version| version.number < from);
        versions.get(first).map(|version| Arc::clone(&version.record))
    }

    /// The number of the first record of a number from `from` on.
    pub(in crate::fs) fn number_from(&self, ino: Ino, from: u64) -> Option<u64> {
        let versions = self.versions.get(&ino.0)?;
        let first = versions.partition_point(|version| version.number < from);
        versions.get(first).map(|version| version.number)
    }

    /// All records of a number from `from` on, oldest first.
    pub(in crate::fs) fn all_from(&self, ino: Ino, from: u64) -> Vec<Version> {
        self.versions.get(&ino.0).map_or_else(Vec::new, |versions| {
            let first = versions.partition_point(|version| version.number < from);
            versions[first..].to_vec()
        })
    }

    /// The newest record.
    pub(in crate::fs) fn newest(&self, ino: Ino) -> Option<Arc<Record>> {
        let versions = self.versions.get(&ino.0)?;
        versions.last().map(|version| Arc::clone(&version.record))
    }

    /// Hands the record of a deleted snapshot to the snapshot before it, or returns it where that has no use for it.
    /// The caller holds the structure lock; what is returned is dropped without it.
    pub(in crate::fs) fn hand_over(
        &self,
        ino: Ino,
        deleted: u64,
        older: Option<&Snapshot>,
    ) -> Option<Arc<Record>> {
        let mut versions = self.versions.get_mut(&ino.0)?;
        let at = versions.iter().position(|version| version.number == deleted)?;
        let heir = older.filter(|older| older.knows(ino));
        let before = at.checked_sub(1).map_or(0, |before| versions[before].number);
        match heir {
            Some(heir) if before < heir.number => {
                versions[at].number = heir.number;
                heir.touched.lock().push(ino);
                None
            }
            Some(_) => {
                let heir = Arc::clone(&versions[at - 1].record);
                let record = versions.remove(at).record;
                let before = heir.cost() + record.cost();
                merge(&heir, &record);
                self.namespace.release(before - heir.cost());
                Some(record)
            }
            None => {
                let record = versions.remove(at).record;
                let empty = versions.is_empty();
                drop(versions);
                if empty {
                    self.versions.remove_if(&ino.0, |_, versions| versions.is_empty());
                }
                self.namespace.release(record.cost());
                Some(record)
            }
        }
    }

    /// All inodes that have records, with these.
    pub(in crate::fs) fn all(&self) -> Vec<(Ino, Vec<Version>)> {
        let pair = |entry: dashmap::mapref::multiple::RefMulti<'_, u64, Vec<Version>>| {
            (Ino(*entry.key()), entry.value().clone())
        };
        self.versions.iter().map(pair).collect()
    }
}

/// Gives the entries that a directory lost after a newer record to the older one, as far as they were there already.
fn merge(older: &Record, newer: &Record) {
    let (Some(older), Some(newer)) = (older.directory(), newer.directory()) else {
        return;
    };
    let mut into = older.lost.lock();
    for (cookie, entry) in newer.lost.lock().between(0, older.next_cookie) {
        into.insert(cookie, &entry.name, entry.target);
    }
}
