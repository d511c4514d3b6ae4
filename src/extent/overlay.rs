//! An overlay: what one map has of its own above a tree that it shares with others.
//!
//! ```text
//! base   |======A======|======B======|       |====C====|
//! own               |aaa|XX|aaaaaa|             |==D==|       (offsets ascend to the right; one block of the base is A)
//! shown  |======A======|bb|XX|bbbbbb|       ...
//! ```
//!
//! An own extent hides the extent of the base in which it starts, so a small change takes a few own extents and no node:
//! what was changed, and what is left of the extent around it. There is never more than this one level.

use std::sync::Arc;

use super::node::{Node, cost};
use super::run::Extent;
use crate::grid::Charge;

/// Most extents of an overlay: more are brought into the tree.
pub(super) const OWN_MAX: usize = 16;

/// Extents above a shared tree.
///
/// Invariants:
/// 1. There is at least one own extent and at most [`OWN_MAX`]; they ascend.
/// 2. An extent of the base is hidden if an own one starts in its pages; else no own one has a byte in them.
/// 3. One of the own extents that start in a hidden extent's pages has its block. So a map holds no block that it does
///    not show, and blocks are freed when the last content that shows them lets go.
/// 4. The charge is what the memory of the own extents costs.
pub(super) struct Overlay {
    base: Arc<Node>,
    own: Vec<Extent>,
    charge: Charge,
}

// As for a node: with the counts of its `Arc` and the heap's own words, and those of its extents.
const _: () = assert!(size_of::<Overlay>() + 48 <= crate::limits::NODE_COST as usize);

impl Clone for Overlay {
    fn clone(&self) -> Self {
        let own = self.own.clone();
        Self {
            base: Arc::clone(&self.base),
            charge: self.charge.another(cost(&own)),
            own,
        }
    }
}

/// What an overlay is made of.
pub(super) struct Parts {
    pub(super) base: Arc<Node>,
    /// Starts of the hidden extents.
    pub(super) hidden: Vec<u64>,
    /// What belongs in their place, and in holes.
    pub(super) own: Vec<Extent>,
}

impl Overlay {
    /// One own extent above a tree: in pages where that has none, or a part of the tree's extent there.
    pub(super) fn new(base: Arc<Node>, extent: Extent) -> Self {
        let own = vec![extent];
        Self {
            charge: Charge::beside(&own[0].block, cost(&own)),
            base,
            own,
        }
    }

    /// The tree.
    pub(super) fn base(&self) -> &Arc<Node> {
        &self.base
    }

    /// The own extents, ascending.
    pub(super) fn own(&self) -> &[Extent] {
        &self.own
    }

    /// Whether no other map has the tree's root.
    pub(super) fn is_base_private(&mut self) -> bool {
        Arc::get_mut(&mut self.base).is_some()
    }

    /// Whether there is no room for another extent.
    pub(super) fn is_full(&self) -> bool {
        self.own.len() == OWN_MAX
    }

    /// What is charged for the own extents.
    pub(super) fn charged_bytes(&self) -> u64 {
        self.charge.bytes()
    }

    /// The own extents that start in `start..end`.
    pub(super) fn own_in(&self, start: u64, end: u64) -> &[Extent] {
        let from = self.own.partition_point(|extent| extent.start < start);
        let behind = &self.own[from..];
        &behind[..behind.partition_point(|extent| extent.start < end)]
    }

    fn hides(&self, extent: &Extent) -> bool {
        !self.own_in(extent.start, extent.page_end()).is_empty()
    }

    /// The extent of the base in whose pages `offset` lies.
    fn below(&self, offset: u64) -> Option<&Extent> {
        let below = self.base.at_or_before(offset);
        below.filter(|extent| extent.page_end() > offset)
    }

    /// The last extent that starts at `offset` or before.
    pub(super) fn at_or_before(&self, offset: u64) -> Option<&Extent> {
        let own = self.own.partition_point(|extent| extent.start <= offset);
        let own = self.own[..own].last();
        let mut offset = offset;
        loop {
            let base = self
                .base
                .at_or_before(offset)
                .filter(|base| own.is_none_or(|own| own.start < base.start));
            match base {
                Some(base) if !self.hides(base) => return Some(base),
                // Its front is gone, and what is left of it begins behind the offset.
                Some(base) if base.start > 0 => offset = base.start - 1,
                Some(_) | None => return own,
            }
        }
    }

