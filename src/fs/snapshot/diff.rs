//! What differs between two snapshots: names that came, went or moved, and files whose bytes or attributes changed.

use std::collections::{BTreeSet, HashMap};

use super::frozen::Frozen;
use super::list::{Snapshot, Snapshots};
use crate::Result;
use crate::clock::Timestamp;
use crate::fs::inode::{Meta, Xattrs};
use crate::fs::volume::Volume;
use crate::range::ByteRange;
use crate::vfs::{FileKind, Ino};

/// Entries that are looked at together.
const BATCH: usize = 1024;
/// Name of the snapshot that stands for the present; nobody can choose it, and it is not shown.
const PRESENT: &str = ".present";

/// One difference. Paths are relative to the root, without a slash at their beginning; the root's own is empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// A name that only the newer state has.
    Added {
        /// Where.
        path: Vec<u8>,
    },
    /// A name that only the older state has.
    Removed {
        /// Where.
        path: Vec<u8>,
    },
    /// An inode that has another name, or is in another directory. What is below a directory that moved is not listed.
    Renamed {
        /// Where it was.
        from: Vec<u8>,
        /// Where it is.
        to: Vec<u8>,
    },
    /// An inode that both states have, under its path in the newer one.
    Modified {
        /// Where.
        path: Vec<u8>,
        /// Bytes of a regular file that differ, as start and end: whole pages, cut at the end of the file.
        ranges: Vec<(u64, u64)>,
        /// Whether mode, owner, group, extended attributes or, with the same bytes, the modification time differ.
        attributes: bool,
    },
}

impl Volume {
    /// What has to be done to the older state to make it the newer one, which is the present without `to`: sorted, and
    /// by path within each kind. Takes time in proportion to all names; operations go on meanwhile.
    ///
    /// # Errors
    /// `NotFound` for a snapshot that does not exist; `NoSpace`, `QuotaExceeded` where the present cannot be frozen for
    /// as long as this takes.
    pub fn diff(&self, from: &str, to: Option<&str>) -> Result<Vec<Difference>> {
        let _managing = self.managing.lock();
        // Nobody waits for the gate alone while this holds it shared: who would does so under the lock above.
        self.snapshots.read().find(from)?;
        if let Some(to) = to {
            return diff_named(self, from, to);
        }
        self.add_snapshot(PRESENT)?;
        let differences = diff_named(self, from, PRESENT);
        self.drop_snapshot(PRESENT)?;
        differences
    }
}

fn diff_named(volume: &Volume, from: &str, to: &str) -> Result<Vec<Difference>> {
    let snapshots = volume.snapshots.read();
    let (from, to) = (snapshots.find(from)?, snapshots.find(to)?);
    let (older, newer) = if from.number <= to.number {
        (from, to)
    } else {
        (to, from)
    };
    let touched = touched_between(&snapshots, older, newer);
    let before = Tree::walk(volume, from, older, &touched)?;
    let after = Tree::walk(volume, to, older, &touched)?;
    let mut differences = Vec::new();
    let inodes: BTreeSet<Ino> = before.names.keys().chain(after.names.keys()).copied().collect();
    for ino in inodes {
        compare_names(&before, &after, ino, &mut differences);
        if before.names.contains_key(&ino) && after.names.contains_key(&ino) {
            differences.extend(compare_states(&before, &after, ino)?);
        }
    }
    differences.sort();
    Ok(differences)
}

/// Inodes that may differ between two snapshots and were there at the older one.
fn touched_between(snapshots: &Snapshots, older: &Snapshot, newer: &Snapshot) -> BTreeSet<Ino> {
    let mut touched = BTreeSet::new();
    for snapshot in snapshots
        .from(older.number)
        .take_while(|snapshot| snapshot.number < newer.number)
    {
        touched.extend(snapshot.touched.lock().iter().copied());
    }
    touched
}

/// A name in a directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    dir: Ino,
    name: Box<[u8]>,
}

/// The names of all inodes that may differ in a snapshot, and the way to each directory.
struct Tree<'v> {
    frozen: Frozen<'v>,
    /// In order; the root has an empty one.
    names: HashMap<Ino, BTreeSet<Name>>,
    /// The one name of each directory.
    directories: HashMap<Ino, Name>,
}

