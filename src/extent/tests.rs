//! The rules of contents, one by one.

mod clones;
mod compress;
mod diff;
mod equal;
mod map;
mod merge;
mod model;
mod seal;

use std::sync::{Arc, RwLock};

use super::map::Map;
use super::run::Extent;
use super::{Content, ReadPlan};
use crate::ErrorKind;
use crate::grid::{Grid, GridConfig, Namespace, class_bytes};
use crate::limits::FILE_SIZE_MAX;
use crate::range::ByteRange;

const KIB: u64 = 1 << 10;
const BLOCK: u64 = 64 * KIB;

/// A namespace of 64 KiB blocks with this much memory.
fn namespace(size_bytes: u64) -> Arc<Namespace> {
    namespace_of_blocks(size_bytes, 64 << 10)
}

fn namespace_of_blocks(size_bytes: u64, block_size: u32) -> Arc<Namespace> {
    let grid = Grid::new(GridConfig {
        size_bytes,
        block_size,
    })
    .unwrap();
    grid.create_namespace("test", None).unwrap()
}

fn range(start: u64, end: u64) -> ByteRange {
    ByteRange { start, end }
}

fn held(namespace: &Namespace) -> u64 {
    namespace.usage().held_bytes
}

/// Lets the namespace take this much more.
fn leave(namespace: &Namespace, bytes: u64) {
    let usage = namespace.usage();
    namespace.set_quota(Some(usage.held_bytes + usage.metadata_bytes + bytes));
}

/// Bytes that tell where they belong.
fn pattern(start: u64, len: u64) -> Vec<u8> {
    (start..start + len)
        .map(|at| (at % 251 + at / 4096) as u8 | 1)
        .collect()
}

fn read(content: &Content, start: u64, len: u64) -> Vec<u8> {
    copied(&content.plan(start, len as usize))
}

/// The bytes of a plan; those behind it in the buffer must stay as they are.
fn copied(plan: &ReadPlan) -> Vec<u8> {
    let mut out = vec![0xee; plan.len() + 3];
    assert_eq!(plan.copy_to(&mut out), plan.len());
    assert_eq!(out.split_off(plan.len()), [0xee; 3]);
    out
}

fn write(content: &mut Content, namespace: &Arc<Namespace>, start: u64, len: u64) {
    let written = content.write(namespace, start, &pattern(start, len)).unwrap();
    assert_eq!(written as u64, len);
    content.check().unwrap();
}

/// Takes the extent that starts there out of a map.
fn take(map: &mut Map, start: u64) -> Extent {
    let mut taken = Vec::new();
    map.remove_range(start, start + 1, &mut |extent| taken.push(extent.clone()));
    assert_eq!(taken.len(), 1);
    taken.remove(0)
}

fn filled(namespace: &Arc<Namespace>, len: u64) -> Content {
    let mut content = Content::new();
    write(&mut content, namespace, 0, len);
    content
}

#[track_caller]
fn assert_zeros(content: &Content, start: u64, len: u64) {
    let bytes = read(content, start, len);
    assert_eq!(bytes.len() as u64, len);
    assert_eq!(bytes.iter().position(|byte| *byte != 0), None);
}

#[track_caller]
fn assert_pattern(content: &Content, start: u64, len: u64) {
    assert!(
        read(content, start, len) == pattern(start, len),
        "bytes have changed"
    );
}

#[test]
fn small_file_costs_its_size_class() {
    let namespace = namespace(1 << 20);
    let content = filled(&namespace, 100);
    assert_eq!(content.held_bytes(), u64::from(class_bytes(100)));
    assert_eq!(held(&namespace), content.held_bytes());
    assert_eq!(content.extent_count(), 1);
}

#[test]
fn content_is_small() {
    assert!(size_of::<Content>() <= 64);
}

