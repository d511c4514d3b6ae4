//! The grid through its public interface: blocks, bounds, records, namespaces, a reference model, many threads.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use okapi::ErrorKind;
use okapi::grid::{Block, BlockIndex, Grid, GridConfig, Namespace, Slice, class_bytes};
use okapi::limits::{BLOCK_COST, SLACK_BYTES, SLACK_SHARE};

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
        let bits = self.below(u64::from(max.ilog2()) + 1);
        (self.next() as u32) % ((1 << bits) + 1).min(max + 1)
    }
}

#[test]
fn configurations_out_of_range_are_refused() {
    for (size_bytes, block_size) in [
        (1 << 30, 2048),
        (1 << 30, 2 << 20),
        (1 << 30, 65535),
        (1 << 30, 0),
        (1000, 4096),
        (u64::MAX, 4096),
    ] {
        let made = Grid::new(GridConfig {
            size_bytes,
            block_size,
        });
        assert_eq!(
            kind(made),
            ErrorKind::InvalidArgument,
            "{size_bytes} {block_size}"
        );
    }
}

#[test]
fn every_block_size_stores_blocks_of_every_length() {
    for block_size in (12..=20).map(|bits| 1 << bits) {
        let grid = Grid::new(GridConfig {
            size_bytes: 64 << 20,
            block_size,
        })
        .unwrap();
        let space = grid.create_namespace("x", None).unwrap();
        for len in [
            1,
            63,
            64,
            65,
            4095,
            4096,
            block_size / 2 + 1,
            block_size - 1,
            block_size,
        ] {
            let bytes = vec![len as u8 | 1; len as usize];
            put(&space, u64::from(len), 0, &bytes).unwrap();
            assert_eq!(read(&space, u64::from(len)), bytes);
            let block = space.new_block(0, &bytes).unwrap();
            assert_eq!(bytes_of(&block), bytes);
            assert_eq!(block.held_bytes(), class_bytes(len));
        }
        assert_eq!(
            kind(space.new_block(1, &vec![0; block_size as usize])),
            ErrorKind::InvalidArgument
        );
        grid.check().unwrap();
    }
}

#[test]
fn a_put_stores_a_slice_and_a_get_reads_slices() {
    let (grid, space) = space(1 << 20);
    put(&space, 7, 0, b"hello").unwrap();
    put(&space, 7, 3, b"p!").unwrap();
    put(&space, 9, 4, b"gap").unwrap();
    let mut seen = Vec::new();
    let requests = [
        (at(7), slice(0, 100)),
        (at(8), slice(0, 100)),
        (at(9), slice(2, 3)),
        (at(9), slice(6, 100)),
        (at(9), slice(100, 1)),
    ];
    space.get(&requests, &mut |position, bytes| {
        seen.push((position, bytes.to_vec()))
    });
    let expected = [
        (0, b"help!".to_vec()),
        (1, vec![]),
        (2, b"\0\0g".to_vec()),
        (3, b"p".to_vec()),
        (4, vec![]),
    ];
    assert_eq!(seen, expected);
    grid.check().unwrap();
}

#[test]
fn a_put_without_bytes_deletes() {
    let (grid, space) = space(1 << 20);
    put(&space, 1, 0, b"one").unwrap();
    put(&space, 2, 0, b"two").unwrap();
    space.put(&[(at(1), 0, b""), (at(3), 0, b"")]).unwrap();
    assert_eq!(read(&space, 1), b"");
    assert_eq!(space.keys(at(0), 10), [(at(2), 3)]);
    assert_eq!(space.usage().blocks, 1);
    put(&space, 2, 0, b"").unwrap();
    let usage = space.usage();
    assert_eq!(
        (
            usage.blocks,
            usage.stored_bytes,
            usage.held_bytes,
            usage.metadata_bytes
        ),
        (0, 0, 0, 0)
    );
    grid.check().unwrap();
}

#[test]
fn requests_of_one_put_take_effect_in_order() {
    let (grid, space) = space(1 << 20);
    put(&space, 2, 0, b"before").unwrap();
    space
        .put(&[
            (at(1), 2, b"b"),
            (at(1), 0, b"a"),
            (at(2), 0, b""),
            (at(2), 1, b"new"),
            (at(3), 0, b"short-lived"),
            (at(3), 0, b""),
        ])
        .unwrap();
    assert_eq!(read(&space, 1), b"a\0b");
    assert_eq!(read(&space, 2), b"\0new");
    assert_eq!(space.keys(at(0), 10), [(at(1), 3), (at(2), 4)]);
    grid.check().unwrap();
}

