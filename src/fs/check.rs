//! The proof that the volume's structures fit together.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::agree::agree;
use super::directory::entry_cost;
use super::inode::{Body, Directory, Inode};
use super::snapshot;
use super::snapshot::record::Kept;
use super::usage;
use super::volume::Volume;
use crate::vfs::{FileKind, Ino};
use crate::{Error, ErrorKind, Result};

/// What a check went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Inodes.
    pub inodes: u64,
    /// Directories among them.
    pub directories: u64,
    /// Names.
    pub entries: u64,
    /// Regular files, whose extents were all verified.
    pub files: u64,
    /// Snapshots, each walked in full.
    pub snapshots: u64,
}

/// What was counted on the way, to be compared with what the inodes say.
#[derive(Default)]
struct Tally {
    report: CheckReport,
    /// Names by inode.
    names: HashMap<u64, u32>,
    /// Subdirectories by directory.
    subdirectories: HashMap<u64, u32>,
    charged_bytes: u64,
}

impl Volume {
    /// Verifies every structure of the volume: names, link counts, extents, snapshots, accounting. Operations that
    /// change something, and those that read a snapshot, wait meanwhile.
    ///
    /// # Errors
    /// `Corrupt`, naming the first rule that does not hold and where.
    pub fn check(&self) -> Result<CheckReport> {
        self.check_and(|| Ok(()))
    }

    /// Verifies the volume and whatever lies below it, while both hold still.
    ///
    /// # Errors
    /// As [`Volume::check`], and those of `below`.
    pub fn check_and(&self, below: impl FnOnce() -> Result<()>) -> Result<CheckReport> {
        let _managing = self.managing.lock();
        let snapshots = self.snapshots.write();
        let _structure = self.structure.write();
        let inodes = self.table.snapshot();
        let mut tally = Tally::default();
        for inode in &inodes {
            tally.visit(self, inode)?;
        }
        for inode in &inodes {
            tally.compare_links(inode)?;
        }
        check_reachable(&inodes)?;
        tally.report.snapshots = snapshots.shown().count() as u64;
        tally.charged_bytes += snapshot::check::check(self, &snapshots)?;
        tally.compare_totals(self)?;
        usage::check(self, &snapshots)?;
        self.check_nodes()?;
        below()?;
        Ok(tally.report)
    }

    /// Verifies the extents of a regular file as they are at one moment.
    ///
    /// # Errors
    /// `Corrupt`, naming the first rule that does not hold and where; `Stale`, `IsDirectory`, `InvalidArgument` for what is
    /// no regular file.
    pub fn check_file(&self, ino: Ino) -> Result<()> {
        self.looks.give_way();
        let _look = self.looks.begin();
        let pinned = self.table.get(ino)?.content()?.clone();
        pinned.check()
    }

    /// Compares what is charged for the nodes of extent maps with those in living files and records, shared ones once.
    /// No change runs meanwhile.
    fn check_nodes(&self) -> Result<()> {
        agree(|| (self.namespace.node_bytes(), self.count_nodes())).map_err(|(charged, counted)| {
            corrupt(format!(
                "{charged} bytes charged for nodes of extent maps, {counted} counted"
            ))
        })
    }

    fn count_nodes(&self) -> u64 {
        let mut seen = HashSet::new();
        let mut counted = 0;
        for inode in self.table.snapshot() {
            if let Ok(content) = inode.content() {
                counted += content.node_bytes(&mut seen);
            }
        }
        for (_, versions) in self.history.all() {
            for version in versions {
                if let Kept::File(content) = &version.record.body {
                    counted += content.node_bytes(&mut seen);
                }
            }
        }
        counted
    }
}

fn corrupt(context: String) -> Error {
    Error::new(ErrorKind::Corrupt, context)
}

