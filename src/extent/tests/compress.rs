//! Contents whose blocks are held compressed.

use std::sync::Arc;

use super::{
    BLOCK, assert_pattern, assert_zeros, filled, held, leave, namespace, pattern, range, read, write,
};
use crate::ErrorKind;
use crate::extent::Content;
use crate::grid::{Codec, Namespace, Press};

/// Compresses all blocks that it pays for; how many.
pub(super) fn compress(content: &Content) -> u64 {
    let (mut press, mut at, mut count) = (Press::new(Codec::Lz4), 0, 0);
    while let Some(block) = content.next_compressible(range(at, u64::MAX)) {
        at = block.end();
        let packed = block.pack(&mut press).expect("nobody else compresses");
        count += u64::from(content.compress(packed, &press).is_some());
    }
    count
}

/// A file of which all blocks are compressed.
fn compressed(namespace: &Arc<Namespace>, len: u64) -> Content {
    let content = filled(namespace, len);
    assert_eq!(compress(&content), len.div_ceil(BLOCK));
    content
}

#[test]
fn a_compressed_file_reads_as_before_and_counts_as_before() {
    let namespace = namespace(4 << 20);
    let content = filled(&namespace, 10 * BLOCK + 5000);
    let before = content.held_bytes();
    assert_eq!(held(&namespace), before);
    assert_eq!(compress(&content), 11);
    assert!(held(&namespace) < before / 10);
    assert_eq!(
        content.held_bytes(),
        before,
        "what a file shows does not change behind its back"
    );
    assert_pattern(&content, 0, 10 * BLOCK + 5000);
    assert_pattern(&content, BLOCK - 10, 5000);
    assert_eq!(compress(&content), 0);
    content.check().unwrap();
}

#[test]
fn writing_to_a_compressed_file_takes_memory_or_changes_nothing() {
    let namespace = namespace(4 << 20);
    let mut content = compressed(&namespace, 2 * BLOCK);
    leave(&namespace, 1000);
    let full = content.write(&namespace, 100, b"new").unwrap_err();
    assert_eq!(full.kind(), ErrorKind::QuotaExceeded);
    assert_pattern(&content, 0, 2 * BLOCK);
    namespace.set_quota(None);
    write(&mut content, &namespace, 100, 3);
    content.write(&namespace, BLOCK - 1, b"both").unwrap();
    assert_eq!(
        read(&content, BLOCK - 2, 6),
        [&pattern(BLOCK - 2, 1)[..], b"both", &pattern(BLOCK + 3, 1)].concat()
    );
    assert_pattern(&content, BLOCK + 3, BLOCK - 3);
    content.check().unwrap();
}

#[test]
fn cutting_a_compressed_file_takes_no_memory() {
    let namespace = namespace(4 << 20);
    for (first, len) in [
        (0, 100),
        (0, BLOCK - 1),
        (5 * 4096, BLOCK),
        (4096, 9000),
        (15 * 4096, BLOCK + 5),
    ] {
        let mut content = compressed(&namespace, 2 * BLOCK);
        leave(&namespace, 0);
        content.punch(&namespace, range(0, first)).unwrap();
        content.set_len(len);
        assert_zeros(&content, 0, first);
        assert_pattern(&content, first, len - first);
        content.check().unwrap();
        namespace.set_quota(None);
        content.set_len(3 * BLOCK);
        assert_zeros(&content, len, 3 * BLOCK - len);
        content.check().unwrap();
    }
}

#[test]
fn the_middle_of_a_compressed_block_is_punched_without_memory() {
    let namespace = namespace(4 << 20);
    for room in [0, 4096, 2 * BLOCK] {
        let mut content = compressed(&namespace, BLOCK);
        leave(&namespace, room);
        content.punch(&namespace, range(4096, 3 * 4096)).unwrap();
        assert_pattern(&content, 0, 4096);
        assert_zeros(&content, 4096, 2 * 4096);
        assert_pattern(&content, 3 * 4096, BLOCK - 3 * 4096);
        content.check().unwrap();
        namespace.set_quota(None);
    }
}

#[test]
fn zeroing_a_compressed_block_takes_memory_or_changes_nothing() {
    let namespace = namespace(4 << 20);
    let mut content = compressed(&namespace, 2 * BLOCK);
    let clone = content.clone();
    leave(&namespace, BLOCK);
    assert!(content.zero(&namespace, range(100, 2 * BLOCK)).is_err());
    assert_pattern(&content, 0, 2 * BLOCK);
    drop(clone);
    assert!(
        content.zero(&namespace, range(100, 2 * BLOCK)).is_err(),
        "two blocks want to be plain"
    );
    assert_pattern(&content, 0, 2 * BLOCK);
    namespace.set_quota(None);
    compress(&content);
    content.zero(&namespace, range(100, 2 * BLOCK)).unwrap();
    assert_pattern(&content, 0, 100);
    assert_zeros(&content, 100, 2 * BLOCK - 100);
    content.check().unwrap();
}

#[test]
fn a_clone_shares_what_is_compressed() {
    let namespace = namespace(4 << 20);
    let mut content = compressed(&namespace, BLOCK);
    let clone = content.clone();
    write(&mut content, &namespace, 4096, 10);
    assert_eq!(namespace.usage().compressed_blocks, 1);
    assert!(held(&namespace) < 4096 + BLOCK / 10, "one page is copied");
    drop(content);
    assert_pattern(&clone, 0, BLOCK);
    assert_eq!(namespace.usage().compressed_blocks, 1);
}

#[test]
fn a_block_that_has_left_the_file_is_not_compressed() {
    let namespace = namespace(4 << 20);
    let mut content = filled(&namespace, 2 * BLOCK);
    let mut press = Press::new(Codec::Lz4);
    let block = content.next_compressible(range(0, BLOCK)).unwrap();
    let packed = block.pack(&mut press).unwrap();
    let clone = content.clone();
    content.write(&namespace, 0, &[7; BLOCK as usize]).unwrap();
    assert!(
        content.compress(packed, &press).is_none(),
        "another block is there"
    );
    assert!(clone.compress(packed, &press).is_some());
    content.set_len(0);
    assert!(content.compress(packed, &press).is_none(), "none is there");
    assert_pattern(&clone, 0, 2 * BLOCK);
}

#[test]
fn a_preallocated_file_keeps_its_memory() {
    let namespace = namespace(4 << 20);
    let mut content = filled(&namespace, BLOCK);
    content.allocate(&namespace, range(BLOCK, 2 * BLOCK)).unwrap();
    assert_eq!(compress(&content), 0);
    leave(&namespace, 0);
    write(&mut content, &namespace, 0, 2 * BLOCK);
}

#[test]
fn what_is_preallocated_after_it_was_compressed_has_memory_again() {
    let namespace = namespace(4 << 20);
    let mut content = compressed(&namespace, 2 * BLOCK);
    leave(&namespace, BLOCK);
    assert!(content.allocate(&namespace, range(0, 2 * BLOCK)).is_err());
    assert_pattern(&content, 0, 2 * BLOCK);
    namespace.set_quota(None);
    content.allocate(&namespace, range(0, 2 * BLOCK)).unwrap();
    leave(&namespace, 0);
    write(&mut content, &namespace, 0, 2 * BLOCK);
    content.check().unwrap();
}
