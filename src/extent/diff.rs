//! Where two contents differ: what they share is passed over, the rest is compared.

use super::content::Content;
use super::map::Map;
use super::run::{Extent, block_len};
use crate::limits::PAGE_SIZE;
use crate::range::{ByteRange, page_ceil, page_floor};

/// Extents that [`Content::is_same_until`] looks at: what is left beside shared nodes is seldom more than a few nodes.
const LOOKS_MAX: usize = 256;

/// The bytes from an offset on, as far as they lie in one extent or in one hole.
struct Piece<'a> {
    extent: Option<&'a Extent>,
    end: u64,
}

impl<'a> Piece<'a> {
    fn at(map: &'a Map, offset: u64) -> Self {
        let extent = map.covering(offset);
        let end = match extent {
            Some(extent) => extent.end(),
            None => map.iter_from(offset).next().map_or(u64::MAX, |next| next.start),
        };
        Self { extent, end }
    }

    /// Appends the bytes of a range that lies in the piece.
    fn append_to(&self, range: ByteRange, out: &mut Vec<u8>) {
        match self.extent {
            Some(extent) => extent.append_to(range.start, range.end, out),
            None => out.resize(out.len() + block_len(range.len()) as usize, 0),
        }
    }
}

impl Content {
    /// Ranges in which the bytes of two contents of one namespace differ, ascending and apart: whole pages, cut at the
    /// end of the longer content. Where only one has bytes at all they differ, even if they are zeros.
    ///
    /// Takes time in proportion to the extents in nodes that are not shared, and to the bytes that are not.
    pub fn differences(&self, other: &Self) -> Vec<ByteRange> {
        let both = self.len.min(other.len);
        let mut found = Ranges::default();
        let mut at = 0;
        let (mut left, mut right) = (Vec::new(), Vec::new());
        while at < both {
            if let Some(shared) = self.map.shared_until(&other.map, at) {
                at = shared;
                continue;
            }
            let (a, b) = (Piece::at(&self.map, at), Piece::at(&other.map, at));
            let range = ByteRange {
                start: at,
                end: a.end.min(b.end).min(both),
            };
            at = range.end;
            if same_bytes(a.extent, b.extent, range) {
                continue;
            }
            left.clear();
            right.clear();
            a.append_to(range, &mut left);
            b.append_to(range, &mut right);
            for page in range.pieces(PAGE_SIZE) {
                let inside = |at: u64| block_len(at - range.start) as usize;
                let bytes = inside(page.start)..inside(page.end);
                if left[bytes.clone()] != right[bytes] {
                    found.add_page_of(page);
                }
            }
        }
        let longer = self.len.max(other.len);
        if longer > both {
            found.add(ByteRange {
                start: both,
                end: longer,
            });
        }
        found.cut(longer)
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
fn same_bytes(a: Option<&Extent>, b: Option<&Extent>, range: ByteRange) -> bool {
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

    fn cut(mut self, end: u64) -> Vec<ByteRange> {
        for range in &mut self.0 {
            range.end = range.end.min(end);
        }
        self.0
    }
}
