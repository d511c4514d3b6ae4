//! Going back to a snapshot: what has changed since becomes what it was, everything else stays untouched.
//!
//! A rollback is a change like others: what newer snapshots need is kept first, so all snapshots stay as they are. It
//! is planned and paid for before the first change, and then cannot fail.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use super::list::{Snapshot, Snapshots};
use super::record::{Kept, Record};
use crate::Result;
use crate::extent::Content;
use crate::fs::directory::{Entries, Target, entry_cost};
use crate::fs::inode::change::{Change, Gate, Structure, Writable};
use crate::fs::inode::{Body, Directory, Inode, NewInode, inode_cost};
use crate::fs::volume::Volume;
use crate::vfs::{FileKind, Ino, Outdated};

impl Volume {
    /// Makes the volume what it was when the snapshot was made; all snapshots stay. Takes time in proportion to what
    /// has changed since, in which every other change waits. Files made since lose their names; who has one open keeps
    /// it.
    ///
    /// # Errors
    /// `NotFound`; `NoSpace`, `QuotaExceeded`, and then nothing has changed.
    pub fn rollback(&self, name: &str) -> Result<()> {
        let _managing = self.managing.lock();
        let snapshots = self.snapshots.write();
        let change = self.change_under(Gate::Exclusive(&snapshots), Structure::exclusive);
        let plan = Plan::make(self, &change, &snapshots, snapshots.find(name)?)?;
        let done = plan.apply();
        drop(change);
        drop(snapshots);
        self.tell_outdated(&done.outdated);
        Ok(())
    }
}

/// What a rollback changes.
struct Plan<'c> {
    volume: &'c Volume,
    change: &'c Change<'c>,
    restored: Vec<Restored<'c>>,
    /// Inodes with a name that the snapshot does not have.
    born: Vec<Writable<'c>>,
    /// Bytes to be charged.
    cost: u64,
}

/// An inode that has changed since, or has gone.
struct Restored<'c> {
    ino: Ino,
    record: Arc<Record>,
    living: Option<Writable<'c>>,
    /// Entries of a directory that it has no more.
    lost: Vec<(Box<[u8]>, Target)>,
    /// Cookie for the first entry of a directory that is brought back: no snapshot has seen it.
    next_cookie: u64,
}

/// What a rollback leaves to be done without locks: to tell the frontend, and to let go of the bytes.
#[derive(Default)]
struct Done {
    outdated: Vec<Outdated>,
    contents: Vec<Content>,
    dead: Vec<Arc<Inode>>,
}

impl<'c> Plan<'c> {
    /// Finds out what is to be done, keeps what newer snapshots need of it, and charges for it.
    fn make(
        volume: &'c Volume,
        change: &'c Change<'c>,
        snapshots: &Snapshots,
        snapshot: &Snapshot,
    ) -> Result<Self> {
        let mut plan = Self {
            volume,
            change,
            restored: Vec::new(),
            born: Vec::new(),
            cost: 0,
        };
        for ino in touched_since(snapshots, snapshot) {
            match volume.history.find(ino, snapshot.number) {
                Some(record) if record.is_absent() => plan.forget_later(ino)?,
                Some(record) => plan.restore(ino, record, snapshot)?,
                None => {}
            }
        }
        for inode in made_since(volume, snapshot) {
            plan.forget_later(inode.ino)?;
        }
        volume.namespace.charge(plan.cost)?;
        Ok(plan)
    }

    /// Plans to take an inode away, if it has a name.
    fn forget_later(&mut self, ino: Ino) -> Result<()> {
        if self
            .volume
            .table
            .get(ino)
            .is_ok_and(|inode| inode.meta().nlink > 0)
        {
            self.born.push(self.change.inode(ino)?);
        }
        Ok(())
    }

    /// Plans to make an inode what its record says.
    fn restore(&mut self, ino: Ino, record: Arc<Record>, snapshot: &Snapshot) -> Result<()> {
        let living = match self.volume.table.get(ino) {
            Ok(_) => Some(self.change.inode(ino)?),
            Err(_) => None,
        };
        if living.as_ref().is_none_or(|inode| inode.meta().nlink == 0) {
            self.change.note_absent(ino, record.kind)?;
        }
        let lost = lost_entries(self.volume, ino, living.as_ref(), snapshot.number);
        let present = living.as_ref().map_or(0, |inode| inode.cost());
        self.cost += record.cost_living().saturating_sub(present);
        self.cost += lost.iter().map(|(name, _)| entry_cost(name)).sum::<u64>();
        let versions = self.volume.history.all_from(ino, 0);
        let cookies = versions.iter().filter_map(|version| version.record.directory());
        self.restored.push(Restored {
            ino,
            record,
            living,
            lost,
            next_cookie: cookies.map(|kept| kept.next_cookie).max().unwrap_or(0),
        });
        Ok(())
    }

    fn apply(mut self) -> Done {
        let mut done = Done::default();
        for restored in &mut self.restored {
            done.outdated.push(Outdated::Inode(restored.ino));
            match &restored.living {
                Some(inode) => set_state(self.volume, inode, &restored.record, &mut done),
                None => {
                    let new = restored.record.revived(restored.ino, restored.next_cookie);
                    restored.living = new.map(|new| self.change.revive(new));
                }
            }
        }
        for restored in &self.restored {
            restored.set_entries(&mut done);
        }
        for inode in &self.born {
            self.forget(inode, &mut done);
        }
        done
    }

