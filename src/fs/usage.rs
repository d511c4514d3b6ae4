//! What files take: memory that is freed with them, and memory that others hold too.
//!
//! ```text
//! states.rs   the bytes of every file, now and in snapshots, and how many names lead to each
//! sharing.rs  blocks in groups, each with the states that use it
//! subjects.rs the names below what is asked about
//! ```
//!
//! **Private.** A name leads to one state of a file: a name in the living tree to the bytes of now, a name in the tree
//! of a snapshot to those of then, which may be the same state. A block is private to a set of names if every name that
//! leads to a state with this block is in the set. So what is private is what goes when these names go: nothing of a
//! file that has another name elsewhere, or that a snapshot shows as it is now.
//!
//! Nothing stands still for this: on a volume that changes meanwhile the figures are inexact, though never
//! contradictory: the private and the shared bytes are the referenced ones.

mod sharing;
mod states;
mod subjects;

use std::collections::HashMap;

use self::sharing::Sharing;
use self::states::States;
use self::subjects::Names;
pub use self::subjects::Subject;
pub(super) use self::subjects::living_files;
use super::agree::agree;
use super::snapshot::list::Snapshots;
use super::snapshot::place::Place;
use super::volume::Volume;
use crate::vfs::Ino;
use crate::{Error, ErrorKind, Result};

/// What regular files take. Metadata is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileUsage {
    /// Files; one with several names counts once.
    pub files: u64,
    /// Sum of their lengths in bytes.
    pub logical_bytes: u64,
    /// Memory of the blocks that they use, each counted once.
    pub referenced_bytes: u64,
    /// Memory that they have for themselves: deleting them frees it, when no program has them open.
    pub private_bytes: u64,
    /// Files elsewhere, and states of files that snapshots have kept, with which they share a block. A file with another
    /// name elsewhere, and one that a snapshot shows as it is now, counts as such a file itself.
    pub sharing_files: u64,
}

impl FileUsage {
    /// Memory that others hold too.
    pub fn shared_bytes(&self) -> u64 {
        self.referenced_bytes - self.private_bytes
    }
}

/// What several subjects take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageReport {
    /// Each by itself, in the order in which they were asked for.
    pub each: Vec<FileUsage>,
    /// All of them together: what they share with each other only is private to all.
    pub total: FileUsage,
}

impl Volume {
    /// What files, directories and snapshots take, each by itself and all together. Takes time in proportion to all
    /// extents of the volume, and memory to all files and blocks; operations go on meanwhile, snapshots wait.
    ///
    /// # Errors
    /// `NotFound` for a name that does not exist, `Stale` and `NotDirectory` for a number that is no directory's.
    pub fn usage(&self, subjects: &[Subject]) -> Result<UsageReport> {
        let _managing = self.managing.lock();
        // Nobody waits for the gate alone while this holds it shared: who would does so under the lock above.
        let snapshots = self.snapshots.read();
        let states = States::of(self, &snapshots);
        let names = Names::below(self, &snapshots, &states, subjects)?;
        Ok(names.report(&states, &Sharing::of(&states)))
    }
}

impl Names {
    /// What the subjects take. The total stands behind them as if it were one more.
    fn report(&self, states: &States, sharing: &Sharing) -> UsageReport {
        let mut each = vec![FileUsage::default(); self.subjects() + 1];
        for cover in self.covers() {
            let usage = &mut each[cover.subject];
            usage.files += 1;
            usage.logical_bytes += states.get(cover.state).len_bytes();
        }
        // Groups of which a subject has some names and not all.
        let mut divided = vec![Vec::new(); each.len()];
        let mut covered: HashMap<usize, u64> = HashMap::new();
        for (number, group) in sharing.groups() {
            for cover in sharing.users(number).flat_map(|state| self.of(state)) {
                *covered.entry(cover.subject).or_default() += cover.names;
            }
            for (subject, names) in covered.drain() {
                each[subject].referenced_bytes += group.held_bytes;
                match names >= group.names {
                    true => each[subject].private_bytes += group.held_bytes,
                    false => divided[subject].push(number),
                }
            }
        }
        let mut seen = vec![usize::MAX; states.len()];
        for (subject, groups) in divided.iter().enumerate() {
            let users = groups.iter().flat_map(|group| sharing.users(*group));
            each[subject].sharing_files = users
                .filter(|state| std::mem::replace(&mut seen[*state], subject) != subject)
                .filter(|state| self.names(*state, subject) < states.get(*state).names())
                .count() as u64;
        }
        let total = each.pop().expect("the total stands behind the subjects");
        UsageReport { each, total }
    }
}

/// Verifies that the memory of all blocks is what the files account for, and that the trees, living and frozen, lead to
/// all of it but what open files without a name hold. Nothing changes meanwhile: the caller holds the gate alone.
///
/// # Errors
/// `Corrupt`, with the figures that differ.
pub(super) fn check(volume: &Volume, snapshots: &Snapshots) -> Result<()> {
    let states = States::of(volume, snapshots);
    let sharing = Sharing::of(&states);
    let everything = [Subject::Tree(Ino::ROOT), Subject::Tree(Place::List.ino())];
    let total = Names::below(volume, snapshots, &states, &everything)?
        .report(&states, &sharing)
        .total;
    let is_nameless = |group: usize| sharing.users(group).any(|state| states.get(state).is_nameless());
    let nameless = sharing.groups().filter(|(group, _)| is_nameless(*group));
    let nameless: u64 = nameless.map(|(_, group)| group.held_bytes).sum();
    let counted = sharing.held_bytes();
    if total.private_bytes + nameless != counted {
        let context = format!(
            "files hold {counted} bytes, of which names lead to {} alone and files without a name hold {nameless}",
            total.private_bytes
        );
        return Err(Error::new(ErrorKind::Corrupt, context));
    }
    compare_lent(volume, counted)
}

/// Compares the memory of all lent blocks with what files hold.
fn compare_lent(volume: &Volume, counted: u64) -> Result<()> {
    agree(|| (volume.namespace.lent_bytes(), counted)).map_err(|(lent, _)| {
        let context = format!("files hold {counted} bytes, blocks that are lent to them {lent}");
        Error::new(ErrorKind::Corrupt, context)
    })
}
