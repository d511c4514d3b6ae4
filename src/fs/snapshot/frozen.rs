//! The volume as one snapshot has it: records where there are, else what has not changed since.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::list::Snapshot;
use super::record::{Kept, Record};
use crate::extent::Content;
use crate::fs::directory::{Entries, Target};
use crate::fs::inode::{Body, Inode, Meta};
use crate::fs::volume::Volume;
use crate::vfs::{Attr, FileKind, Ino};
use crate::{ErrorKind, Result};

/// One snapshot's view. Inode numbers are those of the living volume; each method fails with `Stale` for an inode that
/// the snapshot does not have.
#[derive(Clone, Copy)]
pub(in crate::fs) struct Frozen<'v> {
    volume: &'v Volume,
    snapshot: &'v Snapshot,
}

/// What a directory's entries come from.
struct FrozenDirectory<'a> {
    /// The records from the snapshot on, oldest first; none if the directory has not changed since.
    records: Vec<Arc<Record>>,
    /// The entries that it has now; `None` if it is gone.
    living: Option<&'a Entries>,
    /// Entries with this cookie or a greater one were added later.
    end: u64,
}

/// An entry of a directory.
pub(in crate::fs) struct FrozenEntry {
    pub(in crate::fs) cookie: u64,
    pub(in crate::fs) name: Box<[u8]>,
    pub(in crate::fs) target: Target,
}

impl<'v> Frozen<'v> {
    /// The view of a snapshot, which lives as long as the caller holds the gate.
    pub(in crate::fs) fn new(volume: &'v Volume, snapshot: &'v Snapshot) -> Self {
        Self { volume, snapshot }
    }

    /// Attributes.
    pub(in crate::fs) fn attr(&self, ino: Ino) -> Result<Attr> {
        self.state(ino, |record| record.attr(ino), Inode::attr)
    }

    /// Bytes of a regular file; `IsDirectory` or `InvalidArgument` for anything else.
    pub(in crate::fs) fn content(&self, ino: Ino) -> Result<Content> {
        let kept = |record: &Record| match &record.body {
            Kept::File(content) => Ok(content.clone()),
            Kept::Directory(_) => Err(ErrorKind::IsDirectory.into()),
            Kept::Symlink(_) | Kept::Special(_) | Kept::Absent => Err(ErrorKind::InvalidArgument.into()),
        };
        self.state(ino, kept, |inode| Ok(inode.content()?.clone()))?
    }

    /// Target of a symbolic link; `InvalidArgument` for anything else.
    pub(in crate::fs) fn target(&self, ino: Ino) -> Result<Box<[u8]>> {
        let kept = |record: &Record| match &record.body {
            Kept::Symlink(target) => Some(target.clone()),
            Kept::File(_) | Kept::Directory(_) | Kept::Special(_) | Kept::Absent => None,
        };
        let living = |inode: &Inode| match inode.body() {
            Body::Symlink(target) => Some(target.clone()),
            Body::File(_) | Body::Directory(_) | Body::Special(_) => None,
        };
        self.state(ino, kept, living)?
            .ok_or_else(|| ErrorKind::InvalidArgument.into())
    }

    /// What `read` finds in the attributes.
    pub(in crate::fs) fn meta<T>(&self, ino: Ino, read: impl Fn(FileKind, &Meta) -> T) -> Result<T> {
        let kept = |record: &Record| read(record.kind, &record.meta);
        self.state(ino, kept, |inode| read(inode.kind, &inode.meta()))
    }

    /// What an inode was, to make another of it below `parent`: its attributes, and its body but for a directory's entries.
    pub(in crate::fs) fn copy(&self, ino: Ino, parent: Ino) -> Result<(FileKind, Meta, Body)> {
        let kept = |record: &Record| {
            let body = record.body.copy(parent).ok_or(ErrorKind::Stale)?;
            Ok((record.kind, record.meta.clone(), body))
        };
        let living = |inode: &Inode| Ok((inode.kind, inode.meta().clone(), inode.body().copy(parent)));
        self.state(ino, kept, living)?
    }

