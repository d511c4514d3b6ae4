//! Sealing: a content's blocks are read one by one without its lock, and then sealed, shared, or turned into holes.
//!
//! What a reader sees stays the same, but for pages of zeros, which become holes.
//!
//! ```text
//! owner's lock shared     Content::next_unsealed   finds an extent whose block is open, and pins it
//! no lock                 Unsealed::read           looks for zeros, hashes, lets go of the block
//! owner's lock exclusive  Content::settle          if the extent and its block are still the same
//! ```
//!
//! Between the last two nothing is pinned, so that a writer who comes first writes in place. The block tells whether one
//! came (`Block::watch`).
//!
//! **Preallocated contents** keep their memory: a block with a page of zeros may be waiting for bytes, for which there
//! was to be room. It is neither shared nor turned into a hole; blocks full of bytes are shared as others are.

use std::sync::Arc;

use super::content::Content;
use super::run::{Extent, block_len};
use crate::grid::{Block, BlockHash, BlockIndex, Namespace, Sealing, Slice, Watch, class_bytes};
use crate::limits::{BLOCK_COST, PAGE_SIZE, SEAL_LEN_MIN, ZERO_PAGES_MIN};
use crate::range::ByteRange;

const PAGE: usize = PAGE_SIZE as usize;

/// A page of zeros.
static ZEROS: [u8; PAGE] = [0; PAGE];

/// A walk through the open blocks of a content, in the order of the file.
#[derive(Clone, Copy, Debug)]
pub struct SealWalk {
    /// What is left of it.
    range: ByteRange,
    /// Before this offset zeros are not looked for any more.
    searched: u64,
}

impl SealWalk {
    /// A walk through the extents that lie in a range.
    pub fn over(range: ByteRange) -> Self {
        Self {
            range,
            searched: range.start,
        }
    }

    /// Goes on behind an extent that was read and settled. One in which zeros were found comes again, for what it holds
    /// beside them.
    pub fn pass(&mut self, reading: &Reading) {
        let end = reading.place.start + u64::from(reading.place.len);
        match reading.found {
            Found::Zeros | Found::ZeroPages(_) => self.searched = end,
            Found::Bytes(_) | Found::Promised => self.range.start = end,
        }
    }
}

/// An extent whose block is open. It pins the block: a writer would copy it meanwhile.
#[must_use]
pub struct Unsealed {
    extent: Extent,
    /// Whether the content was preallocated.
    promised: bool,
    /// Whether zeros are to be looked for.
    search: bool,
}

/// What was found in an extent's block.
#[derive(Debug)]
pub struct Reading {
    place: Place,
    watch: Watch,
    /// Whether the content was preallocated.
    promised: bool,
    found: Found,
}

/// The extent that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    start: u64,
    len: u32,
    block_offset: u32,
    block: BlockIndex,
}

#[derive(Debug)]
enum Found {
    /// Bytes with this hash.
    Bytes(BlockHash),
    /// Only zeros.
    Zeros,
    /// Pages of zeros, in these ranges of the file, among others.
    ZeroPages(Vec<ByteRange>),
    /// Zeros that were promised to have memory.
    Promised,
}

/// What became of an extent that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Nothing.
    Kept,
    /// Its block is sealed.
    Sealed,
    /// It shares the sealed block of another, in place of its own of so many bytes.
    Shared(u32),
    /// So many bytes of it are a hole now.
    Emptied(u64),
}

impl Unsealed {
    /// Bytes in the block.
    pub fn block_len(&self) -> u32 {
        self.extent.block.len()
    }

    /// Reads the block and lets go of it.
    pub fn read(self) -> Reading {
        let extent = &self.extent;
        let watch = extent.block.watch();
        let found = extent.block.read(Slice::ALL, |bytes| self.look(bytes));
        Reading {
            place: Place::of(extent),
            watch,
            promised: self.promised,
            found,
        }
    }

    fn look(&self, bytes: &[u8]) -> Found {
        let extent = &self.extent;
        let own = extent.slice(extent.start, extent.end()).in_block(bytes);
        if self.promised {
            return match own.chunks(PAGE).any(is_zero) {
                true => Found::Promised,
                false => Found::Bytes(BlockHash::of(bytes)),
            };
        }
        let holes = match self.search {
            true => zero_runs(own),
            false => Vec::new(),
        };
        match holes.as_slice() {
            [] => Found::Bytes(BlockHash::of(bytes)),
            [all] if *all == (0..own.len()) => Found::Zeros,
            some => {
                let range = |run: &std::ops::Range<usize>| ByteRange {
                    start: extent.start + run.start as u64,
                    end: extent.start + run.end as u64,
                };
                Found::ZeroPages(some.iter().map(range).collect())
            }
        }
    }
}

