//! Memory that only snapshots hold: of all of them, and of each what deleting it would free.

use std::collections::HashMap;

use super::history::{History, Version};
use super::list::Snapshots;
use super::record::Kept;
use crate::fs::table::Table;
use crate::grid::BlockIndex;
use crate::vfs::Ino;

/// Who has a block that no living file has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Records that end with this snapshot.
    One(u64),
    /// Records that end with different ones.
    Several,
}

/// Blocks in records, of this moment: a volume that changes meanwhile makes the figures inexact.
pub(in crate::fs) struct SnapshotUsage {
    blocks: HashMap<BlockIndex, (Owner, u32)>,
}

impl SnapshotUsage {
    /// The blocks of all snapshots, and of each its own.
    pub(in crate::fs) fn of_each(history: &History, table: &Table, snapshots: &Snapshots) -> Self {
        Self::walk(history, table, |ino, number, before| {
            last_user(snapshots, ino, number, before)
        })
    }

    /// The blocks of all snapshots.
    pub(in crate::fs) fn of_all(history: &History, table: &Table) -> Self {
        Self::walk(history, table, |_, _, _| Owner::Several)
    }

    /// Walks all records, and then the extents of all living files. `owner` says with what a record ends, from its inode,
    /// its number, and that of the inode's record before it.
    fn walk(history: &History, table: &Table, owner: impl Fn(Ino, u64, u64) -> Owner) -> Self {
        let mut usage = Self {
            blocks: HashMap::new(),
        };
        for (ino, versions) in history.all() {
            for (at, version) in versions.iter().enumerate() {
                let before = at.checked_sub(1).map_or(0, |before| versions[before].number);
                usage.add(version, owner(ino, version.number, before));
            }
        }
        if usage.blocks.is_empty() {
            return usage;
        }
        for inode in table.snapshot() {
            if let Ok(content) = inode.content() {
                for block in content.blocks() {
                    usage.blocks.remove(&block.index());
                }
            }
        }
        usage
    }

    /// Bytes that only snapshots hold.
    pub(in crate::fs) fn total_bytes(&self) -> u64 {
        self.blocks.values().map(|(_, held)| u64::from(*held)).sum()
    }

    /// Bytes that deleting one snapshot frees.
    pub(in crate::fs) fn private_bytes(&self, snapshot: u64) -> u64 {
        let own = |(owner, _): &&(Owner, u32)| *owner == Owner::One(snapshot);
        let blocks = self.blocks.values().filter(own);
        blocks.map(|(_, held)| u64::from(*held)).sum()
    }

    fn add(&mut self, version: &Version, owner: Owner) {
        let Kept::File(content) = &version.record.body else {
            return;
        };
        for block in content.blocks() {
            let held = block.held_bytes();
            let known = self.blocks.entry(block.index()).or_insert((owner, held));
            if known.0 != owner {
                known.0 = Owner::Several;
            }
        }
    }
}

/// With which snapshot a record ends: with its own, unless an older one inherits it.
fn last_user(snapshots: &Snapshots, ino: Ino, number: u64, before: u64) -> Owner {
    let heir = snapshots.before(number).filter(|heir| heir.knows(ino));
    match heir {
        Some(heir) if heir.number > before => Owner::Several,
        Some(_) | None => Owner::One(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_two_snapshots_ends_with_neither_alone() {
        let mut snapshots = Snapshots::new(crate::clock::Timestamp::default());
        for name in ["a", "b"] {
            snapshots
                .add(name, crate::clock::Timestamp::default(), 10)
                .expect("the name is free");
        }
        let owner = |ino, before| last_user(&snapshots, Ino(ino), 2, before);
        assert!(
            owner(5, 0) == Owner::Several,
            "snapshot 1 has no record of its own"
        );
        assert!(owner(5, 1) == Owner::One(2), "it has one");
        assert!(owner(10, 0) == Owner::One(2), "it does not know the inode");
    }
}
