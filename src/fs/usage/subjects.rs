//! The names below what is asked about, and the states to which they lead.

use std::collections::HashSet;

use super::states::States;
use crate::fs::snapshot::frozen::Frozen;
use crate::fs::snapshot::list::{Snapshot, Snapshots};
use crate::fs::snapshot::place::{Place, is_shown};
use crate::fs::volume::Volume;
use crate::vfs::{FileKind, Ino};
use crate::{Error, ErrorKind, Result};

/// Entries of a directory that are read at a time.
const BATCH: usize = 1024;

/// What the usage of is asked for, in the living tree or in what snapshots show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A directory and all that is below it.
    Tree(Ino),
    /// What has this name: this name of a file, or a directory as above.
    Name {
        /// The directory.
        dir: Ino,
        /// The name in it.
        name: Box<[u8]>,
    },
}

/// How many names of a state a subject has.
pub(super) struct Cover {
    /// Position of the state.
    pub(super) state: usize,
    /// Position of the subject; that behind the last stands for all together.
    pub(super) subject: usize,
    /// At least 1.
    pub(super) names: u64,
}

/// The names that subjects have, by the states to which these lead.
pub(super) struct Names {
    subjects: usize,
    /// In the order of their states, and then of their subjects.
    covers: Vec<Cover>,
    /// Where the covers of each state begin, and behind them all where the last ones end.
    starts: Vec<usize>,
}

impl Names {
    /// Walks the trees of all subjects.
    ///
    /// # Errors
    /// As [`Volume::usage`].
    pub(super) fn below(
        volume: &Volume,
        snapshots: &Snapshots,
        states: &States,
        subjects: &[Subject],
    ) -> Result<Self> {
        let trees = Trees { volume, snapshots };
        let roots = subjects.iter().map(|subject| trees.root(subject));
        let roots = roots.collect::<Result<Vec<_>>>()?;
        let all: HashSet<&Root<'_>> = roots.iter().collect();
        let mut seen = HashSet::new();
        let mut covers = Vec::new();
        for (subject, root) in roots.iter().enumerate() {
            let mut found = Vec::new();
            trees.each_file(root, &mut |shown| found.extend(states.find(volume, shown)))?;
            found.sort_unstable();
            // What is below another subject counts there.
            let is_outermost = seen.insert(root) && !trees.is_below(root, &all)?;
            for same in found.chunk_by(|a, b| a == b) {
                let mut add = |subject| {
                    covers.push(Cover {
                        state: same[0],
                        subject,
                        names: same.len() as u64,
                    });
                };
                add(subject);
                if is_outermost {
                    add(subjects.len());
                }
            }
        }
        Ok(Self::new(subjects.len(), states.len(), covers))
    }

    fn new(subjects: usize, states: usize, mut covers: Vec<Cover>) -> Self {
        covers.sort_unstable_by_key(|cover| (cover.state, cover.subject));
        covers.dedup_by(|later, first| {
            let is_same = (later.state, later.subject) == (first.state, first.subject);
            if is_same {
                first.names += later.names;
            }
            is_same
        });
        let mut starts = vec![0; states + 1];
        for cover in &covers {
            starts[cover.state + 1] += 1;
        }
        for state in 0..states {
            starts[state + 1] += starts[state];
        }
        Self {
            subjects,
            covers,
            starts,
        }
    }

    /// Number of subjects.
    pub(super) fn subjects(&self) -> usize {
        self.subjects
    }

    /// What subjects have of all states.
    pub(super) fn covers(&self) -> &[Cover] {
        &self.covers
    }

    /// What subjects have of a state.
    pub(super) fn of(&self, state: usize) -> &[Cover] {
        &self.covers[self.starts[state]..self.starts[state + 1]]
    }

    /// How many names of a state a subject has.
    pub(super) fn names(&self, state: usize, subject: usize) -> u64 {
        let cover = self.of(state).iter().find(|cover| cover.subject == subject);
        cover.map_or(0, |cover| cover.names)
    }
}