impl Place {
    fn of(extent: &Extent) -> Self {
        Self {
            start: extent.start,
            len: extent.len,
            block_offset: extent.block_offset,
            block: extent.block.index(),
        }
    }
}

impl Content {
    /// The next extent of a walk that has an open block worth sealing.
    pub fn next_unsealed(&self, walk: &SealWalk) -> Option<Unsealed> {
        let extents = self.map.iter_from(walk.range.start);
        let extent = extents
            .take_while(|extent| extent.end() <= walk.range.end)
            .find(|extent| !extent.block.is_sealed() && extent.block.len() >= SEAL_LEN_MIN)?;
        Some(Unsealed {
            extent: extent.clone(),
            promised: self.preallocated,
            search: extent.start >= walk.searched,
        })
    }

    /// Seals the block of an extent that was read, or shares an equal one, or turns its zeros into holes; none of that
    /// if the extent or its block has changed since. An extent whose node other contents share keeps its block, because
    /// a node of its own would take more memory; so it does where there is no memory for what a hole divides.
    pub fn settle(&mut self, namespace: &Arc<Namespace>, reading: &Reading) -> Settled {
        let place = reading.place;
        let Some(extent) = self.unchanged(reading) else {
            return Settled::Kept;
        };
        match &reading.found {
            Found::Promised => Settled::Kept,
            Found::Bytes(hash) => match extent.block.seal(reading.watch, *hash) {
                Sealing::Sealed => Settled::Sealed,
                Sealing::Equal(equal) => self.share_equal(place, equal),
                Sealing::Open => Settled::Kept,
            },
            Found::Zeros => self.empty(namespace, place, &[]),
            Found::ZeroPages(ranges) => self.empty(namespace, place, ranges),
        }
    }

    /// The extent that was read, if neither it nor its block has changed, nor what may be done with them.
    fn unchanged(&self, reading: &Reading) -> Option<&Extent> {
        let extent = self.map.at_or_before(reading.place.start)?;
        let is_same = Place::of(extent) == reading.place && self.preallocated == reading.promised;
        (is_same && extent.block.is_watched(reading.watch)).then_some(extent)
    }

    /// Lets an extent hold a sealed block of the same bytes in place of its own.
    fn share_equal(&mut self, place: Place, equal: Block) -> Settled {
        let Some(own) = self.map.exchange_block(place.start, equal) else {
            return Settled::Kept;
        };
        let freed = if own.is_shared() { 0 } else { own.held_bytes() };
        Settled::Shared(freed)
    }

    /// Turns ranges of an extent into holes, or all of it where none are given.
    fn empty(&mut self, namespace: &Arc<Namespace>, place: Place, ranges: &[ByteRange]) -> Settled {
        let before = self.held;
        let Some(extent) = self.map.exclusive_mut(place.start) else {
            return Settled::Kept;
        };
        let (end, page_end) = (extent.end(), extent.page_end());
        let is_private = extent.is_private();
        if ranges.is_empty() {
            self.cut(place.start, page_end);
        } else if is_private {
            for range in ranges {
                let hole_end = if range.end == end { page_end } else { range.end };
                // Without memory to divide the block there is no hole: its zeros stay.
                if self.pays(range.start, hole_end) && self.detach(namespace, range.start, hole_end).is_ok() {
                    self.cut(range.start, hole_end);
                }
            }
        }
        match before - self.held {
            0 => Settled::Kept,
            freed => Settled::Emptied(freed),
        }
    }

    /// Whether the memory of an extent is less without a range of it. What is left of a large block may fit its size
    /// classes so badly that it is not.
    fn pays(&self, start: u64, end: u64) -> bool {
        self.map.at_or_before(start).is_some_and(|extent| {
            let (before, behind) = (start - extent.start, extent.end().saturating_sub(end));
            let sides = [before, behind].map(|len| u64::from(class_bytes(block_len(len))));
            let divided = if sides.contains(&0) { 0 } else { BLOCK_COST };
            sides.iter().sum::<u64>() + divided < extent.held()
        })
    }
}

fn is_zero(page: &[u8]) -> bool {
    page == &ZEROS[..page.len()]
}

/// Runs of whole pages of zeros in an extent's bytes, the last page being as long as it is: at either end of any
/// length, elsewhere from `ZERO_PAGES_MIN` pages on.
fn zero_runs(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for (number, page) in bytes.chunks(PAGE).enumerate() {
        let start = number * PAGE;
        if !is_zero(page) {
            continue;
        }
        match runs.last_mut().filter(|run| run.end == start) {
            Some(run) => run.end += page.len(),
            None => runs.push(start..start + page.len()),
        }
    }
    runs.retain(|run| run.start == 0 || run.end == bytes.len() || run.len() >= ZERO_PAGES_MIN * PAGE);
    runs
}
