//! Making, deleting and listing snapshots.

use super::list::check_name;
use super::place::Place;
use super::usage::SnapshotUsage;
use crate::Result;
use crate::clock::Timestamp;
use crate::fs::volume::Volume;
use crate::limits::SNAPSHOT_COST;
use crate::vfs::{Ino, Outdated};

/// Records that are handed over before other operations have their turn.
const BATCH: usize = 256;

/// A snapshot, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Inodes whose state it has kept because they have changed since, up to the next snapshot.
    pub changed_inodes: u64,
    /// Bytes charged for it beside the bytes of files.
    pub metadata_bytes: u64,
    /// Memory of files' bytes that only it holds: what deleting it frees, beside metadata.
    pub private_bytes: u64,
}

impl Volume {
    /// Freezes the present state under a name. Takes constant time; it waits for the operations that run, and those that
    /// change something wait for it.
    ///
    /// # Errors
    /// `InvalidArgument` for a bad name, `Exists`, `NoSpace`, `QuotaExceeded`.
    pub fn create_snapshot(&self, name: &str) -> Result<()> {
        check_name(name)?;
        let _managing = self.managing.lock();
        self.add_snapshot(name)?;
        self.list_changed(name);
        Ok(())
    }

    /// Deletes a snapshot, and frees what no other needs. Takes time in proportion to what has changed since; other
    /// operations go on meanwhile.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn delete_snapshot(&self, name: &str) -> Result<()> {
        let _managing = self.managing.lock();
        self.drop_snapshot(name)?;
        self.list_changed(name);
        Ok(())
    }

    /// As [`Volume::create_snapshot`], of any name and without telling of it; the caller holds the managing lock.
    pub(in crate::fs) fn add_snapshot(&self, name: &str) -> Result<()> {
        let mut snapshots = self.snapshots.write();
        let _structure = self.structure.read();
        self.namespace.charge(snapshot_cost(name))?;
        snapshots
            .add(name, self.now(), self.table.next())
            .inspect_err(|_| self.namespace.release(snapshot_cost(name)))
    }

    /// As [`Volume::delete_snapshot`], without telling of it; the caller holds the managing lock.
    pub(in crate::fs) fn drop_snapshot(&self, name: &str) -> Result<()> {
        let removed = {
            let mut snapshots = self.snapshots.write();
            let number = snapshots.find(name)?.number;
            snapshots.remove(number, self.now())
        };
        let removed = removed.expect("the snapshot was found under the same lock");
        for batch in removed.touched.lock().chunks(BATCH) {
            let change = self.change_names();
            let hand_over = |ino: &Ino| change.hand_over(*ino, removed.number);
            let returned: Vec<_> = batch.iter().map(hand_over).collect();
            drop(change);
            // Their contents end without a lock.
            drop(returned);
        }
        let _structure = self.structure.read();
        self.namespace.release(snapshot_cost(name));
        Ok(())
    }

    /// The snapshots, oldest first. Walks all extents.
    pub fn list_snapshots(&self) -> Vec<SnapshotInfo> {
        let _managing = self.managing.lock();
        let snapshots = self.snapshots.read();
        let usage = SnapshotUsage::of_each(&self.history, &self.table, &snapshots);
        let info = snapshots.shown().map(|snapshot| {
            let touched = snapshot.touched.lock().clone();
            let records = touched
                .iter()
                .filter_map(|ino| self.history.find(*ino, snapshot.number));
            SnapshotInfo {
                name: snapshot.name.to_string(),
                created: snapshot.created,
                changed_inodes: touched.len() as u64,
                private_bytes: usage.private_bytes(snapshot.number),
                metadata_bytes: snapshot_cost(&snapshot.name)
                    + records.map(|record| record.cost()).sum::<u64>(),
            }
        });
        info.collect()
    }

    /// Sets who is told what a frontend may remember no more, after a snapshot came or went or the volume was rolled
    /// back. No operation waits for a lock that is held meanwhile, but snapshots do: it must not make or delete any.
    pub fn on_outdated(&self, forget: impl Fn(&[Outdated]) + Send + Sync + 'static) {
        *self.outdated.write() = Box::new(forget);
    }

    /// Tells the frontend what it may remember no more.
    pub(in crate::fs) fn tell_outdated(&self, outdated: &[Outdated]) {
        (self.outdated.read())(outdated);
    }

    /// A snapshot of that name came or went.
    fn list_changed(&self, name: &str) {
        let list = Place::List.ino();
        let entry = Outdated::Entry {
            parent: list,
            name: name.as_bytes().into(),
        };
        self.tell_outdated(&[Outdated::Inode(list), entry]);
    }
}

/// Bytes charged for a snapshot.
pub(in crate::fs) fn snapshot_cost(name: &str) -> u64 {
    SNAPSHOT_COST + name.len() as u64
}