#[test]
fn a_put_behind_the_block_size_changes_nothing() {
    let (grid, space) = space(1 << 20);
    let error = space
        .put(&[(at(1), 0, b"fine"), (at(2), BLOCK - 1, b"no")])
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let text = error.to_string();
    assert!(text.contains("16383") && text.contains("16384"), "{text}");
    assert!(space.keys(at(0), 10).is_empty());
    grid.check().unwrap();
}

#[test]
fn a_put_of_many_that_does_not_fit_changes_nothing() {
    let (grid, space) = space(1 << 20);
    put(&space, 0, 0, b"short").unwrap();
    let full = vec![7; BLOCK as usize];
    let requests: Vec<_> = (0..65).map(|index| (at(index), 0, full.as_slice())).collect();
    let before = space.usage();
    assert_eq!(kind(space.put(&requests)), ErrorKind::NoSpace);
    assert_eq!(space.usage(), before);
    assert_eq!(read(&space, 0), b"short");
    assert_eq!(space.keys(at(0), 100), [(at(0), 5)]);
    space.put(&requests[..60]).unwrap();
    grid.check().unwrap();
}

#[test]
fn the_budget_fits_to_the_byte() {
    let (grid, space) = space(1 << 20);
    let per_block = u64::from(BLOCK) + BLOCK_COST;
    let count = (1 << 20) / per_block;
    let full = vec![1; BLOCK as usize];
    for index in 0..count {
        put(&space, index, 0, &full).unwrap();
    }
    let left = (1 << 20) - count * per_block;
    assert_eq!(kind(put(&space, count, 0, &full)), ErrorKind::NoSpace);
    assert_eq!(kind(space.new_block(0, &full)), ErrorKind::NoSpace);
    assert_eq!(kind(space.charge(left + 1)), ErrorKind::NoSpace);
    space.charge(left).unwrap();
    let usage = grid.usage();
    assert_eq!(usage.held_bytes + usage.metadata_bytes, 1 << 20);
    assert_eq!(usage.limit_bytes, 1 << 20);
    assert_eq!(kind(space.charge(1)), ErrorKind::NoSpace);
    for index in 0..count {
        assert_eq!(read(&space, index), full, "readable at the bound");
        put(&space, index, 5, b"overwritten in place").unwrap();
    }
    space.release(left);
    put(&space, 0, 0, b"").unwrap();
    put(&space, count, 0, &full).unwrap();
    grid.check().unwrap();
}

#[test]
fn a_write_that_does_not_fit_changes_nothing() {
    let (grid, space) = space(1 << 20);
    let block = space.new_block(0, &[5; 4096]).unwrap();
    let usage = grid.usage();
    space
        .charge(usage.limit_bytes - usage.held_bytes - usage.metadata_bytes)
        .unwrap();
    let before = space.usage();
    assert_eq!(kind(block.write(4096, &[6])), ErrorKind::NoSpace);
    assert_eq!(kind(block.write(0, &[6; 5000])), ErrorKind::NoSpace);
    assert_eq!(bytes_of(&block), [5; 4096]);
    assert_eq!(space.usage(), before);
    block.write(0, &[6; 4096]).unwrap();
    block.truncate(100);
    assert_eq!(bytes_of(&block), [6; 100]);
    grid.check().unwrap();
}

#[test]
fn an_append_near_the_bound_takes_no_more_than_it_needs() {
    let (grid, space) = space(1 << 20);
    let block = space.new_block(0, &[5; 8192]).unwrap();
    let usage = grid.usage();
    space
        .charge(usage.limit_bytes - usage.held_bytes - usage.metadata_bytes - 4096)
        .unwrap();
    block.write(8192, &[6]).unwrap();
    assert_eq!(block.held_bytes(), 12288);
    grid.check().unwrap();
}

#[test]
fn a_quota_bounds_one_namespace() {
    let grid = grid(1 << 20);
    let small = grid.create_namespace("small", Some(64 << 10)).unwrap();
    let other = grid.create_namespace("other", None).unwrap();
    let full = vec![1; BLOCK as usize];
    let fitted = (0..10)
        .take_while(|&index| put(&small, index, 0, &full).is_ok())
        .count();
    assert_eq!(fitted, 3);
    assert_eq!(kind(put(&small, 9, 0, &full)), ErrorKind::QuotaExceeded);
    assert_eq!(kind(small.charge(64 << 10)), ErrorKind::QuotaExceeded);
    put(&other, 0, 0, &full).unwrap();
    small.set_quota(Some(1 << 10));
    assert_eq!(read(&small, 0), full);
    assert_eq!(kind(small.new_block(0, b"x")), ErrorKind::QuotaExceeded);
    small.set_quota(None);
    small.new_block(0, b"x").unwrap();
    assert_eq!(small.usage().limit_bytes, u64::MAX);
    grid.check().unwrap();
}

