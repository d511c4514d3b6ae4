//! The grid through its public interface.
#![allow(missing_docs, clippy::unwrap_used)]

mod blocks;
mod bounds;
mod compress;
mod memory;
mod model;
mod records;
mod threads;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use okapi::ErrorKind;
use okapi::grid::{Block, BlockIndex, Grid, GridConfig, Namespace, Slice};

const BLOCK: u32 = 16 << 10;

fn grid(size_bytes: u64) -> Arc<Grid> {
    Grid::new(GridConfig {
        size_bytes,
        block_size: BLOCK,
    })
    .unwrap()
}

fn space(size_bytes: u64) -> (Arc<Grid>, Arc<Namespace>) {
    let grid = grid(size_bytes);
    let space = grid.create_namespace("test", None).unwrap();
    (grid, space)
}

fn at(index: u64) -> BlockIndex {
    BlockIndex::new(index).unwrap()
}

const fn slice(offset: u32, len: u32) -> Slice {
    Slice { offset, len }
}

fn read(space: &Namespace, index: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    space.get(&[(at(index), Slice::ALL)], &mut |_, part| {
        bytes.extend_from_slice(part)
    });
    bytes
}

fn put(space: &Arc<Namespace>, index: u64, offset: u32, bytes: &[u8]) -> okapi::Result<()> {
    space.put(&[(at(index), offset, bytes)])
}

fn bytes_of(block: &Block) -> Vec<u8> {
    block.read(Slice::ALL, <[u8]>::to_vec)
}

fn kind<T>(result: okapi::Result<T>) -> ErrorKind {
    result.err().unwrap().kind()
}

/// Numbers that are random enough (splitmix64), and the same for the same seed.
struct Random(u64);

impl Random {
    /// The seed in OKAPI_SEED, or one of the clock; printed, so that a failure can be replayed.
    fn new(test: &str) -> Self {
        let seed = std::env::var("OKAPI_SEED").map_or_else(
            |_| {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                now.unwrap().as_nanos() as u64
            },
            |seed| seed.parse().expect("OKAPI_SEED is a decimal number"),
        );
        println!("{test}: OKAPI_SEED={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    /// Mostly small, sometimes up to `max`.
    fn len(&mut self, max: u32) -> u32 {
        let bits = self.below(u64::from((max | 1).ilog2()) + 1);
        (self.next() as u32) % ((1 << bits) + 1).min(max + 1)
    }
}

fn wait_for(what: &str, limit: Duration, done: impl Fn() -> bool) {
    let deadline = Instant::now() + limit;
    while !done() {
        assert!(Instant::now() < deadline, "{what} took longer than {limit:?}");
        thread::sleep(Duration::from_millis(10));
    }
}
