//! The map from file offsets to extents: cloned in constant time, copied on write, inline while it holds one extent.

use std::collections::HashSet;
use std::sync::Arc;

use super::node::Node;
use super::overlay::Overlay;
use super::run::Extent;
use crate::grid::Block;
use crate::{Error, ErrorKind, Result};

/// Extents by their start.
#[derive(Clone, Default)]
pub(super) enum Map {
    /// No extent.
    #[default]
    Empty,
    /// One extent: a small file needs no node.
    One(Extent),
    /// Two extents or more.
    Tree(Arc<Node>),
    /// A tree whose root others share, and a few extents that only this map has.
    Over(Arc<Overlay>),
}

impl Map {
    /// The last extent that starts at `offset` or before.
    pub(super) fn at_or_before(&self, offset: u64) -> Option<&Extent> {
        match self {
            Self::Empty => None,
            Self::One(extent) => Some(extent).filter(|extent| extent.start <= offset),
            Self::Tree(root) => root.at_or_before(offset),
            Self::Over(overlay) => overlay.at_or_before(offset),
        }
    }

    /// Like [`Map::at_or_before`], for changes of anything but the start; makes the way to the extent private.
    pub(super) fn at_or_before_mut(&mut self, offset: u64) -> Option<&mut Extent> {
        self.flatten();
        match self {
            Self::One(extent) => Some(extent).filter(|extent| extent.start <= offset),
            Self::Tree(root) => Arc::make_mut(root).at_or_before_mut(offset),
            Self::Empty | Self::Over(_) => None,
        }
    }

    /// Like [`Map::at_or_before`], for changes of length and bytes; `None` also where the way to the extent is shared,
    /// which its block is as well then.
    pub(super) fn exclusive_mut(&mut self, offset: u64) -> Option<&mut Extent> {
        self.settle();
        match self {
            Self::Empty => None,
            Self::One(extent) => Some(extent).filter(|extent| extent.start <= offset),
            Self::Tree(root) => Arc::get_mut(root)?.exclusive_mut(offset),
            Self::Over(overlay) => Arc::get_mut(overlay)?.own_mut(offset),
        }
    }

    /// Whether other maps share the root of the tree, or the overlay.
    pub(super) fn is_shared(&self) -> bool {
        match self {
            Self::Empty | Self::One(_) => false,
            Self::Tree(root) => Arc::strong_count(root) > 1,
            Self::Over(overlay) => Arc::strong_count(overlay) > 1 || Arc::strong_count(overlay.base()) > 1,
        }
    }

    /// Lets the extent that starts at `start` hold another block of the same bytes, and returns its own; `None` where
    /// others share the way to the extent, or an overlay has to show the block.
    pub(super) fn exchange_block(&mut self, start: u64, equal: Block) -> Option<Block> {
        self.settle();
        if let Self::Over(overlay) = self
            && !overlay.can_lose(start, start + 1)
        {
            return None;
        }
        let extent = self.exclusive_mut(start)?;
        debug_assert_eq!(extent.start, start);
        Some(std::mem::replace(&mut extent.block, equal))
    }

    /// The extent that covers the byte at `offset`.
    pub(super) fn covering(&self, offset: u64) -> Option<&Extent> {
        self.at_or_before(offset).filter(|extent| extent.end() > offset)
    }

    /// Where the pages with memory end that begin at `from`, which is the end of an extent's pages or lies in none;
    /// `from` itself where none begin there.
    pub(super) fn covered_until(&self, from: u64) -> u64 {
        match self {
            Self::One(extent) if extent.start == from => extent.page_end(),
            Self::Empty | Self::One(_) => from,
            Self::Tree(root) => root.covered_until(from, u64::MAX),
            Self::Over(overlay) => overlay.covered_until(from),
        }
    }