#[test]
fn streams_make_one_extent_per_block() {
    let namespace = namespace(8 << 20);
    for step in [BLOCK, 128 * KIB, 1024 * KIB, 100_000] {
        let mut content = Content::new();
        for start in (0..1024 * KIB).step_by(step as usize) {
            write(&mut content, &namespace, start, step.min(1024 * KIB - start));
        }
        assert_eq!(content.extent_count(), 16, "in steps of {step}");
        assert_pattern(&content, 0, 1024 * KIB);
    }
}

#[test]
fn appends_of_pages_move_little_and_waste_nothing() {
    let namespace = namespace(1 << 20);
    let mut content = Content::new();
    for start in (0..4 * BLOCK).step_by(4096) {
        write(&mut content, &namespace, start, 4096);
        assert_eq!(held(&namespace), start + 4096);
    }
    assert!(
        content.extent_count() <= 6 * 4,
        "{} extents",
        content.extent_count()
    );
}

#[test]
fn appends_within_pages_grow_one_block() {
    let namespace = namespace(1 << 20);
    let mut content = Content::new();
    for start in (0..2 * BLOCK).step_by(100) {
        write(&mut content, &namespace, start, 100);
    }
    assert!(content.extent_count() <= 4);
    assert_pattern(&content, 0, 2 * BLOCK);
}

#[test]
fn whole_block_write_replaces_the_extents_in_it() {
    let namespace = namespace(1 << 20);
    let mut content = Content::new();
    for page in (0..16).rev() {
        write(&mut content, &namespace, page * 4096, 4096);
    }
    assert_eq!(content.extent_count(), 16);
    write(&mut content, &namespace, 0, BLOCK);
    assert_eq!(content.extent_count(), 1);
    assert_eq!(held(&namespace), BLOCK);
}

#[test]
fn overwrite_needs_no_memory() {
    let namespace = namespace(1 << 20);
    let mut content = Content::new();
    for page in (0..100).rev() {
        write(&mut content, &namespace, page * 4096, 4096);
    }
    leave(&namespace, 0);
    let before = held(&namespace);
    for start in (0..400 * KIB - 70_000).step_by(5_000) {
        write(&mut content, &namespace, start, 70_000);
    }
    assert_eq!(held(&namespace), before);
    assert_pattern(&content, 0, 400 * KIB);
}

#[test]
fn short_write_at_the_bound() {
    let namespace = namespace(1 << 20);
    let mut content = Content::new();
    leave(&namespace, 3 * BLOCK + 1000);
    let written = content.write(&namespace, 0, &pattern(0, 10 * BLOCK)).unwrap();
    assert_eq!(written as u64, 3 * BLOCK);
    assert_eq!(content.len(), 3 * BLOCK);
    let error = content
        .write(&namespace, 3 * BLOCK, &pattern(0, BLOCK))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
    assert_eq!(content.len(), 3 * BLOCK);
    content.check().unwrap();
    assert_pattern(&content, 0, 3 * BLOCK);
}

#[test]
fn page_of_a_shared_block_costs_a_page() {
    let namespace = namespace(1 << 20);
    let base = filled(&namespace, BLOCK);
    let mut clone = base.clone();
    assert_eq!(held(&namespace), BLOCK);
    clone.write(&namespace, 3 * 4096, &[7; 4096]).unwrap();
    assert_eq!(held(&namespace), BLOCK + 4096);
    clone.write(&namespace, 8 * 4096 + 5, b"within").unwrap();
    assert_eq!(held(&namespace), BLOCK + 2 * 4096);
    clone.check().unwrap();
    assert_pattern(&base, 0, BLOCK);
    assert_eq!(read(&clone, 3 * 4096, 4096), [7; 4096]);
    assert_eq!(read(&clone, 8 * 4096 + 5, 6), b"within");
    assert_pattern(&clone, 8 * 4096 + 11, BLOCK - 8 * 4096 - 11);
    assert_eq!(clone.held_bytes(), BLOCK);
}