    /// The own extent that is the last to start at `offset` or before; `None` where that is one of the base.
    pub(super) fn own_mut(&mut self, offset: u64) -> Option<&mut Extent> {
        let start = self.at_or_before(offset)?.start;
        let at = self
            .own
            .binary_search_by_key(&start, |extent| extent.start)
            .ok()?;
        Some(&mut self.own[at])
    }

    /// Adds an extent: in pages where there is none, or a part of the base's extent there.
    pub(super) fn insert(&mut self, extent: Extent) {
        debug_assert!(!self.is_full());
        let at = self.own.partition_point(|own| own.start < extent.start);
        self.own.reserve_exact(1);
        self.own.insert(at, extent);
        self.charge.set(cost(&self.own));
    }

    /// Takes out an own extent.
    pub(super) fn remove(&mut self, start: u64) -> Option<Extent> {
        let at = self
            .own
            .binary_search_by_key(&start, |extent| extent.start)
            .ok()?;
        Some(self.own.remove(at))
    }

    /// Whether invariant 3 holds without the own extents that start in `start..end`.
    pub(super) fn can_lose(&self, start: u64, end: u64) -> bool {
        let stays = |own: &Extent| !(start..end).contains(&own.start);
        let is_kept = |extent: &Extent| self.shows_block_of(extent, stays);
        let mut gone = self.own_in(start, end).iter();
        gone.all(|own| self.below(own.start).is_none_or(is_kept))
    }

    /// Whether invariant 3 holds when the own extent at `start` begins at `to`, within it, instead. (If it is the only
    /// one with the block of the extent that it hides, it may still begin in its pages.)
    pub(super) fn can_move(&self, start: u64, to: u64) -> bool {
        let in_pages = |below: &Extent| to < below.page_end();
        self.can_lose(start, start + 1) || self.below(start).is_some_and(in_pages)
    }

    /// Whether one of the own extents that `counts` and start in the pages of a hidden extent has its block.
    fn shows_block_of(&self, hidden: &Extent, counts: impl Fn(&Extent) -> bool) -> bool {
        let mut over = self.own_in(hidden.start, hidden.page_end()).iter();
        over.any(|own| counts(own) && own.block.index() == hidden.block.index())
    }

    /// Tree and own extents, apart.
    pub(super) fn into_parts(self) -> Parts {
        let hidden = self
            .own
            .iter()
            .filter_map(|own| Some(self.below(own.start)?.start));
        let mut hidden: Vec<u64> = hidden.collect();
        hidden.dedup();
        Parts {
            base: self.base,
            hidden,
            own: self.own,
        }
    }

    /// Where the stretch from `offset` on ends in which only the base shows; `None` where that is not so.
    pub(super) fn bare_until(&self, offset: u64) -> Option<u64> {
        for own in &self.own {
            let below = self.below(own.start);
            let start = below.map_or(own.start, |below| below.start.min(own.start));
            let end = below.map_or(0, Extent::page_end).max(own.page_end());
            if offset < start {
                return Some(start);
            }
            if offset < end {
                return None;
            }
        }
        Some(u64::MAX)
    }

    /// As [`Map::covered_until`](super::map::Map::covered_until).
    pub(super) fn covered_until(&self, from: u64) -> u64 {
        let mut end = from;
        for own in self.own_in(from, u64::MAX) {
            let below = self.below(own.start);
            let limit = below.map_or(own.start, |below| below.start.min(own.start));
            if end < limit {
                end = self.base.covered_until(end, limit);
            }
            if end != own.start {
                return end;
            }
            end = own.page_end();
        }
        self.base.covered_until(end, u64::MAX)
    }

    /// Verifies the invariants but for overlaps, and the tree; returns what is wrong.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        self.base.check()?;
        if self.own.is_empty() || self.own.len() > OWN_MAX {
            return Err("an overlay of the extent map is empty or overfull");
        }
        if !self.own.is_sorted_by(|a, b| a.start < b.start) {
            return Err("extents of an overlay are out of order");
        }
        if self.charge.bytes() != cost(&self.own) {
            return Err("an overlay of the extent map is charged wrongly");
        }
        let mut hidden = self.own.iter().filter_map(|own| self.below(own.start));
        match hidden.all(|extent| self.shows_block_of(extent, |_| true)) {
            true => Ok(()),
            false => Err("an overlay holds a block that it does not show"),
        }
    }
}