#[test]
fn freed_memory_never_shows_what_it_held() {
    let (grid, space) = space(4 << 20);
    let secret = vec![0xaa; BLOCK as usize];
    for round in 0..3 {
        let blocks: Vec<_> = (0..200).map(|_| space.new_block(0, &secret).unwrap()).collect();
        drop(blocks);
        if round == 1 {
            grid.trim();
        }
        let zeros = space.new_block(BLOCK, b"").unwrap();
        assert_eq!(bytes_of(&zeros), vec![0; BLOCK as usize]);
        let gap = space.new_block(0, b"x").unwrap();
        gap.write(BLOCK - 1, b"y").unwrap();
        assert!(
            bytes_of(&gap)[1..BLOCK as usize - 1]
                .iter()
                .all(|&byte| byte == 0)
        );
        put(&space, 500, 9000, b"z").unwrap();
        assert_eq!(read(&space, 500)[..9000], [0; 9000]);
        put(&space, 500, 0, b"").unwrap();
        let cut = space.new_block(0, &secret).unwrap();
        cut.truncate(10);
        cut.write(5000, b"w").unwrap();
        assert!(bytes_of(&cut)[10..5000].iter().all(|&byte| byte == 0));
    }
    grid.check().unwrap();
}

#[test]
fn a_truncated_block_moves_to_less_memory() {
    let (grid, space) = space(1 << 20);
    let block = space.new_block(0, &[9; 12_000]).unwrap();
    assert_eq!(block.held_bytes(), 12_288);
    block.truncate(20_000);
    assert_eq!(block.len(), 12_000);
    block.truncate(70);
    assert_eq!((block.len(), block.held_bytes()), (70, 128));
    assert_eq!(bytes_of(&block), [9; 70]);
    block.truncate(0);
    assert_eq!((block.is_empty(), block.held_bytes()), (true, 0));
    block.write(3, b"x").unwrap();
    assert_eq!(bytes_of(&block), b"\0\0\0x");
    grid.check().unwrap();
}

#[test]
fn appending_leaves_room_that_truncate_returns() {
    let (grid, space) = space(1 << 20);
    let block = space.new_block(0, &[]).unwrap();
    let mut moves = 0;
    for piece in 0..16 {
        let before = block.held_bytes();
        block.write(piece * 1024, &[piece as u8; 1024]).unwrap();
        moves += usize::from(block.held_bytes() != before);
        assert!(block.held_bytes() <= class_bytes(block.len()).max(4096) * 3 / 2 + 4096);
        grid.check().unwrap();
    }
    assert!(moves < 10, "{moves}");
    let block = space.new_block(0, &[1; 8192]).unwrap();
    block.write(8192, &[1]).unwrap();
    block.truncate(block.len());
    assert_eq!(block.held_bytes(), class_bytes(8193));
}

#[test]
fn handles_count_and_the_last_one_frees() {
    let (grid, space) = space(1 << 20);
    let block = space.new_block(2, b"ab").unwrap();
    assert!(!block.is_shared());
    let other = block.clone();
    assert!(block.is_shared() && other.is_shared());
    assert_eq!(other.index(), block.index());
    assert_eq!(read(&space, block.index().get()), b"\0\0ab");
    assert_eq!(space.keys(at(0), 10), [(block.index(), 4)]);
    drop(block);
    assert!(!other.is_shared());
    assert_eq!(other.read(slice(1, 2), <[u8]>::to_vec), b"\0a");
    let index = other.index().get();
    drop(other);
    assert_eq!(read(&space, index), b"");
    assert_eq!(space.usage().blocks, 0);
    grid.check().unwrap();
}

#[test]
fn a_lent_index_is_busy_and_fresh_indexes_skip_kept_ones() {
    let (grid, space) = space(1 << 20);
    for index in 0..40 {
        put(&space, index * 2, 0, b"kept").unwrap();
    }
    let blocks: Vec<_> = (0..60).map(|_| space.new_block(0, b"lent").unwrap()).collect();
    for block in &blocks {
        let index = block.index().get();
        assert!(index != 0 && (index % 2 == 1 || index >= 80), "{index}");
        let error = put(&space, index, 0, b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.to_string().contains(&index.to_string()), "{error}");
        assert_eq!(kind(put(&space, index, 0, b"")), ErrorKind::Busy);
        let index = at(index);
        assert_eq!(
            kind(space.put(&[(at(1000), 0, b"a"), (index, 0, b"b")])),
            ErrorKind::Busy
        );
        assert_eq!(bytes_of(block), b"lent");
    }
    assert_eq!(read(&space, 1000), b"");
    let index = blocks[0].index().get();
    drop(blocks);
    put(&space, index, 0, b"now kept").unwrap();
    assert_eq!(space.usage().blocks, 41);
    grid.check().unwrap();
}

