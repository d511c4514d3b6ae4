//! Records that spread over blocks.

use okapi::ErrorKind;
use okapi::grid::BlockIndex;

use crate::{BLOCK, Random, at, kind, put, space};

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
