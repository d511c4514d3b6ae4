//! The map from file offsets to extents: cloned in constant time, copied on write, inline while it holds one extent.

use std::sync::Arc;

use super::node::{Child, Node};
use super::run::Extent;
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
}

impl Map {
    /// The last extent that starts at `offset` or before.
    pub(super) fn at_or_before(&self, offset: u64) -> Option<&Extent> {
        match self {
            Self::Empty => None,
            Self::One(extent) => Some(extent).filter(|extent| extent.start <= offset),
            Self::Tree(root) => root.at_or_before(offset),
        }
    }

    /// Like [`Map::at_or_before`], for changes of anything but the start; makes the way to the extent private.
    pub(super) fn at_or_before_mut(&mut self, offset: u64) -> Option<&mut Extent> {
        match self {
            Self::Empty => None,
            Self::One(extent) => Some(extent).filter(|extent| extent.start <= offset),
            Self::Tree(root) => Arc::make_mut(root).at_or_before_mut(offset),
        }
    }

    /// The extent that covers the byte at `offset`.
    pub(super) fn covering(&self, offset: u64) -> Option<&Extent> {
        self.at_or_before(offset).filter(|extent| extent.end() > offset)
    }

    /// Extents that start at `offset` or behind, ascending.
    pub(super) fn iter_from(&self, offset: u64) -> Iter<'_> {
        Iter {
            map: self,
            run: self.run_from(offset),
        }
    }

    /// Extents with a byte in `start..end`, ascending.
    pub(super) fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = &Extent> {
        let first = self.covering(start).map_or(start, |extent| extent.start);
        self.iter_from(first).take_while(move |extent| extent.start < end)
    }

    /// Adds an extent; none may start there.
    pub(super) fn insert(&mut self, extent: Extent) {
        match std::mem::take(self) {
            Self::Empty => *self = Self::One(extent),
            Self::One(other) => {
                let mut extents = vec![other, extent];
                extents.sort_unstable_by_key(|extent| extent.start);
                *self = Self::Tree(Arc::new(Node::Leaf(extents)));
            }
            Self::Tree(mut root) => {
                if let Some(right) = Arc::make_mut(&mut root).insert(extent) {
                    root = Arc::new(Node::Inner(vec![Child::new(root), right]));
                }
                *self = Self::Tree(root);
            }
        }
    }

    /// Takes out the extent that starts at `start`.
    pub(super) fn remove(&mut self, start: u64) -> Option<Extent> {
        let removed = match self {
            Self::Tree(root) => Arc::make_mut(root).remove(start),
            Self::One(extent) if extent.start != start => None,
            Self::One(_) | Self::Empty => match std::mem::take(self) {
                Self::One(extent) => Some(extent),
                Self::Empty | Self::Tree(_) => None,
            },
        };
        self.shrink();
        removed
    }

    /// Drops the extents that start in `start..end`, showing each to `gone`, in no particular order.
    pub(super) fn remove_range(&mut self, start: u64, end: u64, gone: &mut dyn FnMut(&Extent)) {
        if self
            .run_from(start)
            .first()
            .is_none_or(|extent| extent.start >= end)
        {
            return;
        }
        match self {
            Self::Tree(root) => Arc::make_mut(root).remove_range(start, end, gone),
            Self::One(extent) => {
                gone(extent);
                *self = Self::Empty;
            }
            Self::Empty => {}
        }
        self.shrink();
    }

    /// Verifies the tree's shape.
    ///
    /// # Errors
    /// `Corrupt`, saying what is wrong.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::Empty | Self::One(_) => Ok(()),
            Self::Tree(root) if root.len() < 2 => Err(Error::new(
                ErrorKind::Corrupt,
                "the extent map's root has one item",
            )),
            Self::Tree(root) => match root.check() {
                Ok(_) => Ok(()),
                Err(what) => Err(Error::new(ErrorKind::Corrupt, what)),
            },
        }
    }

    fn run_from(&self, offset: u64) -> &[Extent] {
        match self {
            Self::Empty => &[],
            Self::One(extent) if extent.start < offset => &[],
            Self::One(extent) => std::slice::from_ref(extent),
            Self::Tree(root) => root.run_from(offset),
        }
    }

    /// Takes away root levels that removals left with fewer than two items.
    fn shrink(&mut self) {
        while let Self::Tree(root) = self
            && root.len() < 2
        {
            *self = match (root.only_child(), &**root) {
                (Some(child), _) => Self::Tree(Arc::clone(child)),
                (None, Node::Leaf(extents)) => extents.first().cloned().map_or(Self::Empty, Self::One),
                (None, Node::Inner(_)) => Self::Empty,
            };
        }
    }
}

/// Extents of a map, ascending.
pub(super) struct Iter<'a> {
    map: &'a Map,
    run: &'a [Extent],
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Extent;

    fn next(&mut self) -> Option<Self::Item> {
        let (extent, rest) = self.run.split_first()?;
        self.run = match rest {
            [] => self.map.run_from(extent.end()),
            rest => rest,
        };
        Some(extent)
    }
}