#[test]
fn keys_come_in_order_from_any_place() {
    let (grid, space) = space(16 << 20);
    let mut random = Random::new("keys");
    let mut expected = BTreeMap::new();
    for _ in 0..3000 {
        let index = random.next() >> (16 + random.below(48));
        let len = 1 + random.len(300);
        put(&space, index, 0, &vec![1; len as usize]).unwrap();
        let known = expected.entry(index).or_insert(len);
        *known = len.max(*known);
    }
    let block = space.new_block(0, b"lent").unwrap();
    expected.insert(block.index().get(), 4);
    for max in [0, 1, 7, 100, 5000] {
        for _ in 0..20 {
            let from = random.next() >> (16 + random.below(48));
            let keys: Vec<_> = space
                .keys(at(from), max)
                .into_iter()
                .map(|(index, len)| (index.get(), len))
                .collect();
            let want: Vec<_> = expected
                .range(from..)
                .take(max)
                .map(|(&index, &len)| (index, len))
                .collect();
            assert_eq!(keys, want);
        }
    }
    put(&space, BlockIndex::MAX.get(), 0, b"end").unwrap();
    assert_eq!(space.keys(BlockIndex::MAX, 9), [(BlockIndex::MAX, 3)]);
    grid.check().unwrap();
}

#[test]
fn records_of_any_length_come_back_whole() {
    let (grid, space) = space(8 << 20);
    let mut random = Random::new("records");
    let mut out = vec![1; 3];
    let block = BLOCK as usize;
    for len in [
        0,
        1,
        100,
        block - 13,
        block - 12,
        block - 11,
        block,
        5 * block,
        5 * block - 12,
        100_000,
        3,
    ] {
        let bytes = random.bytes(len);
        space.put_record(at(10), &bytes).unwrap();
        space.get_record(at(10), &mut out).unwrap();
        assert_eq!(out, bytes);
        let blocks = (len + 12).div_ceil(block);
        assert_eq!(
            space.keys(at(0), 100).len(),
            blocks,
            "no part of a longer record is left"
        );
        grid.check().unwrap();
    }
    assert_eq!(space.usage().held_bytes, 64, "a short record takes what it needs");
    assert_eq!(kind(space.get_record(at(11), &mut out)), ErrorKind::NotFound);
    assert!(out.is_empty());
    space.remove_record(at(10)).unwrap();
    assert_eq!(space.usage().blocks, 0);
    assert_eq!(kind(space.remove_record(at(10))), ErrorKind::NotFound);
}

#[test]
fn a_record_that_does_not_fit_changes_nothing() {
    let (grid, space) = space(1 << 20);
    space.put_record(at(5), &[1; 40_000]).unwrap();
    let lent: Vec<_> = (0..7).map(|_| space.new_block(0, b"x").unwrap()).collect();
    let busy = lent.last().unwrap().index();
    assert!(busy.get() > 7 && lent.iter().all(|block| !(5..8).contains(&block.index().get())));
    let before = space.usage();
    assert_eq!(kind(space.put_record(at(5), &[2; 90_000])), ErrorKind::Busy);
    assert_eq!(
        kind(space.put_record(at(5), &vec![2; 1 << 20])),
        ErrorKind::NoSpace
    );
    assert_eq!(
        kind(space.put_record(BlockIndex::MAX, &[2; 40_000])),
        ErrorKind::InvalidArgument
    );
    assert_eq!(space.usage(), before);
    let mut out = Vec::new();
    space.get_record(at(5), &mut out).unwrap();
    assert_eq!(out, [1; 40_000]);
    grid.check().unwrap();
}

#[test]
fn a_damaged_record_is_noticed() {
    let (_grid, space) = space(1 << 20);
    let mut out = Vec::new();
    put(&space, 1, 0, b"something else").unwrap();
    assert_eq!(kind(space.get_record(at(1), &mut out)), ErrorKind::Corrupt);
    space.put_record(at(1), &[1; 40_000]).unwrap();
    put(&space, 2, 0, b"").unwrap();
    let error = space.get_record(at(1), &mut out).unwrap_err();
    assert!(error.to_string().contains("block 1 lacks part 1"), "{error}");
    put(&space, 2, 0, b"short").unwrap();
    assert_eq!(kind(space.get_record(at(1), &mut out)), ErrorKind::Corrupt);
    assert!(out.is_empty());
    put(&space, 1, 4, &[0xff; 8]).unwrap();
    assert_eq!(kind(space.get_record(at(1), &mut out)), ErrorKind::Corrupt);
    space.put_record(at(1), b"whole again").unwrap();
    space.get_record(at(1), &mut out).unwrap();
    assert_eq!(out, b"whole again");
}