#[test]
fn shared_block_does_not_grow_into_its_other_owner() {
    let namespace = namespace(1 << 20);
    let mut base = filled(&namespace, 5_000);
    let mut clone = base.clone();
    clone.write(&namespace, 5_000, &[7; 100]).unwrap();
    base.write(&namespace, 6_000, &[9; 100]).unwrap();
    assert_eq!(read(&clone, 5_000, 1_000), [7; 100]);
    assert_zeros(&base, 5_000, 1_000);
    assert_eq!(read(&base, 6_000, 1_000), [9; 100]);
    base.check().unwrap();
    clone.check().unwrap();
}

#[test]
fn clones_of_large_contents_go_their_own_ways() {
    let namespace = namespace(64 << 20);
    let mut base = Content::new();
    for page in 0..5_000 {
        base.write(&namespace, page * 8192, &pattern(page * 8192, 4096))
            .unwrap();
    }
    let before = held(&namespace);
    let mut clone = base.clone();
    assert_eq!(held(&namespace), before);
    for page in (0..5_000).step_by(7) {
        clone.write(&namespace, page * 8192 + 1, &[0]).unwrap();
    }
    clone.set_len(4_000 * 8192);
    clone.punch(&namespace, range(8192, 1_000 * 8192)).unwrap();
    base.check().unwrap();
    clone.check().unwrap();
    for page in 0..5_000 {
        assert_pattern(&base, page * 8192, 4096);
    }
    drop(base);
    drop(clone);
    assert_eq!(namespace.usage().blocks, 0);
}

#[test]
fn cut_bytes_do_not_come_back() {
    let namespace = namespace(1 << 20);
    let mut content = filled(&namespace, 10_000);
    content.set_len(5_000);
    content.set_len(20_000);
    assert_zeros(&content, 5_000, 15_000);

    let mut content = filled(&namespace, 10_000);
    let clone = content.clone();
    content.set_len(5_000);
    assert_pattern(&clone, 0, 10_000);
    drop(clone);
    content.write(&namespace, 9_000, &[7; 10]).unwrap();
    assert_zeros(&content, 5_000, 4_000);
    content.set_len(5_001);
    content.set_len(6_000);
    assert_zeros(&content, 5_000, 1_000);
    content.check().unwrap();
}

#[test]
fn cutting_gives_memory_back() {
    let namespace = namespace(1 << 20);
    let mut content = filled(&namespace, 4 * BLOCK);
    content.set_len(BLOCK + 4096);
    assert_eq!(held(&namespace), BLOCK + 4096);
    assert_eq!(content.held_bytes(), BLOCK + 4096);
    content.set_len(10);
    assert_eq!(held(&namespace), u64::from(class_bytes(10)));
    content.set_len(0);
    assert_eq!(held(&namespace), 0);
}

#[test]
fn punching_gives_memory_back() {
    let namespace = namespace(1 << 20);
    let quarter = BLOCK / 4;
    let cases = [
        (0, quarter),
        (quarter, 3 * quarter),
        (3 * quarter, BLOCK),
        (1, BLOCK - 1),
    ];
    for (start, end) in cases {
        let mut content = filled(&namespace, BLOCK);
        content.punch(&namespace, range(start, end)).unwrap();
        content.check().unwrap();
        assert!(held(&namespace) <= BLOCK - (end - start) + 2 * 4096);
        assert_eq!(content.held_bytes(), held(&namespace));
        assert_zeros(&content, start, end - start);
        assert_pattern(&content, 0, start);
        assert_pattern(&content, end, BLOCK - end);
        assert_eq!(content.len(), BLOCK);
    }
    let mut content = filled(&namespace, 3 * BLOCK + 77);
    content.punch(&namespace, range(0, FILE_SIZE_MAX)).unwrap();
    assert_eq!(held(&namespace), 0);
    assert_eq!(content.len(), 3 * BLOCK + 77);
}

