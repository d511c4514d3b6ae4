//! What blocks store, where they are and how long they live.

use std::collections::BTreeMap;

use okapi::ErrorKind;
use okapi::grid::{BlockIndex, Grid, GridConfig, class_bytes};

use crate::{BLOCK, Random, at, bytes_of, kind, put, read, slice, space};

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
