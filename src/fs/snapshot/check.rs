//! The proof that every snapshot is whole: records, what they are charged, and the tree of names that each shows.

use std::collections::{HashMap, HashSet};

use super::frozen::Frozen;
use super::history::Version;
use super::list::Snapshots;
use super::manage::snapshot_cost;
use super::record::Kept;
use crate::fs::inode::Size;
use crate::fs::volume::Volume;
use crate::vfs::{FileKind, Ino};
use crate::{Error, ErrorKind, Result};

/// Entries that are looked at together.
const BATCH: usize = 1024;

/// Verifies all records and trees; returns the bytes charged for them. The caller holds the structure lock alone, and no
/// snapshot comes or goes.
///
/// # Errors
/// `Corrupt`, naming the first rule that does not hold and where.
pub(in crate::fs) fn check(volume: &Volume, snapshots: &Snapshots) -> Result<u64> {
    let mut touched: HashSet<(u64, Ino)> = HashSet::new();
    let mut charged = 0;
    for snapshot in snapshots.iter() {
        charged += snapshot_cost(&snapshot.name);
        for ino in snapshot.touched.lock().iter() {
            if !touched.insert((snapshot.number, *ino)) {
                return Err(corrupt(format!(
                    "snapshot {}: inode {} is listed twice",
                    snapshot.name, ino.0
                )));
            }
        }
    }
    for (ino, versions) in volume.history.all() {
        if versions.is_empty() || !versions.is_sorted_by(|a, b| a.number < b.number) {
            return Err(corrupt(format!("inode {}: its records are out of order", ino.0)));
        }
        for version in &versions {
            if !touched.remove(&(version.number, ino)) {
                return Err(corrupt(format!("inode {}: no snapshot lists its record", ino.0)));
            }
            charged += version.record.cost();
            check_record(version)
                .map_err(|error| corrupt(format!("record of inode {}", ino.0)).with_source(error))?;
        }
    }
    if let Some((number, ino)) = touched.iter().next() {
        return Err(corrupt(format!(
            "snapshot {number}: the record of inode {} is missing",
            ino.0
        )));
    }
    for snapshot in snapshots.iter() {
        Walk::new(Frozen::new(volume, snapshot))
            .run()
            .map_err(|error| corrupt(format!("snapshot {}", snapshot.name)).with_source(error))?;
    }
    Ok(charged)
}

fn corrupt(context: String) -> Error {
    Error::new(ErrorKind::Corrupt, context)
}

fn check_record(version: &Version) -> Result<()> {
    match &version.record.body {
        Kept::File(content) => content.check(),
        Kept::Directory(kept) => {
            let lost = kept.lost.lock();
            if lost.between(kept.next_cookie - 1, u64::MAX).next().is_some() {
                return Err(corrupt("an entry was kept that was not there yet".into()));
            }
            lost.check()
        }
        Kept::Symlink(_) | Kept::Special(_) | Kept::Absent => Ok(()),
    }
}

/// A walk through the tree of a snapshot.
struct Walk<'v> {
    frozen: Frozen<'v>,
    /// Names of each inode.
    names: HashMap<Ino, u32>,
    /// Directories to be visited, with the one that they must hang below.
    todo: Vec<(Ino, Ino)>,
    /// Link counts that are known to be right: two for a directory and one for each below it.
    links: HashMap<Ino, u32>,
}

impl<'v> Walk<'v> {
    fn new(frozen: Frozen<'v>) -> Self {
        Self {
            frozen,
            names: HashMap::new(),
            todo: vec![(Ino::ROOT, Ino::ROOT)],
            links: HashMap::new(),
        }
    }

    fn run(mut self) -> Result<()> {
        while let Some((dir, above)) = self.todo.pop() {
            if self.frozen.parent(dir)? != above {
                return Err(corrupt(format!("directory {} hangs elsewhere", dir.0)));
            }
            self.visit(dir)?;
        }
        let files = self
            .names
            .iter()
            .filter(|(ino, _)| !self.links.contains_key(*ino));
        let links = files.chain(&self.links).map(|(ino, links)| (*ino, *links));
        for (ino, expected) in links {
            let nlink = self.frozen.attr(ino)?.nlink;
            if nlink != expected {
                return Err(corrupt(format!(
                    "inode {}: {nlink} links, {expected} expected",
                    ino.0
                )));
            }
        }
        Ok(())
    }

    fn visit(&mut self, dir: Ino) -> Result<()> {
        let (mut cookie, mut subdirectories, mut count) = (0, 0, 0_usize);
        loop {
            let entries = self.frozen.entries(dir, cookie, BATCH)?;
            for entry in &entries {
                let (name, target) = (entry.name.escape_ascii(), entry.target);
                if self.frozen.find(dir, &entry.name)? != target {
                    return Err(corrupt(format!(
                        "directory {}: {name} is listed, not found",
                        dir.0
                    )));
                }
                if self.frozen.attr(target.ino)?.kind != target.kind {
                    return Err(corrupt(format!("directory {}: {name} has the wrong type", dir.0)));
                }
                *self.names.entry(target.ino).or_default() += 1;
                if target.kind == FileKind::Directory {
                    subdirectories += 1;
                    self.todo.push((target.ino, dir));
                }
            }
            count += entries.len();
            match entries.last() {
                Some(last) => cookie = last.cookie,
                None => break,
            }
        }
        let size = self.frozen.attr(dir)?.size;
        if size != Size::of_directory(count).bytes() || self.links.insert(dir, 2 + subdirectories).is_some() {
            return Err(corrupt(format!(
                "directory {}: {count} entries, {size} bytes",
                dir.0
            )));
        }
        Ok(())
    }
}