#[test]
fn punching_private_bytes_needs_no_memory() {
    let namespace = namespace(1 << 20);
    let mut content = filled(&namespace, 2 * BLOCK);
    leave(&namespace, 0);
    content.punch(&namespace, range(5_000, 20_000)).unwrap();
    content.punch(&namespace, range(30_000, 30_001)).unwrap();
    content
        .punch(&namespace, range(BLOCK - 1, BLOCK + 9_000))
        .unwrap();
    content.check().unwrap();
    assert_zeros(&content, 5_000, 15_000);
    assert_pattern(&content, 20_000, 10_000);
    assert_zeros(&content, BLOCK - 1, 9_001);
    assert_pattern(&content, BLOCK + 9_000, BLOCK - 9_000);
}

#[test]
fn punching_and_zeroing_change_nothing_where_they_fail() {
    let namespace = namespace(1 << 20);
    let mut content = filled(&namespace, 2 * BLOCK);
    content.set_len(4 * BLOCK);
    let clone = content.clone();
    leave(&namespace, 2000);
    let before = held(&namespace);
    let punched = content.punch(&namespace, range(5_000, BLOCK - 2_500));
    assert_eq!(punched.unwrap_err().kind(), ErrorKind::QuotaExceeded);
    leave(&namespace, 2 * BLOCK + 1_000);
    let zeroed = content.zero(&namespace, range(5_000, 4 * BLOCK));
    assert_eq!(zeroed.unwrap_err().kind(), ErrorKind::QuotaExceeded);
    content.check().unwrap();
    assert_eq!(held(&namespace), before);
    assert_eq!(content.seek_hole(0), Some(2 * BLOCK));
    assert_pattern(&content, 0, 2 * BLOCK);
    assert_zeros(&content, 2 * BLOCK, 2 * BLOCK);
    drop(clone);
    content.zero(&namespace, range(5_000, 4 * BLOCK)).unwrap();
    assert_zeros(&content, 5_000, 4 * BLOCK - 5_000);
    assert_pattern(&content, 0, 5_000);
    assert_eq!(content.held_bytes(), 4 * BLOCK);
}

#[test]
fn zeroing_shared_bytes_leaves_the_other_side() {
    let namespace = namespace(1 << 20);
    let mut content = filled(&namespace, 3 * BLOCK + 5_000);
    let clone = content.clone();
    content.zero(&namespace, range(100, 3 * BLOCK + 200)).unwrap();
    content.check().unwrap();
    assert_pattern(&clone, 0, 3 * BLOCK + 5_000);
    assert_pattern(&content, 0, 100);
    assert_zeros(&content, 100, 3 * BLOCK + 100);
    assert_pattern(&content, 3 * BLOCK + 200, 4_800);
}

#[test]
fn allocated_memory_is_there_for_writes() {
    let namespace = namespace(1 << 20);
    let mut content = filled(&namespace, 5_000);
    content.allocate(&namespace, range(1_000, 3 * BLOCK)).unwrap();
    content.check().unwrap();
    assert_eq!(content.len(), 5_000);
    assert_pattern(&content, 0, 5_000);
    assert_eq!(content.held_bytes(), 3 * BLOCK);
    leave(&namespace, 0);
    write(&mut content, &namespace, 3 * BLOCK - 10, 10);
    assert_zeros(&content, 5_000, 3 * BLOCK - 5_010);
    write(&mut content, &namespace, 0, 3 * BLOCK);
    assert_pattern(&content, 0, 3 * BLOCK);
}

