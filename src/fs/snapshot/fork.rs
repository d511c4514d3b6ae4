//! Clones of snapshots: a directory that a snapshot shows, as a new directory that can be changed.
//!
//! The new tree is made aside, where no name leads to it; it gets its name when it is whole, or is taken away again.

use std::collections::HashMap;

use super::frozen::Frozen;
use super::place::is_shown;
use crate::fs::directory::Target;
use crate::fs::inode::change::Change;
use crate::fs::inode::{Body, Meta, NewInode, inode_cost};
use crate::fs::names::{check_free, check_name, entries_changed};
use crate::fs::volume::Volume;
use crate::limits::{INODE_COST, LINK_MAX};
use crate::vfs::{FileKind, Ino, Outdated};
use crate::{Error, ErrorKind, Result};

/// Entries that are made before other operations have their turn.
const BATCH: usize = 256;

/// A clone to be made.
#[derive(Clone, Copy, Debug)]
pub struct CloneSnapshot<'a> {
    /// Name of the snapshot.
    pub snapshot: &'a str,
    /// Path of a directory in it, with slashes between names; empty for all of it. Symbolic links are not followed.
    pub path: &'a [u8],
    /// Directory in which the clone gets its name.
    pub dir: Ino,
    /// Its name.
    pub name: &'a [u8],
}

impl Volume {
    /// Makes a new directory with all that a directory of a snapshot has: names, attributes, links among them. Files
    /// share their blocks with the snapshot's until they are written to. Takes time in proportion to the names; other
    /// operations go on meanwhile, and see all of it or nothing.
    ///
    /// # Errors
    /// `InvalidArgument` and `NameTooLong` for a bad name, `NotFound` where there is no such snapshot, path or directory,
    /// `NotDirectory`, `Exists`, `ReadOnly` where the clone would be in a snapshot, `TooManyLinks`, `NoSpace`,
    /// `QuotaExceeded`. On an error nothing has changed.
    pub fn clone_snapshot(&self, clone: &CloneSnapshot<'_>) -> Result<()> {
        check_name(clone.dir, clone.name)?;
        self.with_room(|| {
            // The snapshot stays meanwhile, no other keeps what is made here, and no check looks for its names.
            let _managing = self.managing.lock();
            let (number, source) = find(self, clone)?;
            let mut fork = Fork::new(self, number);
            let made = fork.make_tree(source, clone);
            made.inspect_err(|_| fork.undo())
        })?;
        self.tell_outdated(&[
            Outdated::Inode(clone.dir),
            Outdated::Entry {
                parent: clone.dir,
                name: clone.name.into(),
            },
        ]);
        Ok(())
    }
}

/// The snapshot's number and the directory in it; refuses early what cannot get a name.
fn find(volume: &Volume, clone: &CloneSnapshot<'_>) -> Result<(u64, Ino)> {
    if is_shown(clone.dir) {
        return Err(Error::new(ErrorKind::ReadOnly, "a snapshot cannot be changed"));
    }
    check_free(&volume.table.get(clone.dir)?.directory()?.entries(), clone.name)?;
    let change = volume.change();
    let snapshot = change.snapshots().find(clone.snapshot)?;
    let frozen = Frozen::new(volume, snapshot);
    let source = walk(&frozen, clone.path).map_err(|error| {
        let context = format!("{} in snapshot `{}`", clone.path.escape_ascii(), clone.snapshot);
        Error::new(error.kind(), context).with_source(error)
    })?;
    Ok((snapshot.number, source))
}

/// The directory at a path in a snapshot.
fn walk(frozen: &Frozen<'_>, path: &[u8]) -> Result<Ino> {
    let mut at = Ino::ROOT;
    for name in path.split(|byte| *byte == b'/') {
        at = match name {
            b"" | b"." => at,
            b".." => frozen.parent(at)?,
            _ => frozen.find(at, name)?.ino,
        };
    }
    // Only a directory hangs somewhere.
    frozen.parent(at).map(|_| at)
}

/// A tree in the making.
struct Fork<'v> {
    volume: &'v Volume,
    /// The snapshot.
    number: u64,
    /// All inodes made so far.
    made: Vec<Ino>,
    /// What was made of files with several names.
    linked: HashMap<Ino, Ino>,
    /// Directories without their entries: the snapshot's, and what was made of it.
    todo: Vec<(Ino, Ino)>,
}

