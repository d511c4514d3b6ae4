//! The states of all regular files: the bytes of now, and those that snapshots have kept.

use std::sync::Arc;

use crate::extent::Content;
use crate::fs::inode::Inode;
use crate::fs::snapshot::history::Version;
use crate::fs::snapshot::list::{Snapshot, Snapshots};
use crate::fs::snapshot::place::Place;
use crate::fs::snapshot::record::{Kept, Record};
use crate::fs::volume::Volume;
use crate::grid::Block;
use crate::vfs::{FileKind, Ino};

/// Stands for the number of a record where the state is that of the living file.
const LIVING: u64 = u64::MAX;

/// What a file has, or had.
pub(super) struct State {
    ino: Ino,
    /// Number of the record.
    number: u64,
    holder: Holder,
    /// Names that lead to it, in the living tree and in those of all snapshots; 0 where only look-ups keep it.
    names: u64,
}

/// Where the bytes are.
enum Holder {
    Living(Arc<Inode>),
    Kept(Arc<Record>),
}

impl State {
    /// Names that lead to it. One that only look-ups keep counts as if it had a name that nobody can ask for.
    pub(super) fn names(&self) -> u64 {
        self.names.max(1)
    }

    /// Whether only look-ups keep it.
    pub(super) fn is_nameless(&self) -> bool {
        self.names == 0
    }

    /// Length of the file in bytes.
    pub(super) fn len_bytes(&self) -> u64 {
        match &self.holder {
            Holder::Living(inode) => inode.content().map_or(0, |content| content.len()),
            Holder::Kept(record) => record.content().map_or(0, |content| content.len()),
        }
    }

    fn key(&self) -> (Ino, u64) {
        (self.ino, self.number)
    }

    /// Shows the block of each extent.
    pub(super) fn each_block(&self, mut show: impl FnMut(&Block)) {
        match &self.holder {
            Holder::Living(inode) => {
                if let Ok(content) = inode.content() {
                    content.blocks().for_each(&mut show);
                }
            }
            Holder::Kept(record) => record
                .content()
                .iter()
                .flat_map(|content| content.blocks())
                .for_each(show),
        }
    }
}

/// All states, known by their positions.
pub(super) struct States {
    /// In the order of their inodes and numbers.
    list: Vec<State>,
}

impl States {
    /// The states of this moment.
    pub(super) fn of(volume: &Volume, snapshots: &Snapshots) -> Self {
        let showing = Showing {
            snapshots: snapshots.iter().collect(),
        };
        let mut states = Self { list: Vec::new() };
        for inode in volume.table.snapshot() {
            if inode.kind == FileKind::Regular {
                states.add_living(inode, &showing);
            }
        }
        for (ino, versions) in volume.history.all() {
            states.add_kept(ino, &versions, &showing);
        }
        states.list.sort_unstable_by_key(State::key);
        states
    }

    fn add_living(&mut self, inode: Arc<Inode>, showing: &Showing<'_>) {
        let links = u64::from(inode.meta().nlink);
        let views = 1 + showing.count(inode.ino, inode.kept(), LIVING);
        self.list.push(State {
            ino: inode.ino,
            number: LIVING,
            holder: Holder::Living(inode),
            names: links * views,
        });
    }

    fn add_kept(&mut self, ino: Ino, versions: &[Version], showing: &Showing<'_>) {
        let mut before = 0;
        for version in versions {
            let record = &version.record;
            if record.content().is_some() {
                let links = u64::from(record.meta.nlink);
                self.list.push(State {
                    ino,
                    number: version.number,
                    holder: Holder::Kept(Arc::clone(record)),
                    names: links * showing.count(ino, before, version.number),
                });
            }
            before = version.number;
        }
    }

    /// Number of states.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// The state at a position.
    pub(super) fn get(&self, position: usize) -> &State {
        &self.list[position]
    }

    /// All states, in the order of their positions.
    pub(super) fn iter(&self) -> impl Iterator<Item = &State> {
        self.list.iter()
    }

    /// The position of the state to which a name with this inode number leads, as the number is shown; `None` for what
    /// is no regular file, or has come since.
    pub(super) fn find(&self, volume: &Volume, shown: Ino) -> Option<usize> {
        let (ino, number) = match Place::of(shown) {
            Some(Place::In { snapshot, ino }) => (ino, volume.history.number_from(ino, snapshot)),
            Some(Place::Control | Place::List) => return None,
            None => (shown, None),
        };
        let position = |key| self.list.binary_search_by_key(&key, State::key).ok();
        let kept = number.and_then(|number| position((ino, number)));
        // A record that was made meanwhile has what the living file had.
        kept.or_else(|| position((ino, LIVING)))
    }
}

/// Which snapshots show a state.
struct Showing<'a> {
    /// Oldest first: their numbers and the inodes that they know ascend.
    snapshots: Vec<&'a Snapshot>,
}

impl Showing<'_> {
    /// Number of snapshots behind number `after` and up to `last` that know an inode.
    fn count(&self, ino: Ino, after: u64, last: u64) -> u64 {
        let position = |is_before: &dyn Fn(&Snapshot) -> bool| {
            self.snapshots.partition_point(|snapshot| is_before(snapshot)) as u64
        };
        let first = position(&|snapshot| snapshot.number <= after || !snapshot.knows(ino));
        position(&|snapshot| snapshot.number <= last).saturating_sub(first)
    }
}

impl Record {
    /// The bytes, where it is of a regular file.
    fn content(&self) -> Option<&Content> {
        match &self.body {
            Kept::File(content) => Some(content),
            Kept::Directory(_) | Kept::Symlink(_) | Kept::Special(_) | Kept::Absent => None,
        }
    }
}