#[test]
fn namespaces_are_separate_and_named() {
    let grid = grid(1 << 20);
    for (name, expected) in [
        ("", ErrorKind::InvalidArgument),
        (".hidden", ErrorKind::InvalidArgument),
        ("a/b", ErrorKind::InvalidArgument),
        ("ü", ErrorKind::InvalidArgument),
        ("x".repeat(65).as_str(), ErrorKind::NameTooLong),
        ("é".repeat(65).as_str(), ErrorKind::NameTooLong),
    ] {
        assert_eq!(kind(grid.create_namespace(name, None)), expected, "{name}");
    }
    let a = grid.create_namespace("a", None).unwrap();
    let b = grid.create_namespace("b-2_.x", Some(100_000)).unwrap();
    put(&a, 1, 0, b"in a").unwrap();
    put(&b, 1, 0, b"in b").unwrap();
    assert_eq!(read(&a, 1), b"in a");
    let names: Vec<_> = grid
        .namespaces()
        .iter()
        .map(|space| space.name().to_owned())
        .collect();
    assert_eq!(names, ["a", "b-2_.x"]);
    assert!(Arc::ptr_eq(&grid.create_namespace("a", Some(1)).unwrap(), &a));
    assert_eq!(
        a.usage().limit_bytes,
        u64::MAX,
        "the quota of a present namespace stays"
    );
    assert!(grid.namespace("c").is_none());
    let usage = grid.usage();
    assert_eq!((usage.blocks, usage.stored_bytes, usage.held_bytes), (2, 8, 128));
}

#[test]
fn a_removed_namespace_is_empty_for_good() {
    let grid = grid(1 << 20);
    let space = grid.create_namespace("gone", None).unwrap();
    put(&space, 1, 0, b"kept").unwrap();
    let block = space.new_block(0, b"lent").unwrap();
    assert_eq!(kind(grid.remove_namespace("gone")), ErrorKind::Busy);
    drop(block);
    space.charge(10).unwrap();
    assert_eq!(kind(grid.remove_namespace("gone")), ErrorKind::Busy);
    space.release(10);
    put(&space, 2, 0, b"still open").unwrap();
    grid.remove_namespace("gone").unwrap();
    assert_eq!(kind(grid.remove_namespace("gone")), ErrorKind::NotFound);
    assert_eq!(read(&space, 1), b"");
    assert_eq!(kind(put(&space, 1, 0, b"x")), ErrorKind::NotFound);
    assert_eq!(kind(space.new_block(0, b"x")), ErrorKind::NotFound);
    assert_eq!(kind(space.put_record(at(1), b"x")), ErrorKind::NotFound);
    assert_eq!(kind(space.charge(1)), ErrorKind::NotFound);
    assert_eq!(grid.usage().held_bytes + grid.usage().metadata_bytes, 0);
    grid.check().unwrap();
}

#[test]
fn blocks_outlive_the_grid() {
    let (grid, space) = space(1 << 20);
    put(&space, 1, 0, b"kept").unwrap();
    let block = space.new_block(0, b"lent").unwrap();
    drop(grid);
    assert_eq!(read(&space, 1), b"kept");
    drop(space);
    block.write(4, b" still").unwrap();
    assert_eq!(bytes_of(&block), b"lent still");
}