impl<'v> Fork<'v> {
    fn new(volume: &'v Volume, number: u64) -> Self {
        Self {
            volume,
            number,
            made: Vec::new(),
            linked: HashMap::new(),
            todo: Vec::new(),
        }
    }

    /// Makes everything, and gives it its name.
    fn make_tree(&mut self, source: Ino, clone: &CloneSnapshot<'_>) -> Result<()> {
        let change = self.volume.change_names();
        let top = self.make(&change, source, clone.dir)?;
        drop(change);
        while let Some((source, copy)) = self.todo.pop() {
            let mut cookie = Some(0);
            while let Some(behind) = cookie {
                cookie = self.fill(source, copy, behind)?;
            }
        }
        let change = self.volume.change_names();
        let dir = change.inode(clone.dir)?;
        let mut names = dir.names()?;
        check_free(&names, clone.name)?;
        if dir.meta().nlink >= LINK_MAX {
            return Err(ErrorKind::TooManyLinks.into());
        }
        names.insert(clone.name, top)?;
        entries_changed(&dir, 1, self.volume.now());
        Ok(())
    }

    /// Makes some entries of a directory; returns the cookie behind which there may be more.
    fn fill(&mut self, source: Ino, copy: Ino, cookie: u64) -> Result<Option<u64>> {
        let change = self.volume.change_names();
        let entries = self.frozen(&change)?.entries(source, cookie, BATCH)?;
        let dir = change.inode(copy)?;
        let mut names = dir.names()?;
        for entry in &entries {
            let target = self.make(&change, entry.target.ino, copy)?;
            names.insert(&entry.name, target)?;
            if target.kind == FileKind::Directory {
                dir.meta_mut().nlink += 1;
            }
        }
        Ok(entries.last().map(|last| last.cookie))
    }

    /// Makes an inode of one of the snapshot, below a directory of the clone; or finds that it was made.
    fn make(&mut self, change: &Change<'_>, source: Ino, parent: Ino) -> Result<Target> {
        if let Some(&ino) = self.linked.get(&source) {
            let inode = change.inode(ino)?;
            inode.meta_mut().nlink += 1;
            let kind = inode.kind;
            return Ok(Target { ino, kind });
        }
        let (kind, mut meta, body) = self.frozen(change)?.copy(source, parent)?;
        let is_linked = kind != FileKind::Directory && meta.nlink > 1;
        meta.nlink = if kind == FileKind::Directory { 2 } else { 1 };
        let reservation = self.volume.table.reserve(cost_beside(&meta, &body))?;
        let ino = reservation.number();
        let new = NewInode {
            ino,
            kind,
            lookups: 0,
            meta,
            body,
        };
        change.insert(reservation, new);
        self.made.push(ino);
        if is_linked {
            self.linked.insert(source, ino);
        }
        if kind == FileKind::Directory {
            self.todo.push((source, ino));
        }
        Ok(Target { ino, kind })
    }

    fn frozen<'c>(&self, change: &'c Change<'_>) -> Result<Frozen<'c>>
    where
        'v: 'c,
    {
        let snapshot = change.snapshots().get(self.number).ok_or(ErrorKind::Stale)?;
        Ok(Frozen::new(self.volume, snapshot))
    }

    /// Takes everything away.
    fn undo(&self) {
        let table = &self.volume.table;
        for batch in self.made.chunks(BATCH) {
            let mut dead = Vec::new();
            let change = self.volume.change_names();
            for ino in batch {
                let inode = change.inode(*ino).expect("what was just made needs no record");
                if let Ok(mut names) = inode.names() {
                    for name in names.names_behind(0) {
                        names.remove(&name);
                    }
                }
                inode.meta_mut().nlink = 0;
                table.note_orphan_locked();
                dead.extend(table.take_dead_locked(&inode));
            }
            drop(change);
            // Their contents end without a lock.
            drop(dead);
        }
    }
}

/// Bytes charged for a new inode beside those that every one costs.
fn cost_beside(meta: &Meta, body: &Body) -> u64 {
    let target_len = match body {
        Body::Symlink(target) => target.len(),
        Body::File(_) | Body::Directory(_) | Body::Special(_) => 0,
    };
    inode_cost(meta, target_len) - INODE_COST
}
