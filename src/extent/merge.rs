//! Merging: extents that random writes have left side by side become one again, and blocks are cut to what is shown.
//!
//! ```text
//! region of a block   |==A==|=B=|==A==|   |=C=|=D=|      C is shared with another content, A, B and D with none
//! merged              |=======E=======|   |=C=|=D=|      one block for three extents; the hole stays a hole
//! ```
//!
//! A piece of neighbours is moved to a block of its own where all of it together then takes less memory: blocks by their
//! size classes, and what a block and an extent cost beside. It has to hold every handle on its blocks, else they
//! would not go: so what clones, snapshots and equal blocks elsewhere share stays shared, and so does a content whose
//! nodes others have. Of all ways to divide a region the cheapest is taken. To do it again changes nothing, for each
//! piece of a second time would have been one of the first.
//!
//! Bytes, length, holes and what was preallocated stay. Nothing is written to a block that anybody else may see, so
//! whoever comes to share one meanwhile only keeps it alive.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::content::Content;
use super::run::{Extent, block_len};
use crate::Result;
use crate::grid::{BlockIndex, Namespace, class_bytes};
use crate::limits::BLOCK_COST;
use crate::range::ByteRange;

/// What an extent takes in a node.
const EXTENT_BYTES: u64 = size_of::<Extent>() as u64;

/// What merging has brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// How many extents fewer there are.
    pub extents: u64,
    /// Memory that this gave back, in bytes: of blocks, and what is charged for blocks and extents.
    pub freed_bytes: u64,
}

impl Merged {
    /// Adds what was brought elsewhere.
    pub fn add(&mut self, other: Self) {
        self.extents += other.extents;
        self.freed_bytes += other.freed_bytes;
    }
}

impl Content {
    /// The first region of a block size that begins at `from` or behind and in which merging may bring something; `from`
    /// is where a region begins.
    pub fn next_scattered(&self, from: u64) -> Option<ByteRange> {
        if self.map.is_shared() {
            return None;
        }
        let mut before: Option<&Extent> = None;
        let found = self.map.iter_from(from).find(|extent| {
            let follows = before.is_some_and(|before| {
                before.page_end() == extent.start && self.region(before.start) == self.region(extent.start)
            });
            before = Some(extent);
            follows || extent.block.held_bytes() > class_bytes(extent.len)
        })?;
        Some(self.region_around(found.start))
    }

    /// Merges what can be merged in a region that [`Content::next_scattered`] has found. Copies a block's length of
    /// bytes at most. Where there is no memory for the copy, what it was to replace stays.
    pub fn merge(&mut self, namespace: &Arc<Namespace>, region: ByteRange) -> Merged {
        let mut merged = Merged::default();
        for piece in self.plan_merge(region) {
            if self.merge_piece(namespace, &piece).is_err() {
                break;
            }
            merged.add(piece.brings);
        }
        merged
    }

    /// The pieces of a region that are to be moved to blocks of their own.
    fn plan_merge(&mut self, region: ByteRange) -> Vec<Piece> {
        let starts: Vec<u64> = self
            .map
            .overlapping(region.start, region.end)
            .map(|extent| extent.start)
            .collect();
        // A clone may have come since the region was found.
        if self.map.is_shared()
            || !starts
                .iter()
                .all(|start| self.map.exclusive_mut(*start).is_some())
        {
            return Vec::new();
        }
        let extents: Vec<&Extent> = self.map.overlapping(region.start, region.end).collect();
        extents
            .chunk_by(|left, right| left.page_end() == right.start)
            .flat_map(|run| Run::of(run).cheapest())
            .collect()
    }

    /// Moves a piece to a block of its own.
    fn merge_piece(&mut self, namespace: &Arc<Namespace>, piece: &Piece) -> Result<()> {
        let ByteRange { start, end } = piece.range;
        let mut bytes = Vec::with_capacity(block_len(end - start) as usize);
        for extent in self.map.overlapping(start, end) {
            // What is left of the last page of the extent before reads as zeros.
            bytes.resize(block_len(extent.start - start) as usize, 0);
            extent.append_to(extent.start, extent.end(), &mut bytes);
        }
        let block = namespace.new_block(0, &bytes)?;
        let first = self.map.exclusive_mut(start);
        let first = first.expect("the piece was planned under the same lock");
        let (old_len, new_len) = (first.len, block_len(end - start));
        first.block = block;
        first.block_offset = 0;
        first.len = new_len;
        self.resized(old_len, new_len);
        self.drop_extents(start + 1, end);
        Ok(())
    }
}