/// The numbers of the regular files below the subjects, each once, ascending.
///
/// # Errors
/// As [`Volume::usage`]; `ReadOnly` for what is in a snapshot.
pub(in crate::fs) fn living_files(volume: &Volume, subjects: &[Subject]) -> Result<Vec<Ino>> {
    let _managing = volume.managing.lock();
    // As for the usage, nobody waits for the gate alone meanwhile.
    let snapshots = volume.snapshots.read();
    let trees = Trees {
        volume,
        snapshots: &snapshots,
    };
    let mut found = Vec::new();
    for subject in subjects {
        let (Subject::Tree(ino) | Subject::Name { dir: ino, .. }) = subject;
        if is_shown(*ino) {
            return Err(Error::new(ErrorKind::ReadOnly, "a snapshot cannot be changed"));
        }
        trees.each_file(&trees.root(subject)?, &mut |file| found.push(file))?;
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// What a subject turns out to be. Numbers are those that are shown.
#[derive(PartialEq, Eq, Hash)]
enum Root<'a> {
    Directory(Ino),
    File { ino: Ino, dir: Ino, name: &'a [u8] },
}

/// An entry of a directory, as it is shown.
struct Shown {
    cookie: u64,
    ino: Ino,
    kind: FileKind,
}

/// The living tree, and those that snapshots show.
struct Trees<'v> {
    volume: &'v Volume,
    snapshots: &'v Snapshots,
}

impl Trees<'_> {
    fn root<'a>(&self, subject: &'a Subject) -> Result<Root<'a>> {
        match subject {
            // Only a directory has one above it.
            Subject::Tree(ino) => self.parent(*ino).map(|_| Root::Directory(*ino)),
            Subject::Name { dir, name } => {
                let (ino, kind) = self.find(*dir, name).map_err(|error| {
                    let context = format!("there is no {} any more", name.escape_ascii());
                    Error::new(error.kind(), context)
                })?;
                Ok(match kind {
                    FileKind::Directory => Root::Directory(ino),
                    _ => Root::File { ino, dir: *dir, name },
                })
            }
        }
    }

    /// Shows the number of each name of a regular file. What goes meanwhile is not shown.
    fn each_file(&self, root: &Root<'_>, show: &mut dyn FnMut(Ino)) -> Result<()> {
        let mut todo = match root {
            Root::Directory(ino) => vec![*ino],
            Root::File { ino, .. } => {
                show(*ino);
                return Ok(());
            }
        };
        while let Some(dir) = todo.pop() {
            let mut cookie = 0;
            loop {
                let entries = match self.entries(dir, cookie) {
                    Err(error) if error.kind() == ErrorKind::Stale => break,
                    entries => entries?,
                };
                let Some(last) = entries.last() else { break };
                cookie = last.cookie;
                for entry in entries {
                    match entry.kind {
                        FileKind::Directory => todo.push(entry.ino),
                        FileKind::Regular => show(entry.ino),
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether one of the directories among `roots` is above this one.
    fn is_below(&self, root: &Root<'_>, roots: &HashSet<&Root<'_>>) -> Result<bool> {
        let mut at = match root {
            Root::Directory(ino) => self.parent(*ino)?,
            Root::File { dir, .. } => Some(*dir),
        };
        while let Some(dir) = at {
            if roots.contains(&Root::Directory(dir)) {
                return Ok(true);
            }
            at = self.parent(dir)?;
        }
        Ok(false)
    }

    /// The directory in which another is listed: the root lists no snapshots.
    fn parent(&self, dir: Ino) -> Result<Option<Ino>> {
        Ok(match Place::of(dir) {
            Some(Place::Control) => None,
            Some(Place::List) => Some(Place::Control.ino()),
            Some(Place::In { snapshot, ino }) => {
                let above = self.frozen(snapshot)?.parent(ino)?;
                Some(match ino {
                    Ino::ROOT => Place::List.ino(),
                    _ => Place::In { snapshot, ino: above }.ino(),
                })
            }
            None if dir == Ino::ROOT => None,
            None => Some(self.volume.table.get(dir)?.directory()?.parent()),
        })
    }

    /// What a name stands for.
    fn find(&self, dir: Ino, name: &[u8]) -> Result<(Ino, FileKind)> {
        match Place::of(dir) {
            Some(Place::In { snapshot, ino }) => {
                let target = self.frozen(snapshot)?.find(ino, name)?;
                let ino = Place::In {
                    snapshot,
                    ino: target.ino,
                }
                .ino();
                Ok((ino, target.kind))
            }
            // They list directories only, which are asked for by their numbers.
            Some(Place::Control | Place::List) => Err(ErrorKind::NotFound.into()),
            None => {
                let inode = self.volume.table.get(dir)?;
                let target = inode.directory()?.entries().get(name);
                let target = target.ok_or(ErrorKind::NotFound)?;
                Ok((target.ino, target.kind))
            }
        }
    }

    /// Some entries behind a cookie; none where there are no more.
    fn entries(&self, dir: Ino, cookie: u64) -> Result<Vec<Shown>> {
        let directory = |cookie, place: Place| Shown {
            cookie,
            ino: place.ino(),
            kind: FileKind::Directory,
        };
        Ok(match Place::of(dir) {
            Some(Place::Control) if cookie == 0 => vec![directory(1, Place::List)],
            Some(Place::Control) => Vec::new(),
            Some(Place::List) => {
                let behind = self.snapshots.shown().filter(|snapshot| snapshot.number > cookie);
                let roots = behind.map(|Snapshot { number, .. }| {
                    let (snapshot, ino) = (*number, Ino::ROOT);
                    directory(snapshot, Place::In { snapshot, ino })
                });
                roots.take(BATCH).collect()
            }
            Some(Place::In { snapshot, ino }) => {
                let entries = self.frozen(snapshot)?.entries(ino, cookie, BATCH)?;
                let shown = entries.into_iter().map(|entry| Shown {
                    cookie: entry.cookie,
                    ino: Place::In {
                        snapshot,
                        ino: entry.target.ino,
                    }
                    .ino(),
                    kind: entry.target.kind,
                });
                shown.collect()
            }
            None => {
                let inode = self.volume.table.get(dir)?;
                let entries = inode.directory()?.entries();
                let shown = entries.after(cookie).take(BATCH).map(|(entry, target)| Shown {
                    cookie: entry.cookie,
                    ino: target.ino,
                    kind: target.kind,
                });
                shown.collect()
            }
        })
    }

    fn frozen(&self, snapshot: u64) -> Result<Frozen<'_>> {
        let snapshot = self.snapshots.get(snapshot).ok_or(ErrorKind::Stale)?;
        Ok(Frozen::new(self.volume, snapshot))
    }
}
