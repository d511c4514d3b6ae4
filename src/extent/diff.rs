//! Where two contents differ: what they share is passed over, the rest is compared.

use super::content::Content;
use super::map::Map;
use super::run::{Extent, block_len};
use crate::limits::{DIFF_PIN_BYTES, PAGE_SIZE};
use crate::range::{ByteRange, page_ceil, page_floor};

/// Extents that [`Content::is_same_until`] looks at: what is left beside shared nodes is seldom more than a few nodes.
const LOOKS_MAX: usize = 256;

/// The bytes from an offset on, as far as they lie in one extent or in one hole.
pub(super) struct Piece<'a> {
    pub(super) extent: Option<&'a Extent>,
    pub(super) end: u64,
}

impl<'a> Piece<'a> {
    pub(super) fn at(map: &'a Map, offset: u64) -> Self {
        let extent = map.covering(offset);
        let end = match extent {
            Some(extent) => extent.end(),
            None => map.iter_from(offset).next().map_or(u64::MAX, |next| next.start),
        };
        Self { extent, end }
    }

    /// Appends the bytes of a range that lies in the piece.
    pub(super) fn append_to(&self, range: ByteRange, out: &mut Vec<u8>) {
        match self.extent {
            Some(extent) => extent.append_to(range.start, range.end, out),
            None => out.resize(out.len() + block_len(range.len()) as usize, 0),
        }
    }
}

/// What was found in a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differences {
    /// Where the bytes differ, ascending and apart: whole pages, cut at the ends of the range.
    pub ranges: Vec<ByteRange>,
    /// Where to go on.
    pub end: u64,
}

impl Differences {
    /// Goes on with what was found from the end on.
    pub(crate) fn append(&mut self, next: Self) {
        let mut ranges = next.ranges.into_iter().peekable();
        if let (Some(last), Some(first)) = (self.ranges.last_mut(), ranges.peek())
            && last.end == first.start
        {
            last.end = first.end;
            ranges.next();
        }
        self.ranges.extend(ranges);
        self.end = next.end;
    }
}

/// A walk along two contents.
struct Walk<'a> {
    contents: [&'a Content; 2],
    at: u64,
    /// Bytes that were compared, and a page for each look at the maps.
    looked: u64,
    found: Ranges,
    bytes: [Vec<u8>; 2],
}

impl<'a> Walk<'a> {
    fn new(left: &'a Content, right: &'a Content, at: u64) -> Self {
        Self {
            contents: [left, right],
            at,
            looked: 0,
            found: Ranges::default(),
            bytes: Default::default(),
        }
    }

    /// Goes forward over what is shared, or over the bytes that are in one extent or hole on both sides.
    fn step(&mut self, end: u64) {
        let [left, right] = self.contents.map(|content| &content.map);
        self.looked += PAGE_SIZE;
        if let Some(shared) = left.shared_until(right, self.at) {
            self.at = shared.min(end);
            return;
        }
        let pieces = [left, right].map(|map| Piece::at(map, self.at));
        let range = ByteRange {
            start: self.at,
            end: pieces[0].end.min(pieces[1].end).min(end),
        };
        self.at = range.end;
        if same_bytes(pieces[0].extent, pieces[1].extent, range) {
            return;
        }
        self.looked += range.len();
        for (piece, bytes) in pieces.iter().zip(&mut self.bytes) {
            bytes.clear();
            piece.append_to(range, bytes);
        }
        for page in range.pieces(PAGE_SIZE) {
            let inside = |at: u64| block_len(at - range.start) as usize;
            let bytes = inside(page.start)..inside(page.end);
            if self.bytes[0][bytes.clone()] != self.bytes[1][bytes] {
                self.found.add_page_of(page);
            }
        }
    }
}

impl Content {
    /// Ranges in which the bytes of two contents of one namespace differ, ascending and apart: whole pages, cut at the
    /// end of the longer content. Where only one has bytes at all they differ, even if they are zeros.
    ///
    /// Takes time in proportion to the extents in nodes that are not shared, and to the bytes that are not.
    pub fn differences(&self, other: &Self) -> Vec<ByteRange> {
        let (both, longer) = (self.len.min(other.len), self.len.max(other.len));
        let mut walk = Walk::new(self, other, 0);
        while walk.at < both {
            walk.step(both);
        }
        if longer > both {
            walk.found.add(ByteRange {
                start: both,
                end: longer,
            });
        }
        walk.found.cut(0, longer)
    }

    /// Like [`Content::differences`], in a range, and as if the shorter content went on with zeros. Ends early where it has
    /// found `most` ranges or looked at `DIFF_PIN_BYTES`, at the end of a page, but not before it has come forward.
    pub fn differences_in(&self, other: &Self, range: ByteRange, most: usize) -> Differences {
        let mut walk = Walk::new(self, other, range.start);
        let is_done = |walk: &Walk<'_>| walk.looked >= DIFF_PIN_BYTES && walk.at.is_multiple_of(PAGE_SIZE);
        while walk.at < range.end && !is_done(&walk) && walk.found.0.len() <= most {
            walk.step(range.end);
        }
        let end = match walk.found.0.get(most) {
            Some(behind) => behind.start,
            None => walk.at,
        };
        walk.found.0.truncate(most);
        Differences {
            ranges: walk.found.cut(range.start, end),
            end,
        }
    }

    /// Whether two contents of one namespace have the same bytes before `offset`, found without a look at the bytes:
    /// `false` also where equal bytes are in different blocks, or much is in nodes that are not shared.
    pub(super) fn is_same_until(&self, other: &Self, offset: u64) -> bool {
        let mut at = 0;
        for _ in 0..LOOKS_MAX {
            if at >= offset {
                return true;
            }
            if let Some(shared) = self.map.shared_until(&other.map, at) {
                at = shared;
                continue;
            }
            let (a, b) = (Piece::at(&self.map, at), Piece::at(&other.map, at));
            let range = ByteRange {
                start: at,
                end: a.end.min(b.end).min(offset),
            };
            if !same_bytes(a.extent, b.extent, range) {
                return false;
            }
            at = range.end;
        }
        false
    }
}

/// Whether two extents, or holes, have the same bytes without a look at them.
pub(super) fn same_bytes(a: Option<&Extent>, b: Option<&Extent>, range: ByteRange) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            a.block.index() == b.block.index()
                && a.slice(range.start, range.end) == b.slice(range.start, range.end)
        }
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Ranges that are added in ascending order and grow together.
#[derive(Default)]
struct Ranges(Vec<ByteRange>);

impl Ranges {
    /// Adds the whole page that a range lies in.
    fn add_page_of(&mut self, range: ByteRange) {
        self.add(ByteRange {
            start: page_floor(range.start),
            end: page_ceil(range.end),
        });
    }

    fn add(&mut self, range: ByteRange) {
        match self.0.last_mut() {
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            Some(_) | None => self.0.push(range),
        }
    }

    fn cut(mut self, start: u64, end: u64) -> Vec<ByteRange> {
        for range in &mut self.0 {
            range.start = range.start.max(start);
            range.end = range.end.min(end);
        }
        self.0
    }
}
