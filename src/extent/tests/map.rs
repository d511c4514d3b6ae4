//! The extent map against an ordered map.

use std::collections::BTreeMap;

use super::model::Random;
use crate::extent::map::Map;
use crate::extent::node::NODE_MAX;
use crate::extent::run::Extent;
use crate::grid::{Block, Grid, GridConfig};

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
                    let removed = super::take(&mut self.map, first);
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
    for page in 0..(NODE_MAX * NODE_MAX) as u64 {
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
        panic!("so many extents need a tree")
    };
    assert_eq!(root.len(), NODE_MAX);
    assert!(root.only_child().is_none());
}