#[test]
fn allocation_that_does_not_fit_changes_nothing() {
    let namespace = namespace(1 << 20);
    let mut content = filled(&namespace, 5_000);
    let before = held(&namespace);
    for end in [17 * BLOCK, 1 << 40, FILE_SIZE_MAX] {
        let error = content.allocate(&namespace, range(0, end)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        assert_eq!(held(&namespace), before);
        content.check().unwrap();
    }
    leave(&namespace, BLOCK);
    let error = content.allocate(&namespace, range(100, 2 * BLOCK)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
    assert_eq!(held(&namespace), before);
    assert_eq!(content.held_bytes(), before);
    assert_pattern(&content, 0, 5_000);
}

#[test]
fn allocated_memory_behind_the_end_is_no_data_and_goes_with_a_cut() {
    let namespace = namespace(1 << 20);
    let mut content = filled(&namespace, 100);
    content.allocate(&namespace, range(8192, 16384)).unwrap();
    assert_eq!(content.seek_data(101), None);
    assert_eq!(content.seek_hole(0), Some(100));
    content.set_len(10_000);
    assert_eq!(content.seek_hole(0), Some(4096));
    assert_eq!(content.seek_data(4096), Some(8192));
    assert_zeros(&content, 100, 9_900);
    content.set_len(50);
    assert_eq!(held(&namespace), u64::from(class_bytes(50)));
}

#[test]
fn seeking_finds_data_and_holes() {
    let namespace = namespace(1 << 20);
    let mut content = Content::new();
    assert_eq!((content.seek_data(0), content.seek_hole(0)), (None, None));
    write(&mut content, &namespace, 2 * BLOCK, 2 * BLOCK);
    write(&mut content, &namespace, 6 * BLOCK, 10);
    content.set_len(9 * BLOCK);
    assert_eq!(content.seek_data(0), Some(2 * BLOCK));
    assert_eq!(content.seek_data(3 * BLOCK + 1), Some(3 * BLOCK + 1));
    assert_eq!(content.seek_data(4 * BLOCK), Some(6 * BLOCK));
    assert_eq!(content.seek_data(6 * BLOCK + 4096), None);
    assert_eq!(content.seek_hole(5), Some(5));
    assert_eq!(content.seek_hole(2 * BLOCK), Some(4 * BLOCK));
    assert_eq!(content.seek_hole(6 * BLOCK), Some(6 * BLOCK + 4096));
    assert_eq!(content.seek_hole(9 * BLOCK), None);
    write(&mut content, &namespace, 2 * BLOCK - 4096, 10);
    write(&mut content, &namespace, 2 * BLOCK - 8192, 10);
    assert_eq!(content.seek_hole(2 * BLOCK - 8192), Some(4 * BLOCK));
    content.set_len(6 * BLOCK + 5);
    assert_eq!(content.seek_hole(6 * BLOCK), Some(6 * BLOCK + 5));
}

#[test]
fn seeking_a_hole_sees_what_has_changed_since_the_last_time() {
    const PAGES: u64 = 5000;
    let namespace = namespace(64 << 20);
    let mut content = Content::new();
    let page = |content: &mut Content, number: u64| write(content, &namespace, number * 4096, 4096);
    // Backwards, so that each page is an extent.
    (0..PAGES).rev().for_each(|number| page(&mut content, number));
    let holes = |content: &Content, expected: &[u64]| {
        for (start, hole) in [0, 1, 31, 32, 2499, 2500, 2501, 4998].into_iter().zip(expected) {
            assert_eq!(
                content.seek_hole(start * 4096),
                Some(hole * 4096),
                "from page {start}"
            );
        }
        content.check().unwrap();
    };
    holes(&content, &[PAGES; 8]);
    let whole = content.clone();
    content
        .punch(&namespace, range(2500 * 4096, 2501 * 4096))
        .unwrap();
    holes(&content, &[2500, 2500, 2500, 2500, 2500, 2500, PAGES, PAGES]);
    page(&mut content, 2500);
    holes(&content, &[PAGES; 8]);
    content.set_len(4999 * 4096 + 1);
    assert_eq!(content.seek_hole(0), Some(4999 * 4096 + 1));
    content.set_len(4000 * 4096);
    content.set_len(PAGES * 4096);
    holes(&content, &[4000, 4000, 4000, 4000, 4000, 4000, 4000, 4998]);
    holes(&whole, &[PAGES; 8]);
    // What only one of those has that share the rest.
    let mut clone = whole.clone();
    for number in [0, 31, 2499] {
        page(&mut clone, number);
    }
    holes(&clone, &[PAGES; 8]);
    clone.punch(&namespace, range(32 * 4096, 33 * 4096)).unwrap();
    holes(&clone, &[32, 32, 32, 32, PAGES, PAGES, PAGES, PAGES]);
    holes(&whole, &[PAGES; 8]);
}

#[test]
fn largest_offset_is_within_reach() {
    let namespace = namespace(1 << 20);
    let mut content = Content::new();
    let last = FILE_SIZE_MAX - 1;
    write(&mut content, &namespace, last - 100, 101);
    assert_eq!(content.len(), FILE_SIZE_MAX);
    assert_eq!(
        content.write(&namespace, last, b"ab").unwrap_err().kind(),
        ErrorKind::FileTooBig
    );
    assert_eq!(
        content.write(&namespace, u64::MAX, b"a").unwrap_err().kind(),
        ErrorKind::FileTooBig
    );
    assert_eq!(content.seek_hole(last), Some(FILE_SIZE_MAX));
    assert_eq!(content.seek_data(last), Some(last));
    assert_eq!(content.plan(last, usize::MAX).len(), 1);
    content
        .allocate(&namespace, range(last - 9_000, FILE_SIZE_MAX))
        .unwrap();
    content
        .zero(&namespace, range(last - 9_000, FILE_SIZE_MAX))
        .unwrap();
    assert_zeros(&content, last - 9_000, 9_001);
    let clip = content.clip(range(last - 9_000, FILE_SIZE_MAX));
    let pasted = content.paste(&namespace, last - 9_000, &clip);
    assert_eq!(pasted.unwrap(), 9_001);
    content.check().unwrap();
    content.punch(&namespace, range(0, FILE_SIZE_MAX)).unwrap();
    assert_eq!(content.extent_count(), 0);
}

#[test]
fn no_bytes_change_nothing() {
    let namespace = namespace(1 << 20);
    let mut content = Content::new();
    assert_eq!(content.write(&namespace, 100, b"").unwrap(), 0);
    let clip = content.clip(range(0, 100));
    assert!(clip.is_empty());
    assert_eq!(content.paste(&namespace, 100, &clip).unwrap(), 0);
    content.punch(&namespace, range(5, 5)).unwrap();
    content.zero(&namespace, range(5, 5)).unwrap();
    assert_eq!((content.len(), held(&namespace)), (0, 0));
    assert!(content.is_empty() && content.plan(0, 10).is_empty());
}

#[test]
fn pinned_bytes_stay_as_they_were() {
    let namespace = namespace(1 << 20);
    let mut content = filled(&namespace, 5 * BLOCK);
    let plan = content.plan(1_000, 4 * BLOCK as usize);
    content
        .write(&namespace, 0, &vec![0; 2 * BLOCK as usize])
        .unwrap();
    content.punch(&namespace, range(2 * BLOCK, 3 * BLOCK)).unwrap();
    content.zero(&namespace, range(3 * BLOCK, 4 * BLOCK)).unwrap();
    content.set_len(0);
    assert!(copied(&plan) == pattern(1_000, 4 * BLOCK));
    drop(plan);
    assert_eq!(held(&namespace), 0);
}

#[test]
fn pasted_pages_are_shared() {
    let namespace = namespace(2 << 20);
    let mut source = filled(&namespace, 3 * BLOCK);
    source.set_len(5 * BLOCK);
    write(&mut source, &namespace, 5 * BLOCK, 1_000);
    let before = held(&namespace);
    let clip = source.clip(range(0, u64::MAX));
    assert_eq!(clip.len(), 5 * BLOCK + 1_000);

    for offset in [0, 4096, BLOCK, 7 * BLOCK + 5 * 4096] {
        let mut target = Content::new();
        assert_eq!(target.paste(&namespace, offset, &clip).unwrap(), clip.len());
        target.check().unwrap();
        assert_eq!(held(&namespace), before, "the tail page is shared, too");
        assert_eq!(target.len(), offset + clip.len());
        assert!(read(&target, offset, clip.len()) == read(&source, 0, clip.len()));
        assert_eq!(target.seek_hole(offset), Some(offset + 3 * BLOCK));
        target.write(&namespace, offset + 10, b"mine").unwrap();
        assert_eq!(held(&namespace), before + 4096);
        assert_pattern(&source, 0, 3 * BLOCK);
    }
}

#[test]
fn slice_from_the_back_of_a_block_does_not_grow_in_it() {
    let namespace = namespace(1 << 20);
    let mut content = filled(&namespace, BLOCK);
    let clip = content.clip(range(12 * 4096, BLOCK));
    content.set_len(0);
    content.paste(&namespace, 0, &clip).unwrap();
    drop(clip);
    content.write(&namespace, 10, &[7; 30_000]).unwrap();
    content.check().unwrap();
    assert_eq!(read(&content, 10, 30_000), [7; 30_000]);
}

#[test]
fn pasting_replaces_bytes_by_bytes_and_holes() {
    let namespace = namespace(4 << 20);
    let mut source = Content::new();
    write(&mut source, &namespace, BLOCK, 10_000);
    source.set_len(3 * BLOCK);
    for (from, to) in [(0, 0), (100, 4196), (100, 101), (4096, 3), (BLOCK - 1, BLOCK - 1)] {
        let clip = source.clip(range(from, 3 * BLOCK - 5));
        let mut target = filled(&namespace, 6 * BLOCK);
        assert_eq!(target.paste(&namespace, to, &clip).unwrap(), clip.len());
        target.check().unwrap();
        assert_eq!(target.len(), 6 * BLOCK);
        assert_pattern(&target, 0, to);
        assert!(read(&target, to, clip.len()) == read(&source, from, clip.len()));
        let end = to + clip.len();
        assert_pattern(&target, end, 6 * BLOCK - end);
        let hole = target
            .seek_hole(BLOCK + 4 * 4096 + to.saturating_sub(from))
            .unwrap();
        assert!(hole < 2 * BLOCK, "holes become holes: {hole}");
    }
}

#[test]
fn pasting_an_exbibyte_takes_as_long_as_its_extents() {
    const EXBIBYTE: u64 = 1 << 60;
    let namespace = namespace(1 << 20);
    let mut source = Content::new();
    for start in [BLOCK - 5_000, EXBIBYTE / 2] {
        write(&mut source, &namespace, start, 10_000);
    }
    source.set_len(EXBIBYTE);
    let clip = source.clip(range(0, EXBIBYTE));
    let mut target = Content::new();
    for offset in [0, 5 * 4096, 4097] {
        assert_eq!(target.paste(&namespace, offset, &clip).unwrap(), EXBIBYTE);
        target.check().unwrap();
        for start in [BLOCK - 5_000, EXBIBYTE / 2] {
            assert!(read(&target, offset + start, 10_000) == pattern(start, 10_000));
        }
    }
}

#[test]
fn pasting_within_one_content() {
    let namespace = namespace(2 << 20);
    let mut content = filled(&namespace, 3 * BLOCK);
    let before = held(&namespace);
    let clip = content.clip(range(0, BLOCK + 10));
    content.paste(&namespace, 4 * BLOCK, &clip).unwrap();
    content.paste(&namespace, 2 * BLOCK - 3, &clip).unwrap();
    drop(clip);
    content.check().unwrap();
    assert!(held(&namespace) < before + BLOCK + 16 * KIB + 8192);
    assert!(read(&content, 4 * BLOCK, BLOCK + 10) == pattern(0, BLOCK + 10));
    assert!(read(&content, 2 * BLOCK - 3, BLOCK + 10) == pattern(0, BLOCK + 10));
    assert_pattern(&content, 0, 2 * BLOCK - 3);
    content.write(&namespace, 4 * BLOCK + 1, &[0; 4096]).unwrap();
    assert_pattern(&content, 0, BLOCK);
}

#[test]
fn short_paste_at_the_bound() {
    let namespace = namespace(2 << 20);
    let source = filled(&namespace, 8 * BLOCK);
    let clip = source.clip(range(0, 8 * BLOCK));
    let mut target = Content::new();
    leave(&namespace, 3 * BLOCK);
    let done = target.paste(&namespace, 1, &clip).unwrap();
    assert!(done > 0 && done < 4 * BLOCK);
    assert_eq!(target.len(), done + 1);
    target.check().unwrap();
    assert!(read(&target, 1, done) == pattern(0, done));
    leave(&namespace, 0);
    let error = Content::new().paste(&namespace, 1, &clip).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
    assert_eq!(target.paste(&namespace, 0, &clip).unwrap(), 8 * BLOCK);
    assert_pattern(&target, 0, 8 * BLOCK);
}

#[test]
fn check_finds_each_damage() {
    let namespace = namespace(1 << 20);
    let damaged = |damage: &dyn Fn(&mut Content)| {
        let mut content = filled(&namespace, 2 * BLOCK);
        content.allocate(&namespace, range(2 * BLOCK, 3 * BLOCK)).unwrap();
        content.check().unwrap();
        damage(&mut content);
        assert_eq!(content.check().unwrap_err().kind(), ErrorKind::Corrupt);
    };
    damaged(&|content| content.len = BLOCK);
    damaged(&|content| content.len = FILE_SIZE_MAX + 1);
    damaged(&|content| content.resized(0, 1));
    damaged(&|content| content.map.at_or_before_mut(0).unwrap().len = 100);
    damaged(&|content| content.map.at_or_before_mut(0).unwrap().len += 1);
    damaged(&|content| content.map.at_or_before_mut(0).unwrap().block_offset = 1);
    damaged(&|content| {
        let mut extent = take(&mut content.map, 2 * BLOCK);
        extent.start -= 4096;
        content.map.insert(extent);
    });
    damaged(&|content| {
        let mut extent = take(&mut content.map, 2 * BLOCK);
        extent.start += 4096;
        content.map.insert(extent);
    });
    damaged(&|content| {
        let mut extent = take(&mut content.map, 2 * BLOCK);
        extent.start += 5;
        content.map.insert(extent);
    });
}

#[test]
fn readers_see_whole_writes_while_writers_go_on() {
    let namespace = namespace(8 << 20);
    let content = RwLock::new(filled(&namespace, 4 * BLOCK));
    content
        .write()
        .unwrap()
        .write(&namespace, 0, &vec![0; 4 * BLOCK as usize])
        .unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for round in 0..2_000_u64 {
                    let start = round % 4 * BLOCK + round % 16 * 4096;
                    let plan = content.read().unwrap().plan(start, 4096);
                    let bytes = copied(&plan);
                    assert_eq!(bytes.len(), 4096);
                    assert!(
                        bytes.iter().all(|byte| *byte == bytes[0]),
                        "a write was seen half done"
                    );
                }
            });
        }
        scope.spawn(|| {
            for round in 0..2_000_u64 {
                let start = round * 5 % 64 * 4096;
                let bytes = [round as u8; 4096];
                content.write().unwrap().write(&namespace, start, &bytes).unwrap();
            }
        });
    });
    content.read().unwrap().check().unwrap();
    drop(content);
    assert_eq!(namespace.usage().blocks, 0);
}