    /// Where a directory hangs; `NotDirectory`.
    pub(in crate::fs) fn parent(&self, ino: Ino) -> Result<Ino> {
        let kept = |record: &Record| record.directory().map(|directory| directory.parent);
        let living = |inode: &Inode| inode.directory().ok().map(|directory| directory.parent());
        self.state(ino, kept, living)?
            .ok_or_else(|| ErrorKind::NotDirectory.into())
    }

    /// What a name stands for; `NotDirectory`, `NotFound`.
    pub(in crate::fs) fn find(&self, dir: Ino, name: &[u8]) -> Result<Target> {
        let found = self.directory(dir, |directory| {
            for kept in directory.records.iter().filter_map(|record| record.directory()) {
                if let Some((cookie, target)) = kept.lost.lock().find(name) {
                    return (cookie < directory.end).then_some(target);
                }
            }
            let (entry, target) = directory.living?.find(name)?;
            (entry.cookie < directory.end).then_some(target)
        })?;
        found.ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// Up to `max` entries behind `cookie`, in order; `NotDirectory`.
    pub(in crate::fs) fn entries(&self, dir: Ino, cookie: u64, max: usize) -> Result<Vec<FrozenEntry>> {
        self.directory(dir, |directory| {
            let mut found: BTreeMap<u64, FrozenEntry> = BTreeMap::new();
            // The oldest version of an entry counts.
            let mut add = |cookie, name: &[u8], target| {
                found.entry(cookie).or_insert_with(|| FrozenEntry {
                    cookie,
                    name: name.into(),
                    target,
                });
            };
            for kept in directory.records.iter().filter_map(|record| record.directory()) {
                for (cookie, entry) in kept.lost.lock().between(cookie, directory.end).take(max) {
                    add(cookie, &entry.name, entry.target);
                }
            }
            for (entry, target) in directory
                .living
                .iter()
                .flat_map(|entries| entries.after(cookie))
                .take(max)
            {
                if entry.cookie < directory.end {
                    add(entry.cookie, &entry.name, target);
                }
            }
            found.into_values().take(max).collect()
        })
    }

    /// Reads a record where there is one, else the living inode, which has not changed since the snapshot if it has not
    /// been kept for it after it was read.
    fn state<T>(&self, ino: Ino, kept: impl Fn(&Record) -> T, living: impl FnOnce(&Inode) -> T) -> Result<T> {
        let number = self.snapshot.number;
        let record = || self.volume.history.find(ino, number);
        let read = |record: &Record| match record.is_absent() {
            true => Err(ErrorKind::Stale.into()),
            false => Ok(kept(record)),
        };
        if let Some(record) = record() {
            return read(&record);
        }
        if self.snapshot.knows(ino)
            && let Ok(inode) = self.volume.table.get(ino)
        {
            let state = living(&inode);
            if inode.kept() < number {
                return Ok(state);
            }
        }
        // It was changed, or has gone, meanwhile.
        record().map_or(Err(ErrorKind::Stale.into()), |record| read(&record))
    }

    /// Runs `read` on a directory that does not change meanwhile.
    fn directory<T>(&self, dir: Ino, read: impl FnOnce(&FrozenDirectory<'_>) -> T) -> Result<T> {
        let living = self
            .volume
            .table
            .get(dir)
            .ok()
            .filter(|_| self.snapshot.knows(dir));
        let entries = match &living {
            Some(inode) => Some(inode.directory()?.entries()),
            None => None,
        };
        // Who keeps the directory reads the entries too, but who changes it then waits for this lock.
        let unchanged = living
            .as_ref()
            .is_some_and(|inode| inode.kept() < self.snapshot.number);
        let mut directory = FrozenDirectory {
            records: Vec::new(),
            living: entries.as_deref(),
            end: u64::MAX,
        };
        if !unchanged {
            let versions = self.volume.history.all_from(dir, self.snapshot.number);
            directory.records = versions.into_iter().map(|version| version.record).collect();
            let first = directory.records.first().filter(|first| !first.is_absent());
            let first = first.ok_or(ErrorKind::Stale)?;
            directory.end = first.directory().ok_or(ErrorKind::NotDirectory)?.next_cookie;
        }
        Ok(read(&directory))
    }
}