/// Neighbours that are moved to a block of their own.
struct Piece {
    range: ByteRange,
    brings: Merged,
}

/// Neighbours without a hole between them, in one region.
struct Run<'a> {
    members: Vec<Member<'a>>,
}

/// An extent of a run.
struct Member<'a> {
    extent: &'a Extent,
    /// Members with the same block: from the first to behind the last; `None` where others hold the block too.
    fellows: Option<Range<usize>>,
    /// What it takes as it is: the first of several with one block takes all of that.
    cost: u64,
}

/// The cheapest way to divide the members up to one of them.
#[derive(Clone, Copy)]
struct Way {
    cost: u64,
    /// Where the last piece begins.
    from: usize,
    /// Whether that is moved.
    moves: bool,
}

impl<'a> Run<'a> {
    fn of(extents: &[&'a Extent]) -> Self {
        let mut places: HashMap<BlockIndex, (usize, Range<usize>)> = HashMap::new();
        for (at, extent) in extents.iter().enumerate() {
            let (count, fellows) = places.entry(extent.block.index()).or_insert((0, at..at));
            *count += 1;
            fellows.end = at + 1;
        }
        let member = |(at, extent): (usize, &&'a Extent)| {
            let (count, fellows) = &places[&extent.block.index()];
            let of_block = u64::from(extent.block.held_bytes()) + BLOCK_COST;
            let is_first = fellows.start == at;
            Member {
                extent,
                fellows: (extent.block.handles() == *count).then(|| fellows.clone()),
                cost: EXTENT_BYTES + if is_first { of_block } else { 0 },
            }
        };
        Self {
            members: extents.iter().enumerate().map(member).collect(),
        }
    }

    /// The pieces to be moved for the run to take the least memory.
    fn cheapest(&self) -> Vec<Piece> {
        let start = Way {
            cost: 0,
            from: 0,
            moves: false,
        };
        let mut ways = vec![start];
        for end in 1..=self.members.len() {
            ways.push(self.cheapest_until(end, &ways));
        }
        let mut pieces = Vec::new();
        let mut end = self.members.len();
        while end > 0 {
            let way = ways[end];
            if way.moves {
                pieces.push(self.piece(way.from..end));
            }
            end = way.from;
        }
        pieces
    }

    /// The cheapest way up to a member, given those up to all before it.
    fn cheapest_until(&self, end: usize, ways: &[Way]) -> Way {
        let last = end - 1;
        let mut best = Way {
            cost: ways[last].cost + self.members[last].cost,
            from: last,
            moves: false,
        };
        let mut closed = last..end;
        for from in (0..end).rev() {
            let Some(fellows) = &self.members[from].fellows else {
                break;
            };
            closed = closed.start.min(fellows.start)..closed.end.max(fellows.end);
            if closed.end > end {
                break;
            }
            let cost = ways[from].cost + self.moved_cost(from..end);
            // Among equals nothing is moved, or the less.
            if closed.start >= from && cost < best.cost {
                best = Way {
                    cost,
                    from,
                    moves: true,
                };
            }
        }
        best
    }

    fn range(&self, members: &Range<usize>) -> ByteRange {
        ByteRange {
            start: self.members[members.start].extent.start,
            end: self.members[members.end - 1].extent.end(),
        }
    }

    fn moved_cost(&self, members: Range<usize>) -> u64 {
        let len = block_len(self.range(&members).len());
        u64::from(class_bytes(len)) + BLOCK_COST + EXTENT_BYTES
    }

    fn piece(&self, members: Range<usize>) -> Piece {
        let before: u64 = self.members[members.clone()].iter().map(|one| one.cost).sum();
        Piece {
            range: self.range(&members),
            brings: Merged {
                extents: members.len() as u64 - 1,
                freed_bytes: before - self.moved_cost(members),
            },
        }
    }
}
