//! Blocks in groups: all blocks of a group have the same users, which are states of files.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::iter;

use super::states::States;
use crate::grid::BlockIndex;

/// Blocks that the same states use.
pub(super) struct Group {
    /// The last of its users, in the order of their positions.
    user: usize,
    /// The group of all its users before that.
    others: Option<usize>,
    /// Names that lead to its users.
    pub(super) names: u64,
    /// Memory of its blocks.
    pub(super) held_bytes: u64,
}

/// A block, when it was met first.
struct Met {
    group: usize,
    held_bytes: u32,
}

/// All blocks of all states.
///
/// ```text
/// users      a clone of an image, with a page of its own, and the image
/// groups     {clone} 4 KiB      {image} 64 KiB      {clone, image} 64 MiB less 64 KiB
/// ```
/// States are met one after the other, and each moves its blocks to groups with one user more. So a group is a chain of
/// users, chains share their beginnings, and there are no more of them than extents.
pub(super) struct Sharing {
    groups: Vec<Group>,
}

impl Sharing {
    /// Meets every extent of every state.
    pub(super) fn of(states: &States) -> Self {
        let mut blocks: HashMap<BlockIndex, Met> = HashMap::new();
        let mut sharing = Self { groups: Vec::new() };
        for (user, state) in states.iter().enumerate() {
            let mut joining = Joining {
                sharing: &mut sharing,
                user,
                names: state.names(),
                last: None,
                joined: HashMap::new(),
            };
            state.each_block(|block| match blocks.entry(block.index()) {
                Entry::Vacant(vacant) => {
                    let held_bytes = block.held_bytes();
                    let group = joining.enter(None, held_bytes);
                    vacant.insert(Met { group, held_bytes });
                }
                Entry::Occupied(mut met) => {
                    let met = met.get_mut();
                    // Another extent of the same file may have the block too.
                    if joining.sharing.groups[met.group].user != user {
                        met.group = joining.enter(Some(met.group), met.held_bytes);
                    }
                }
            });
        }
        sharing
    }

    /// Groups that have blocks, with their numbers.
    pub(super) fn groups(&self) -> impl Iterator<Item = (usize, &Group)> {
        let numbered = self.groups.iter().enumerate();
        numbered.filter(|(_, group)| group.held_bytes > 0)
    }

    /// Positions of the states that use the blocks of a group, descending.
    pub(super) fn users(&self, group: usize) -> impl Iterator<Item = usize> {
        let chain = iter::successors(Some(group), |group| self.groups[*group].others);
        chain.map(|group| self.groups[group].user)
    }

    /// Memory of all blocks.
    pub(super) fn held_bytes(&self) -> u64 {
        self.groups.iter().map(|group| group.held_bytes).sum()
    }
}

/// A state that meets its blocks.
struct Joining<'a> {
    sharing: &'a mut Sharing,
    user: usize,
    names: u64,
    /// The last pair of the map below: blocks that lie together are mostly of one group.
    last: Option<(Option<usize>, usize)>,
    /// Groups with this user, by the group without.
    joined: HashMap<Option<usize>, usize>,
}

impl Joining<'_> {
    /// Moves a block from the group of its other users to that with this user too, which it returns.
    fn enter(&mut self, from: Option<usize>, held_bytes: u32) -> usize {
        let to = match self.last {
            Some((last, to)) if last == from => to,
            _ => self.group(from),
        };
        self.last = Some((from, to));
        if let Some(from) = from {
            self.sharing.groups[from].held_bytes -= u64::from(held_bytes);
        }
        self.sharing.groups[to].held_bytes += u64::from(held_bytes);
        to
    }

    fn group(&mut self, from: Option<usize>) -> usize {
        let groups = &mut self.sharing.groups;
        let (user, names) = (self.user, self.names);
        *self.joined.entry(from).or_insert_with(|| {
            groups.push(Group {
                user,
                others: from,
                names: names + from.map_or(0, |from| groups[from].names),
                held_bytes: 0,
            });
            groups.len() - 1
        })
    }
}
