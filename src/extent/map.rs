//! The map from file offsets to extents: cloned in constant time, copied on write, inline while it holds one extent.

use std::sync::Arc;

use super::node::{Child, Node};
use crate::grid::{Block, Slice, class_bytes};
use crate::range::page_ceil;
use crate::{Error, ErrorKind, Result};

/// A run of a file's bytes in one block.
#[derive(Clone)]
pub(super) struct Extent {
    /// First byte in the file; a multiple of the page size.
    pub(super) start: u64,
    /// Bytes; at least 1.
    pub(super) len: u32,
    /// Where in the block they begin.
    pub(super) block_offset: u32,
    /// The block.
    pub(super) block: Block,
}

impl Extent {
    /// One past the last byte in the file.
    pub(super) fn end(&self) -> u64 {
        self.start + u64::from(self.len)
    }

    /// End of the last page that holds a byte of it.
    pub(super) fn page_end(&self) -> u64 {
        page_ceil(self.end())
    }

    /// Memory that it accounts for.
    pub(super) fn held(&self) -> u64 {
        u64::from(class_bytes(self.len))
    }

    /// Whether the block may be written to. True only for an extent that was reached through
    /// [`Map::at_or_before_mut`] or taken out of the map: another map may share the node otherwise.
    pub(super) fn is_private(&self) -> bool {
        !self.block.is_shared()
    }

    /// Where the file's bytes `start..end`, which the extent covers, lie in the block.
    pub(super) fn slice(&self, start: u64, end: u64) -> Slice {
        debug_assert!(self.start <= start && start <= end && end <= self.end());
        Slice {
            offset: self.block_offset + block_len(start - self.start),
            len: block_len(end - start),
        }
    }

    /// The part `start..end` of the extent, sharing the block.
    pub(super) fn part(&self, start: u64, end: u64) -> Self {
        let slice = self.slice(start, end);
        Self {
            start,
            len: slice.len,
            block_offset: slice.offset,
            block: self.block.clone(),
        }
    }

    /// Appends the file's bytes `start..end`, which the extent covers.
    pub(super) fn append_to(&self, start: u64, end: u64, out: &mut Vec<u8>) {
        if start < end {
            self.block
                .read(self.slice(start, end), |bytes| out.extend_from_slice(bytes));
        }
    }

    /// What is left of an extent that was taken out of the map when its bytes before `start` go. The rest of a
    /// private block moves to its front, so that the block can be cut.
    pub(super) fn into_tail(mut self, start: u64) -> Self {
        let gone = block_len(start - self.start);
        self.start = start;
        self.len -= gone;
        self.block_offset += gone;
        if self.is_private() && class_bytes(self.len) < self.block.held_bytes() {
            let mut bytes = Vec::with_capacity(self.len as usize);
            self.append_to(start, self.end(), &mut bytes);
            self.block
                .write(0, &bytes)
                .expect("bytes that fit in a block need no memory");
            self.block.truncate(self.len);
            self.block_offset = 0;
        }
        self
    }

    /// Drops a private block's bytes behind the extent.
    pub(super) fn trim_block(&self) {
        let end = self.block_offset + self.len;
        if self.is_private() && self.block.len() > end {
            self.block.truncate(end);
        }
    }
}

/// A length or an offset inside a block.
pub(super) fn block_len(bytes: u64) -> u32 {
    u32::try_from(bytes).expect("a run inside a block is no longer than the largest block")
}

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::model::Random;
    use super::*;
    use crate::grid::{Grid, GridConfig};

    /// A map, and the lengths by start that it should hold.
    #[derive(Clone, Default)]
    struct Pair {
        map: Map,
        model: BTreeMap<u64, u32>,
    }

    impl Pair {
        fn step(&mut self, random: &mut Random, pages: u64, block: &Block) {
            let start = random.below(pages) * 4096;
            match random.below(100) {
                0..=54 => self.insert(start, random, block),
                55..=69 => {
                    let found = self.map.at_or_before(start).map(|extent| extent.start);
                    assert_eq!(
                        found,
                        self.model.range(..=start).next_back().map(|(start, _)| *start)
                    );
                    if let Some(first) = found {
                        let removed = self.map.remove(first).unwrap();
                        assert_eq!(Some(removed.len), self.model.remove(&first));
                    }
                }
                70..=79 => {
                    if let Some(extent) = self.map.at_or_before_mut(start) {
                        extent.len = extent.len % 4096 + 1;
                        self.model.insert(extent.start, extent.len);
                    }
                }
                80..=89 => assert!(
                    self.map
                        .iter_from(start)
                        .map(|e| (e.start, e.len))
                        .take(100)
                        .eq(self
                            .model
                            .range(start..)
                            .map(|(start, len)| (*start, *len))
                            .take(100))
                ),
                90 => self.remove_range(start, start + random.below(pages) * 4096),
                _ => self.remove_range(start, start + random.below(20) * 4096),
            }
        }

        fn insert(&mut self, start: u64, random: &mut Random, block: &Block) {
            if self.model.contains_key(&start) {
                return;
            }
            let len = 1 + u32::try_from(random.below(4096)).unwrap();
            self.model.insert(start, len);
            let block = block.clone();
            self.map.insert(Extent {
                start,
                len,
                block_offset: 0,
                block,
            });
        }

        fn remove_range(&mut self, start: u64, end: u64) {
            let mut gone = Vec::new();
            self.map
                .remove_range(start, end, &mut |extent| gone.push(extent.start));
            gone.sort_unstable();
            let expected: Vec<u64> = self.model.range(start..end).map(|(start, _)| *start).collect();
            assert_eq!(gone, expected);
            self.model.retain(|at, _| !(start..end).contains(at));
        }

        fn compare(&self) {
            self.map.check().unwrap();
            let extents = self.map.iter_from(0).map(|extent| (extent.start, extent.len));
            assert!(extents.eq(self.model.iter().map(|(start, len)| (*start, *len))));
        }
    }

    #[test]
    fn maps_and_their_clones_behave_like_ordered_maps() {
        let grid = Grid::new(GridConfig {
            size_bytes: 1 << 20,
            block_size: 4096,
        })
        .unwrap();
        let namespace = grid.create_namespace("map", None).unwrap();
        let block = namespace.new_block(4096, &[]).unwrap();
        let mut random = Random::from_env();
        for pages in [3, 70, 500, 20_000] {
            let mut pair = Pair::default();
            let mut snapshot = pair.clone();
            for op in 0..20_000 {
                pair.step(&mut random, pages, &block);
                if op % 256 == 0 || pair.model.len() < 4 {
                    pair.compare();
                }
                if op % 1000 == 0 {
                    snapshot.compare();
                    snapshot = pair.clone();
                }
            }
            for page in 0..pages {
                pair.insert(page * 4096, &mut random, &block);
            }
            pair.compare();
        }
        assert!(!block.is_shared());
    }

    #[test]
    fn appended_extents_pack_their_nodes() {
        let grid = Grid::new(GridConfig {
            size_bytes: 1 << 20,
            block_size: 4096,
        })
        .unwrap();
        let namespace = grid.create_namespace("map", None).unwrap();
        let block = namespace.new_block(4096, &[]).unwrap();
        let mut map = Map::default();
        for page in 0..64 * 64 {
            let block = block.clone();
            map.insert(Extent {
                start: page * 4096,
                len: 4096,
                block_offset: 0,
                block,
            });
        }
        map.check().unwrap();
        let Map::Tree(root) = &map else {
            panic!("4096 extents need a tree")
        };
        assert_eq!(root.len(), 64);
        assert!(root.only_child().is_none());
    }
}