    /// Takes all names off an inode that was made since, and all entries out of it.
    fn forget(&self, inode: &Writable<'_>, done: &mut Done) {
        done.outdated.push(Outdated::Inode(inode.ino));
        if let Ok(mut names) = inode.names() {
            for name in names.names_behind(0) {
                names.remove(&name);
                done.entry(inode.ino, name);
            }
            names.set_removed(true);
        }
        inode.meta_mut().nlink = 0;
        self.volume.table.note_orphan_locked();
        done.dead.extend(self.volume.table.take_dead_locked(inode));
    }
}

impl Restored<'_> {
    /// Makes a directory's entries what they were. Those that come back are new to the listing: a newer snapshot that
    /// does not have them must not take them for its own.
    fn set_entries(&self, done: &mut Done) {
        let Some((inode, kept)) = self.living.as_ref().zip(self.record.directory()) else {
            return;
        };
        let mut names = inode.names().expect("a record is of its inode's kind");
        names.set_removed(false);
        for name in names.names_behind(kept.next_cookie - 1) {
            names.remove(&name);
            done.entry(self.ino, name);
        }
        for (name, target) in &self.lost {
            names.remove(name);
            names
                .insert_charged(name, *target)
                .expect("there was room for the entry when the snapshot was made");
            done.entry(self.ino, name.clone());
        }
    }
}

impl Done {
    fn entry(&mut self, parent: Ino, name: Box<[u8]>) {
        self.outdated.push(Outdated::Entry { parent, name });
    }
}

impl Record {
    /// Bytes charged for the living inode when it is what the record says, entries not included.
    fn cost_living(&self) -> u64 {
        let target_len = if let Kept::Symlink(target) = &self.body {
            target.len()
        } else {
            0
        };
        inode_cost(&self.meta, target_len)
    }

    /// An inode that has gone, as it was; a directory without entries. `None` where it was not there either.
    fn revived(&self, ino: Ino, next_cookie: u64) -> Option<NewInode> {
        let body = match &self.body {
            Kept::Directory(kept) => {
                Body::Directory(Directory::with(kept.parent, Entries::from_cookie(next_cookie)))
            }
            body => body.copy(ino)?,
        };
        Some(NewInode {
            ino,
            kind: self.kind,
            lookups: 0,
            meta: self.meta.clone(),
            body,
        })
    }
}

/// Makes a living inode what a record says, but for a directory's entries. What it costs more is charged already.
fn set_state(volume: &Volume, inode: &Writable<'_>, record: &Record, done: &mut Done) {
    let surplus = inode.cost().saturating_sub(record.cost_living());
    volume.namespace.release(surplus);
    {
        let mut meta = inode.meta_mut();
        if meta.nlink == 0 {
            volume.table.note_named_again();
        }
        *meta = record.meta.clone();
    }
    match &record.body {
        Kept::File(content) => {
            let mut present = inode.content_mut().expect("a record is of its inode's kind");
            done.contents.push(mem::replace(&mut *present, content.clone()));
        }
        Kept::Directory(kept) => inode.set_parent(kept.parent),
        Kept::Symlink(_) | Kept::Special(_) | Kept::Absent => {}
    }
}

/// Inodes of the snapshot that have a record of its number or a later one.
fn touched_since(snapshots: &Snapshots, snapshot: &Snapshot) -> BTreeSet<Ino> {
    let mut touched = BTreeSet::new();
    for newer in snapshots.from(snapshot.number) {
        touched.extend(newer.touched.lock().iter().filter(|ino| snapshot.knows(**ino)));
    }
    touched
}

/// Living inodes that were made after the snapshot.
fn made_since(volume: &Volume, snapshot: &Snapshot) -> Vec<Arc<Inode>> {
    let numbers = snapshot.next_ino..volume.table.next();
    if numbers.end - numbers.start < volume.table.len() {
        return numbers
            .filter_map(|ino| volume.table.get(Ino(ino)).ok())
            .collect();
    }
    let mut inodes = volume.table.snapshot();
    inodes.retain(|inode| !snapshot.knows(inode.ino));
    inodes
}

/// Entries that a directory had at the snapshot and has not, or not so, any more; in the order of the listing.
fn lost_entries(
    volume: &Volume,
    dir: Ino,
    living: Option<&Writable<'_>>,
    snapshot: u64,
) -> Vec<(Box<[u8]>, Target)> {
    if living.is_some_and(|inode| inode.kind != FileKind::Directory) {
        return Vec::new();
    }
    let present = living
        .and_then(|inode| inode.directory().ok())
        .map(|directory| directory.entries());
    let is_there = |name: &[u8], cookie: u64, target: Target| {
        let found = present.as_ref().and_then(|entries| entries.find(name));
        found.is_some_and(|(entry, now)| entry.cookie == cookie && now == target)
    };
    let versions = volume.history.all_from(dir, snapshot);
    let kept: Vec<_> = versions
        .iter()
        .filter_map(|version| version.record.directory())
        .collect();
    let end = kept.first().map_or(0, |first| first.next_cookie);
    let mut lost = BTreeMap::new();
    for kept in kept {
        for (cookie, entry) in kept.lost.lock().between(0, end) {
            lost.entry(cookie)
                .or_insert_with(|| (entry.name.clone(), entry.target));
        }
    }
    lost.retain(|cookie, (name, target)| !is_there(name, *cookie, *target));
    lost.into_values().collect()
}
