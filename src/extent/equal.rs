//! Sharing equal pages with another content: what a reader sees stays the same.

use std::sync::Arc;

use super::content::Content;
use super::diff::{Piece, same_bytes};
use super::run::{Extent, block_len};
use crate::grid::Namespace;
use crate::limits::PAGE_SIZE;
use crate::range::{ByteRange, page_ceil};
use crate::{ErrorKind, Result};

const PAGE: usize = PAGE_SIZE as usize;

/// How far a look for equal pages has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Where to go on.
    pub end: u64,
    /// Bytes of the pages that share the other's memory since, or have become holes.
    pub bytes: u64,
}

/// A page of both contents.
#[derive(Clone, Copy, Default)]
struct Page {
    differs: bool,
    /// Whether to share it would free memory, sooner or later.
    pays: bool,
}

impl Content {
    /// Lets the pages of a region that are equal to those of `other`, a content of the same namespace, share their memory,
    /// or become holes where those are. Begins at `offset`, a multiple of the page size, and goes no further than the
    /// block-sized region has bytes there, or than nothing is to be done.
    ///
    /// A preallocated content keeps its pages of zeros, for which memory was promised.
    ///
    /// # Errors
    /// `NoSpace`, `QuotaExceeded` where there is no memory for the map; all bytes are as they were.
    pub fn share_pages(&mut self, namespace: &Arc<Namespace>, other: &Self, offset: u64) -> Result<Shared> {
        debug_assert!(offset.is_multiple_of(PAGE_SIZE));
        let passed = |end| Ok(Shared { end, bytes: 0 });
        if let Some(shared) = self.map.shared_until(&other.map, offset) {
            return passed(shared);
        }
        let piece = Piece::at(&self.map, offset);
        if piece.extent.is_none() {
            return passed(piece.end);
        }
        self.adopt(namespace);
        let range = self.region_around(offset).clamp_end(self.shareable_until(other));
        let range = ByteRange {
            start: offset,
            end: range.end.max(offset),
        };
        let mut shared = Shared {
            end: page_ceil(self.region_around(offset).end),
            bytes: 0,
        };
        let preallocated = self.preallocated;
        let mut result = Ok(());
        for equal in self.equal_pages(other, range) {
            let pasted = self.paste(namespace, equal.start, &other.clip(equal));
            result = match pasted {
                Ok(bytes) if bytes == equal.len() => Ok(()),
                // There was memory for the first of them only.
                Ok(_) => Err(ErrorKind::NoSpace.into()),
                Err(error) => Err(error),
            };
            if result.is_err() {
                break;
            }
            shared.bytes += equal.len();
        }
        // It may have become a clone of the other content, and keeps its promise even so.
        self.preallocated = preallocated;
        result.map(|()| shared)
    }

    /// Pages may be shared before this offset: whole ones that both have, and the last of this content if the other one
    /// has at least as much of it.
    fn shareable_until(&self, other: &Self) -> u64 {
        match self.len <= other.len {
            true => self.len,
            false => other.len / PAGE_SIZE * PAGE_SIZE,
        }
    }

    /// Runs of pages in a range that are equal, and that to share pays.
    fn equal_pages(&self, other: &Self, range: ByteRange) -> Vec<ByteRange> {
        let pages = self.compare_pages(other, range);
        let mut runs: Vec<ByteRange> = Vec::new();
        for (page, place) in pages.iter().zip(range.pieces(PAGE_SIZE)) {
            if page.differs || !page.pays {
                continue;
            }
            match runs.last_mut().filter(|run| run.end == place.start) {
                Some(run) => run.end = place.end,
                None => runs.push(place),
            }
        }
        runs
    }

    fn compare_pages(&self, other: &Self, range: ByteRange) -> Vec<Page> {
        let mut pages = vec![Page::default(); block_len(range.len()).div_ceil(PAGE_SIZE as u32) as usize];
        let (mut own, mut others) = (Vec::new(), Vec::new());
        let mut at = range.start;
        while at < range.end {
            let (a, b) = (Piece::at(&self.map, at), Piece::at(&other.map, at));
            let piece = ByteRange {
                start: at,
                end: a.end.min(b.end).min(range.end),
            };
            at = piece.end;
            if same_bytes(a.extent, b.extent, piece) {
                continue;
            }
            own.clear();
            others.clear();
            a.append_to(piece, &mut own);
            b.append_to(piece, &mut others);
            for part in piece.pieces(PAGE_SIZE) {
                let bytes = inside(part, piece.start);
                let page = &mut pages[block_len(part.start - range.start) as usize / PAGE];
                page.differs |= own[bytes.clone()] != others[bytes.clone()];
                page.pays |= self.may_go(a.extent, &own[bytes]);
            }
        }
        pages
    }

    /// Whether bytes of an extent may have other memory, or none.
    fn may_go(&self, extent: Option<&Extent>, bytes: &[u8]) -> bool {
        extent.is_some() && !(self.preallocated && bytes.iter().all(|byte| *byte == 0))
    }
}

/// Where a part of a range that begins at `start` lies in its bytes.
fn inside(part: ByteRange, start: u64) -> std::ops::Range<usize> {
    block_len(part.start - start) as usize..block_len(part.end - start) as usize
}