    /// Extents that start at `offset` or behind, ascending.
    pub(super) fn iter_from(&self, offset: u64) -> Iter<'_> {
        let (tree, run, own): (_, &[Extent], &[Extent]) = match self {
            Self::Empty => (None, &[], &[]),
            Self::One(extent) if extent.start < offset => (None, &[], &[]),
            Self::One(extent) => (None, std::slice::from_ref(extent), &[]),
            Self::Tree(root) => (Some(root), root.run_from(offset), &[]),
            Self::Over(overlay) => {
                let base = overlay.base();
                (
                    Some(base),
                    base.run_from(offset),
                    overlay.own_in(offset, u64::MAX),
                )
            }
        };
        Iter { tree, run, own }
    }

    /// Extents with a byte in `start..end`, ascending.
    pub(super) fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = &Extent> {
        let first = self.covering(start).map_or(start, |extent| extent.start);
        self.iter_from(first).take_while(move |extent| extent.start < end)
    }

    /// Adds an extent; none may have a byte in its pages.
    pub(super) fn insert(&mut self, extent: Extent) {
        if let Err(extent) = self.lay(extent) {
            self.flatten();
            self.plant(extent);
        }
    }

    /// Drops the extents that start in `start..end`, showing each to `gone`, in no particular order.
    pub(super) fn remove_range(&mut self, start: u64, end: u64, gone: &mut dyn FnMut(&Extent)) {
        let first = self.iter_from(start).next();
        if first.is_none_or(|extent| extent.start >= end) {
            return;
        }
        if let Some(overlay) = self.losing(start, end) {
            while let Some(first) = overlay.own_in(start, end).first().map(|own| own.start) {
                overlay.remove(first).iter().for_each(&mut *gone);
            }
        } else {
            match self {
                Self::Tree(root) => Arc::make_mut(root).remove_range(start, end, gone),
                Self::One(extent) => {
                    gone(extent);
                    *self = Self::Empty;
                }
                Self::Empty | Self::Over(_) => {}
            }
        }
        self.shrink();
    }

    /// Cuts the extent that starts at `start` to its first `len` bytes, and its block, if that is private.
    pub(super) fn cut_back(&mut self, start: u64, len: u32) {
        let extent = match self.own(start) {
            true => self.exclusive_mut(start),
            false => self.at_or_before_mut(start),
        };
        let extent = extent.expect("the map has the extent");
        debug_assert_eq!(extent.start, start);
        extent.len = len;
        extent.trim_block();
    }

    /// Takes the bytes before `to` from the extent that starts at `start` and ends behind `to`; of a private block they
    /// are freed.
    pub(super) fn cut_front(&mut self, start: u64, to: u64) {
        if self.own(start)
            && let Self::Over(overlay) = self
            && let Some(overlay) = Arc::get_mut(overlay)
            && overlay.can_move(start, to)
            && let Some(extent) = overlay.remove(start)
        {
            return overlay.insert(extent.into_tail(to));
        }
        self.flatten();
        let extent = self.uproot(start).expect("the map has the extent");
        self.plant(extent.into_tail(to));
    }

    /// Where the stretch around `offset` ends in which two maps share a node; `None` where they do not.
    pub(super) fn shared_until(&self, other: &Self, offset: u64) -> Option<u64> {
        let (a, b) = (self.layers()?, other.layers()?);
        let until = a.0.shared_until(b.0, offset)?;
        [a.1, b.1]
            .into_iter()
            .flatten()
            .try_fold(until, |until, overlay| {
                Some(until.min(overlay.bare_until(offset)?))
            })
    }

    /// What is charged for the nodes that are not in `seen`, which has those of other maps and gets these.
    pub(super) fn charged_bytes(&self, seen: &mut HashSet<usize>) -> u64 {
        let mut charged = 0;
        if let Self::Over(overlay) = self
            && seen.insert(Arc::as_ptr(overlay) as usize)
        {
            charged += overlay.charged_bytes();
        }
        let mut nodes: Vec<&Arc<Node>> = self.layers().map(|(root, _)| root).into_iter().collect();
        while let Some(node) = nodes.pop() {
            if seen.insert(Arc::as_ptr(node) as usize) {
                charged += node.charged_bytes();
                nodes.extend(node.children());
            }
        }
        charged
    }

    /// Verifies the shape of tree and overlay.
    ///
    /// # Errors
    /// `Corrupt`, saying what is wrong.
    pub(super) fn check(&self) -> Result<()> {
        let checked = match self {
            Self::Empty | Self::One(_) => Ok(()),
            Self::Tree(root) => root.check().map(drop),
            Self::Over(overlay) => overlay.check(),
        };
        let small = self.layers().is_some_and(|(root, _)| root.len() < 2);
        match (checked, small) {
            (Ok(()), false) => Ok(()),
            (Ok(()), true) => Err(Error::new(
                ErrorKind::Corrupt,
                "the extent map's root has one item",
            )),
            (Err(what), _) => Err(Error::new(ErrorKind::Corrupt, what)),
        }
    }

    /// The tree, and the overlay above it.
    fn layers(&self) -> Option<(&Arc<Node>, Option<&Overlay>)> {
        match self {
            Self::Empty | Self::One(_) => None,
            Self::Tree(root) => Some((root, None)),
            Self::Over(overlay) => Some((overlay.base(), Some(overlay))),
        }
    }

    /// Puts an extent into the overlay, above a part of which it may be; hands it back where there is no use for an
    /// overlay, or no room in it.
    fn lay(&mut self, extent: Extent) -> std::result::Result<(), Extent> {
        self.settle();
        match self {
            Self::Tree(root) if Arc::strong_count(root) > 1 => {
                *self = Self::Over(Arc::new(Overlay::new(Arc::clone(root), extent)));
            }
            Self::Over(overlay) if !overlay.is_full() => Arc::make_mut(overlay).insert(extent),
            Self::Empty | Self::One(_) | Self::Tree(_) | Self::Over(_) => return Err(extent),
        }
        Ok(())
    }

    /// Makes the extent that starts at `start` one of a private overlay; `false` where [`Map::lay`] does not.
    fn own(&mut self, start: u64) -> bool {
        self.settle();
        if let Self::Over(overlay) = self
            && !overlay.own_in(start, start + 1).is_empty()
        {
            // A copy, where others share it.
            Arc::make_mut(overlay);
            return true;
        }
        let copy = match self {
            Self::Tree(_) | Self::Over(_) => self.at_or_before(start).cloned(),
            Self::Empty | Self::One(_) => None,
        };
        copy.is_some_and(|copy| self.lay(copy).is_ok())
    }

    /// The overlay, private, if the extents that start in `start..end` can be taken out of it. Else there is none
    /// any more.
    fn losing(&mut self, start: u64, end: u64) -> Option<&mut Overlay> {
        self.settle();
        let is_possible = match &*self {
            Self::Over(overlay) => {
                let own = overlay.own_in(start, end).len();
                let mut shown = self.iter_from(start).take_while(|extent| extent.start < end);
                shown.nth(own).is_none() && overlay.can_lose(start, end)
            }
            Self::Empty | Self::One(_) | Self::Tree(_) => false,
        };
        if !is_possible {
            self.flatten();
        }
        match self {
            Self::Over(overlay) => Some(Arc::make_mut(overlay)),
            Self::Empty | Self::One(_) | Self::Tree(_) => None,
        }
    }

    /// Brings the overlay into the tree once no other map shares its root: nothing is copied for that.
    fn settle(&mut self) {
        if let Self::Over(overlay) = self
            && Arc::get_mut(overlay).is_some_and(Overlay::is_base_private)
        {
            self.flatten();
        }
    }

    /// Brings the overlay into the tree, whose nodes are copied on the way to each change.
    fn flatten(&mut self) {
        let overlay = match std::mem::take(self) {
            Self::Over(overlay) => overlay,
            other => {
                *self = other;
                return;
            }
        };
        let parts = Arc::unwrap_or_clone(overlay).into_parts();
        *self = Self::Tree(parts.base);
        for start in parts.hidden {
            self.uproot(start);
        }
        parts.own.into_iter().for_each(|extent| self.plant(extent));
    }

    /// Adds an extent to the tree.
    fn plant(&mut self, extent: Extent) {
        match std::mem::take(self) {
            Self::Empty => *self = Self::One(extent),
            Self::One(other) => {
                let mut extents = vec![other, extent];
                extents.sort_unstable_by_key(|extent| extent.start);
                *self = Self::Tree(Arc::new(Node::leaf(extents)));
            }
            Self::Tree(mut root) => {
                if let Some(right) = Arc::make_mut(&mut root).insert(extent) {
                    root = Arc::new(Node::above(root, right));
                }
                *self = Self::Tree(root);
            }
            Self::Over(_) => unreachable!("an overlay takes extents, or is brought into the tree first"),
        }
    }

    /// Takes an extent out of the tree.
    fn uproot(&mut self, start: u64) -> Option<Extent> {
        let removed = match self {
            Self::Tree(root) => Arc::make_mut(root).remove(start),
            Self::One(extent) if extent.start == start => match std::mem::take(self) {
                Self::One(extent) => Some(extent),
                Self::Empty | Self::Tree(_) | Self::Over(_) => None,
            },
            Self::One(_) | Self::Empty | Self::Over(_) => None,
        };
        self.shrink();
        removed
    }

    /// Takes away an overlay or root levels that removals left without items, and a root with one.
    fn shrink(&mut self) {
        if let Self::Over(overlay) = self
            && overlay.own().is_empty()
        {
            *self = Self::Tree(Arc::clone(overlay.base()));
        }
        while let Self::Tree(root) = self
            && root.len() < 2
        {
            *self = match (root.only_child(), root.only_extent()) {
                (Some(child), _) => Self::Tree(Arc::clone(child)),
                (None, Some(extent)) => Self::One(extent.clone()),
                (None, None) => Self::Empty,
            };
        }
    }
}

/// Extents of a map, ascending: those of the tree merged with those of the overlay, which hide some of them.
pub(super) struct Iter<'a> {
    tree: Option<&'a Arc<Node>>,
    run: &'a [Extent],
    own: &'a [Extent],
}

impl<'a> Iter<'a> {
    /// The next extent of the tree.
    fn step(&mut self) -> Option<&'a Extent> {
        let (extent, rest) = self.run.split_first()?;
        self.run = match (rest, self.tree) {
            ([], Some(tree)) => tree.run_from(extent.end()),
            (rest, _) => rest,
        };
        Some(extent)
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Extent;

    fn next(&mut self) -> Option<Self::Item> {
        let Some((own, rest)) = self.own.split_first() else {
            return self.step();
        };
        if self.run.first().is_some_and(|base| base.page_end() <= own.start) {
            return self.step();
        }
        // An extent of the tree that begins here is hidden.
        if self.run.first().is_some_and(|base| base.start <= own.start) {
            self.step();
        }
        self.own = rest;
        Some(own)
    }
}
