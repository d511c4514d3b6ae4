//! Budget, quotas and namespaces.

use std::sync::Arc;

use okapi::ErrorKind;
use okapi::grid::{Grid, GridConfig};
use okapi::limits::BLOCK_COST;

use crate::{BLOCK, at, bytes_of, grid, kind, put, read, space};

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