fn wait_for(what: &str, limit: Duration, done: impl Fn() -> bool) {
    let deadline = Instant::now() + limit;
    while !done() {
        assert!(Instant::now() < deadline, "{what} took longer than {limit:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn freed_memory_goes_back_by_itself() {
    let (grid, space) = space(64 << 20);
    let blocks: Vec<_> = (0..6000)
        .map(|n| space.new_block(0, &vec![1; 1 + n * 7 % BLOCK as usize]).unwrap())
        .collect();
    let held = space.usage().held_bytes;
    assert!(grid.resident_bytes() >= held && held > 40 << 20);
    drop(blocks);
    // A busy machine may be late; a second is usual.
    wait_for("giving memory back", Duration::from_secs(20), || {
        grid.resident_bytes() == 0
    });
    grid.check().unwrap();
}

#[test]
fn trim_gives_back_what_is_free_and_keeps_the_rest() {
    let (grid, space) = space(64 << 20);
    let mut blocks: Vec<_> = (0..2000_u32)
        .map(|n| {
            space
                .new_block(0, &vec![n as u8; (n * 37 % BLOCK) as usize])
                .unwrap()
        })
        .collect();
    let mut position = 0;
    blocks.retain(|_| {
        position += 1;
        position % 10 == 0
    });
    let before = grid.resident_bytes();
    let trimmed = grid.trim();
    assert_eq!(grid.resident_bytes(), before - trimmed);
    assert!(trimmed > before / 2);
    assert!(grid.resident_bytes() >= space.usage().held_bytes);
    for (position, block) in blocks.iter().enumerate() {
        let n = position as u32 * 10 + 9;
        assert_eq!(bytes_of(block), vec![n as u8; (n * 37 % BLOCK) as usize]);
    }
    grid.check().unwrap();
    drop(blocks);
    grid.trim();
    assert_eq!(grid.resident_bytes(), 0);
}

#[test]
fn memory_in_use_never_passes_the_size_by_much() {
    let size = 64 << 20;
    let (grid, space) = space(size);
    let slack = size / SLACK_SHARE + SLACK_BYTES;
    let mut kept = Vec::new();
    for len in [BLOCK, 5000, 64, 4096, 700, BLOCK, 64, 12_000] {
        let bytes = vec![1; len as usize];
        let mut blocks = Vec::new();
        while let Ok(block) = space.new_block(0, &bytes) {
            blocks.push(block);
            let metadata = grid.usage().metadata_bytes;
            assert!(grid.resident_bytes() + metadata <= size + slack);
        }
        assert!(grid.resident_bytes() + grid.usage().metadata_bytes <= size + slack);
        let mut position = 0;
        blocks.retain(|_| {
            position += 1;
            position % 97 == 0
        });
        kept.push(blocks);
        grid.check().unwrap();
    }
}

/// Runs `test` in a process of its own, whose memory it can measure. `name` is the test's.
fn alone(name: &str, test: impl FnOnce()) {
    const MARK: &str = "OKAPI_TEST_ALONE";
    if std::env::var_os(MARK).is_some() {
        return test();
    }
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(MARK, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{name} failed in its own process");
}

/// Resident memory of this process in bytes.
#[cfg(target_os = "linux")]
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Fills the grid with blocks of `len` bytes from `first` on; the index behind the last.
#[cfg(target_os = "linux")]
fn storm(space: &Arc<Namespace>, first: u64, len: usize, bound: u64) -> u64 {
    let bytes = vec![0x5a; len];
    for index in first.. {
        if let Err(error) = put(space, index, 0, &bytes) {
            assert_eq!(error.kind(), ErrorKind::NoSpace);
            assert!(resident() < bound, "{} bytes resident", resident());
            return index;
        }
        if index % 512 == 0 {
            assert!(resident() < bound, "{} bytes resident", resident());
        }
    }
    unreachable!("a grid has a bound");
}

#[test]
#[cfg(target_os = "linux")]
fn the_process_stays_within_size_and_shrinks_again() {
    alone("the_process_stays_within_size_and_shrinks_again", || {
        const SIZE: u64 = 96 << 20;
        let bound = SIZE + SIZE / 20 + (64 << 20);
        let before = resident();
        let grid = Grid::new(GridConfig::with_size(SIZE)).unwrap();
        let space = grid.create_namespace("storm", None).unwrap();
        let mut end = 0;
        for len in [64, 65_536, 3000, 100, 20_000] {
            end = storm(&space, end, len, bound);
            // Of what there is, one block in ten stays, scattered over all pages.
            for (index, _) in space.keys(at(0), usize::MAX) {
                if index.get() % 10 != 0 {
                    space.put(&[(index, 0, b"")]).unwrap();
                }
            }
        }
        for (index, _) in space.keys(at(0), usize::MAX) {
            space.put(&[(index, 0, b"")]).unwrap();
        }
        let least = before + (8 << 20);
        wait_for("giving memory back", Duration::from_secs(20), || {
            resident() < least
        });
        grid.check().unwrap();
    });
}

/// Random operations on blocks and on a map of vectors give the same results and the same contents.
#[test]
fn a_grid_behaves_like_its_model() {
    let mut random = Random::new("model");
    let (grid, space) = space(2 << 20);
    let mut model = Model {
        space: space.clone(),
        kept: HashMap::new(),
        lent: Vec::new(),
    };
    for step in 0..60_000 {
        model.step(&mut random);
        if step % 5000 == 0 {
            model.compare();
            grid.check().unwrap();
            grid.trim();
        }
    }
    model.compare();
    drop(model);
    grid.check().unwrap();
    let keys: Vec<_> = space.keys(at(0), usize::MAX);
    for (index, _) in keys {
        space.put(&[(index, 0, b"")]).unwrap();
    }
    let usage = grid.usage();
    assert_eq!((usage.blocks, usage.held_bytes, usage.metadata_bytes), (0, 0, 0));
    grid.trim();
    assert_eq!(grid.resident_bytes(), 0);
}

struct Model {
    space: Arc<Namespace>,
    kept: HashMap<u64, Vec<u8>>,
    lent: Vec<(Block, Vec<u8>)>,
}

impl Model {
    /// Indexes of kept blocks in the model are above those that are lent.
    const KEPT: u64 = 1 << 40;

    fn step(&mut self, random: &mut Random) {
        match random.below(10) {
            0..=2 => self.put(random),
            3 => self.delete(random),
            4 | 5 => self.lend(random),
            6 | 7 => self.write(random),
            8 => self.truncate(random),
            _ => self.end(random),
        }
    }

    fn put(&mut self, random: &mut Random) {
        let count = 1 + random.below(4) as usize;
        let requests: Vec<_> = (0..count)
            .map(|_| {
                let index = Self::KEPT + random.below(150);
                let offset = random.len(BLOCK - 1);
                let len = random.len(BLOCK - offset) as usize;
                (index, offset, random.bytes(len))
            })
            .collect();
        let borrowed: Vec<_> = requests
            .iter()
            .map(|(index, offset, bytes)| (at(*index), *offset, bytes.as_slice()))
            .collect();
        if let Err(error) = self.space.put(&borrowed) {
            assert_eq!(error.kind(), ErrorKind::NoSpace);
            return;
        }
        for (index, offset, bytes) in requests {
            if bytes.is_empty() {
                self.kept.remove(&index);
            } else {
                overlay(self.kept.entry(index).or_default(), offset, &bytes);
            }
        }
    }

    fn delete(&mut self, random: &mut Random) {
        let index = Self::KEPT + random.below(150);
        put(&self.space, index, 0, b"").unwrap();
        self.kept.remove(&index);
    }

    fn lend(&mut self, random: &mut Random) {
        let zeros = random.len(BLOCK);
        let len = random.len(BLOCK - zeros) as usize;
        let bytes = random.bytes(len);
        match self.space.new_block(zeros, &bytes) {
            Ok(block) => {
                let mut content = vec![0; zeros as usize];
                content.extend(bytes);
                self.lent.push((block, content));
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::NoSpace),
        }
    }

    fn write(&mut self, random: &mut Random) {
        let Some(position) = self.pick(random) else { return };
        let (block, content) = &mut self.lent[position];
        let append = random.below(2) == 0;
        let offset = if append { block.len() } else { random.len(BLOCK) };
        let len = random.len(BLOCK - offset) as usize;
        let bytes = random.bytes(len);
        match block.write(offset, &bytes) {
            Ok(()) => overlay(content, offset, &bytes),
            Err(error) => assert_eq!(error.kind(), ErrorKind::NoSpace),
        }
    }

    fn truncate(&mut self, random: &mut Random) {
        let Some(position) = self.pick(random) else { return };
        let (block, content) = &mut self.lent[position];
        let len = random.len(BLOCK);
        block.truncate(len);
        content.truncate(len as usize);
    }

    fn end(&mut self, random: &mut Random) {
        if let Some(position) = self.pick(random) {
            self.lent.swap_remove(position);
        }
    }

    fn pick(&self, random: &mut Random) -> Option<usize> {
        let count = self.lent.len() as u64;
        (count > 0).then(|| random.below(count) as usize)
    }

    fn compare(&self) {
        for (&index, content) in &self.kept {
            assert_eq!(&read(&self.space, index), content);
        }
        for (block, content) in &self.lent {
            assert_eq!(&bytes_of(block), content);
            assert_eq!(&read(&self.space, block.index().get()), content);
        }
        let lent = self
            .lent
            .iter()
            .map(|(block, content)| (block.index().get(), content.len()));
        let kept = self.kept.iter().map(|(&index, content)| (index, content.len()));
        let mut expected: Vec<_> = lent.chain(kept).collect();
        expected.sort_unstable();
        let keys: Vec<_> = self
            .space
            .keys(at(0), usize::MAX)
            .into_iter()
            .map(|(index, len)| (index.get(), len as usize))
            .collect();
        assert_eq!(keys, expected);
        let stored: usize = expected.iter().map(|(_, len)| len).sum();
        assert_eq!(self.space.usage().stored_bytes, stored as u64);
    }
}

fn overlay(content: &mut Vec<u8>, offset: u32, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let end = offset as usize + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset as usize..end].copy_from_slice(bytes);
}

/// Threads put, read, lend, write, cut and drop at once. Each byte that a thread writes is its own number, so every
/// block that one thread owns must hold nothing else.
#[test]
fn many_threads_share_a_grid() {
    let seed = Random::new("threads").0;
    let (grid, space) = space(24 << 20);
    thread::scope(|scope| {
        for number in 1..=8_u8 {
            let (grid, space) = (&grid, &space);
            scope.spawn(move || work(grid, space, number, Random(seed ^ u64::from(number))));
        }
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(10));
            grid.trim();
            if let Err(error) = grid.check() {
                assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
            }
        }
    });
    grid.check().unwrap();
    for (index, _) in space.keys(at(0), usize::MAX) {
        space.put(&[(index, 0, b"")]).unwrap();
    }
    assert_eq!(grid.usage().held_bytes + grid.usage().metadata_bytes, 0);
    grid.trim();
    assert_eq!(grid.resident_bytes(), 0);
    grid.check().unwrap();
}