impl Tally {
    fn visit(&mut self, volume: &Volume, inode: &Inode) -> Result<()> {
        self.report.inodes += 1;
        self.charged_bytes += inode.cost();
        match inode.body() {
            Body::Directory(directory) => self.visit_directory(volume, inode.ino, directory),
            Body::File(_) => {
                self.report.files += 1;
                let checked = inode.content()?.check();
                checked.map_err(|error| corrupt(format!("inode {}", inode.ino.0)).with_source(error))
            }
            Body::Symlink(_) | Body::Special(_) => Ok(()),
        }
    }

    fn visit_directory(&mut self, volume: &Volume, ino: Ino, directory: &Directory) -> Result<()> {
        self.report.directories += 1;
        let entries = directory.entries();
        entries
            .check()
            .map_err(|error| corrupt(format!("directory {}", ino.0)).with_source(error))?;
        for (entry, target) in entries.after(0) {
            self.report.entries += 1;
            self.charged_bytes += entry_cost(&entry.name);
            let name = entry.name.escape_ascii();
            let Ok(child) = volume.table.get(target.ino) else {
                return Err(corrupt(format!(
                    "directory {}: {name} names the dead inode {}",
                    ino.0, target.ino.0
                )));
            };
            if child.kind != target.kind {
                return Err(corrupt(format!("directory {}: {name} has the wrong type", ino.0)));
            }
            *self.names.entry(target.ino.0).or_default() += 1;
            if let Body::Directory(below) = child.body() {
                *self.subdirectories.entry(ino.0).or_default() += 1;
                if below.parent() != ino {
                    return Err(corrupt(format!("directory {}: {name} hangs elsewhere", ino.0)));
                }
            }
        }
        Ok(())
    }

    fn compare_links(&self, inode: &Inode) -> Result<()> {
        let count = |map: &HashMap<u64, u32>| map.get(&inode.ino.0).copied().unwrap_or(0);
        let names = count(&self.names);
        let nlink = inode.meta().nlink;
        let expected = match (inode.kind, inode.ino, names) {
            (FileKind::Directory, Ino::ROOT, 0) | (FileKind::Directory, _, 1) => {
                2 + count(&self.subdirectories)
            }
            (FileKind::Directory, _, names) => names,
            (_, _, names) => names,
        };
        let lookups = inode.lookups.load(Ordering::Acquire);
        if nlink != expected || (nlink == 0 && lookups == 0) {
            let context = format!(
                "inode {}: {nlink} links, {expected} expected, {names} names, {lookups} look-ups",
                inode.ino.0
            );
            return Err(corrupt(context));
        }
        Ok(())
    }

    fn compare_totals(&self, volume: &Volume) -> Result<()> {
        let charged = volume.namespace.charged_bytes();
        if charged != self.charged_bytes || volume.table.len() != self.report.inodes {
            let context = format!(
                "{charged} bytes charged for metadata, {} counted; {} inodes known, {} counted",
                self.charged_bytes,
                volume.table.len(),
                self.report.inodes
            );
            return Err(corrupt(context));
        }
        Ok(())
    }
}

/// Each directory with a name leads to the root: no loop hangs beside the tree.
fn check_reachable(inodes: &[Arc<Inode>]) -> Result<()> {
    let parents: HashMap<u64, u64> = inodes
        .iter()
        .filter_map(|inode| Some((inode.ino.0, inode.directory().ok()?.parent().0)))
        .collect();
    let named = |inode: &&Arc<Inode>| inode.kind == FileKind::Directory && inode.meta().nlink > 0;
    let mut proven = HashSet::from([Ino::ROOT.0]);
    for start in inodes.iter().filter(named) {
        let mut path = Vec::new();
        let mut at = start.ino.0;
        while !proven.contains(&at) {
            path.push(at);
            match parents.get(&at) {
                Some(&parent) if path.len() <= parents.len() => at = parent,
                Some(_) | None => {
                    return Err(corrupt(format!(
                        "directory {} does not lead to the root",
                        start.ino.0
                    )));
                }
            }
        }
        proven.extend(path);
    }
    Ok(())
}