impl<'v> Tree<'v> {
    fn walk(
        volume: &'v Volume,
        snapshot: &'v Snapshot,
        older: &Snapshot,
        touched: &BTreeSet<Ino>,
    ) -> Result<Self> {
        let mut tree = Self {
            frozen: Frozen::new(volume, snapshot),
            names: HashMap::new(),
            directories: HashMap::new(),
        };
        let may_differ = |ino: Ino| !older.knows(ino) || touched.contains(&ino);
        let root = Name {
            dir: Ino::ROOT,
            name: Box::default(),
        };
        if may_differ(Ino::ROOT) {
            tree.add(Ino::ROOT, root.clone());
        }
        let mut todo = vec![(Ino::ROOT, root)];
        while let Some((dir, name)) = todo.pop() {
            tree.directories.insert(dir, name);
            let mut cookie = 0;
            loop {
                let entries = tree.frozen.entries(dir, cookie, BATCH)?;
                let Some(last) = entries.last() else { break };
                cookie = last.cookie;
                for entry in entries {
                    let name = Name {
                        dir,
                        name: entry.name,
                    };
                    if may_differ(entry.target.ino) {
                        tree.add(entry.target.ino, name.clone());
                    }
                    if entry.target.kind == FileKind::Directory {
                        todo.push((entry.target.ino, name));
                    }
                }
            }
        }
        Ok(tree)
    }

    fn add(&mut self, ino: Ino, name: Name) {
        self.names.entry(ino).or_default().insert(name);
    }

    /// The path of a name.
    fn path(&self, name: &Name) -> Vec<u8> {
        let mut parts: Vec<&[u8]> = vec![&name.name];
        let mut at = name.dir;
        while at != Ino::ROOT {
            let name = &self.directories[&at];
            parts.push(&name.name);
            at = name.dir;
        }
        parts.reverse();
        parts.join(&b'/')
    }
}

/// Names of an inode that differ: as many as there are on both sides have moved.
fn compare_names(before: &Tree<'_>, after: &Tree<'_>, ino: Ino, found: &mut Vec<Difference>) {
    let (none, old) = (BTreeSet::new(), before.names.get(&ino));
    let (old, new) = (old.unwrap_or(&none), after.names.get(&ino).unwrap_or(&none));
    let mut gone = old.difference(new).map(|name| before.path(name));
    let mut come = new.difference(old).map(|name| after.path(name));
    loop {
        found.push(match (gone.next(), come.next()) {
            (Some(from), Some(to)) => Difference::Renamed { from, to },
            (Some(path), None) => Difference::Removed { path },
            (None, Some(path)) => Difference::Added { path },
            (None, None) => return,
        });
    }
}

/// The difference of an inode that both states have, if there is one.
fn compare_states(before: &Tree<'_>, after: &Tree<'_>, ino: Ino) -> Result<Option<Difference>> {
    let kind = after.frozen.attr(ino)?.kind;
    let ranges = match kind {
        FileKind::Regular => before
            .frozen
            .content(ino)?
            .differences(&after.frozen.content(ino)?),
        _ => Vec::new(),
    };
    let state = |tree: &Tree<'_>| tree.frozen.meta(ino, |_, meta| Attributes::of(meta));
    let (old, new) = (state(before)?, state(after)?);
    let touched = kind != FileKind::Directory && ranges.is_empty() && old.mtime != new.mtime;
    let attributes = touched || old.lasting != new.lasting;
    if ranges.is_empty() && !attributes {
        return Ok(None);
    }
    let name = after.names[&ino]
        .first()
        .expect("an inode that was walked to has a name");
    Ok(Some(Difference::Modified {
        path: after.path(name),
        ranges: ranges
            .iter()
            .map(|ByteRange { start, end }| (*start, *end))
            .collect(),
        attributes,
    }))
}

/// The attributes that count.
struct Attributes {
    lasting: (u16, u32, u32, Xattrs),
    mtime: Timestamp,
}

impl Attributes {
    fn of(meta: &Meta) -> Self {
        let xattrs = meta.xattrs.as_deref().cloned().unwrap_or_default();
        Self {
            lasting: (meta.mode, meta.uid, meta.gid, xattrs),
            mtime: meta.mtime,
        }
    }
}