const RECORD: u64 = 3 << 40;

fn work(grid: &Grid, space: &Arc<Namespace>, number: u8, mut random: Random) {
    let mut blocks: Vec<Block> = Vec::new();
    let shared = 1 << 40;
    let mine = (2 << 40) + (u64::from(number) << 16);
    let scratch = vec![number; BLOCK as usize];
    let is_mine = |bytes: &[u8]| bytes.iter().all(|&byte| byte == number || byte == 0);
    let expected = |result: okapi::Result<()>| {
        if let Err(error) = result {
            assert!(matches!(error.kind(), ErrorKind::NoSpace), "{error:?}");
        }
    };
    for _ in 0..8000 {
        let offset = random.len(BLOCK - 1);
        let bytes = &scratch[..random.len(BLOCK - offset) as usize];
        match random.below(12) {
            0..=2 => match space.new_block(offset, bytes) {
                Ok(block) => blocks.push(block),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::NoSpace);
                    blocks.truncate(blocks.len() / 2);
                }
            },
            3 | 4 if !blocks.is_empty() => {
                let block = &blocks[random.below(blocks.len() as u64) as usize];
                assert!(block.read(Slice::ALL, is_mine));
                expected(block.write(offset, bytes));
                assert!(block.read(Slice::ALL, is_mine));
            }
            5 if !blocks.is_empty() => blocks[0].truncate(offset),
            6 | 7 if blocks.len() > 20 => {
                blocks.swap_remove(random.below(blocks.len() as u64) as usize);
            }
            8 => expected(put(space, shared + random.below(50), offset, bytes)),
            9 => {
                let index = mine + random.below(50);
                expected(put(space, index, offset, bytes));
                assert!(is_mine(&read(space, index)));
            }
            10 => {
                // Other threads' lent blocks: their last handle may go while this one reads.
                let keys = space.keys(at(1 + random.below(3000)), 20);
                assert!(keys.is_sorted());
                let requests: Vec<_> = keys
                    .iter()
                    .map(|&(index, _)| (index, Slice::ALL))
                    .filter(|(index, _)| index.get() < RECORD)
                    .collect();
                space.get(&requests, &mut |_, bytes| {
                    let first = bytes.iter().find(|&&byte| byte != 0).copied().unwrap_or(0);
                    assert!(first <= 8);
                });
            }
            _ => {
                assert!(grid.resident_bytes() <= (24 << 20) + (24 << 20) / SLACK_SHARE + SLACK_BYTES);
                expected(space.put_record(at(RECORD), &scratch));
                let mut record = Vec::new();
                if space.get_record(at(RECORD), &mut record).is_ok() {
                    assert_eq!(record.len(), BLOCK as usize);
                    assert!(
                        record.iter().all(|&byte| byte == record[0]),
                        "a record is seen whole"
                    );
                }
            }
        }
    }
}

/// The last handle goes while others look its index up: the place where an index shard and a block's end meet.
#[test]
fn ends_and_look_ups_of_the_same_block_do_not_wait_for_each_other() {
    let (grid, space) = space(4 << 20);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let space = &space;
                scope.spawn(move || {
                    for round in 0..20_000_u64 {
                        let from = at((round & !255).min(19_000));
                        space.get(&[(from.plus(round % 256).unwrap(), Slice::ALL)], &mut |_, _| {});
                        if round % 64 == 0 {
                            space.keys(from, 16);
                        }
                    }
                })
            })
            .collect();
        for _ in 0..20_000 {
            drop(space.new_block(0, b"short-lived").unwrap());
        }
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    assert_eq!(space.usage().blocks, 0);
    grid.check().unwrap();
}
