//! Merging: fewer extents and less memory, the same bytes and holes.

use super::*;
use crate::extent::{Merged, SealWalk};
use crate::grid::{Codec, Press};

/// Merges all that can be merged, as the owner of a content does it.
pub(super) fn merge_all(content: &mut Content, namespace: &Arc<Namespace>) -> Merged {
    let mut merged = Merged::default();
    let mut from = 0;
    while let Some(region) = content.next_scattered(from) {
        assert!(region.start >= from);
        merged.add(content.merge(namespace, region));
        from = region.end;
    }
    content.check().unwrap();
    merged
}

fn memory(namespace: &Namespace) -> u64 {
    let usage = namespace.usage();
    usage.held_bytes + usage.metadata_bytes
}

/// A clone with every second page its own, whose base is gone.
fn shattered(namespace: &Arc<Namespace>, len: u64) -> Content {
    let base = filled(namespace, len);
    let mut clone = base.clone();
    for page in (0..len / 4096).step_by(2) {
        write(&mut clone, namespace, page * 4096, 4096);
    }
    clone
}

#[test]
fn what_writes_have_shattered_becomes_whole_when_the_base_is_gone() {
    let namespace = namespace(16 << 20);
    let mut content = shattered(&namespace, 4 * BLOCK);
    assert_eq!(content.extent_count(), 64);
    assert_eq!(held(&namespace), 4 * BLOCK + 2 * BLOCK);
    let before = memory(&namespace);
    let merged = merge_all(&mut content, &namespace);
    assert_eq!((merged.extents, content.extent_count()), (60, 4));
    assert_eq!((held(&namespace), content.held_bytes()), (4 * BLOCK, 4 * BLOCK));
    assert!(before - memory(&namespace) >= 2 * BLOCK && merged.freed_bytes >= 2 * BLOCK);
    assert_pattern(&content, 0, 4 * BLOCK);
    assert_eq!(merge_all(&mut content, &namespace), Merged::default());
}

#[test]
fn pages_written_one_by_one_to_a_hole_become_one_extent() {
    let namespace = namespace(16 << 20);
    let mut content = Content::new();
    for page in (0..16).rev() {
        write(&mut content, &namespace, page * 4096, 4096);
    }
    assert_eq!(content.extent_count(), 16);
    let merged = merge_all(&mut content, &namespace);
    assert_eq!((merged.extents, content.extent_count()), (15, 1));
    assert_eq!(held(&namespace), BLOCK);
    assert_pattern(&content, 0, BLOCK);
}

#[test]
fn holes_stay_holes() {
    let namespace = namespace(16 << 20);
    let mut content = Content::new();
    for page in [0, 1, 3, 4, 15] {
        write(&mut content, &namespace, page * 4096, 4096);
    }
    // It ends in the middle of a page, and what follows begins with the next one.
    write(&mut content, &namespace, 7 * 4096, 100);
    write(&mut content, &namespace, 8 * 4096, 4096);
    write(&mut content, &namespace, BLOCK, 4096);
    merge_all(&mut content, &namespace);
    let data: Vec<u64> = (0..17)
        .filter(|page| content.seek_data(page * 4096) == Some(page * 4096))
        .collect();
    assert_eq!(data, [0, 1, 3, 4, 7, 8, 15, 16]);
    assert_zeros(&content, 7 * 4096 + 100, 4096 - 100);
    assert_zeros(&content, 2 * 4096, 4096);
    assert_pattern(&content, 8 * 4096, 4096);
}

#[test]
fn a_division_that_size_classes_make_dear_is_not_chosen() {
    let namespace = namespace(16 << 20);
    let mut content = Content::new();
    // Nine pages fit no class; eight do.
    for page in (0..9).rev() {
        write(&mut content, &namespace, page * 4096, 4096);
    }
    let before = memory(&namespace);
    let merged = merge_all(&mut content, &namespace);
    assert_eq!((merged.extents, content.extent_count()), (7, 2));
    assert_eq!(held(&namespace), 9 * 4096);
    assert!(memory(&namespace) < before);
    assert_pattern(&content, 0, 9 * 4096);
}

#[test]
fn what_others_share_stays() {
    let namespace = namespace(16 << 20);
    let base = filled(&namespace, 4 * BLOCK);
    let mut clone = base.clone();
    for page in 0..20 {
        write(&mut clone, &namespace, page * 8192, 4096);
    }
    let before = (memory(&namespace), clone.extent_count());
    let pin = base.clip(range(0, BLOCK));
    assert_eq!(merge_all(&mut clone, &namespace), Merged::default());
    assert_eq!((memory(&namespace), clone.extent_count()), before);
    drop(base);
    merge_all(&mut clone, &namespace);
    assert!(clone.extent_count() > 4, "the clip has the base's first block");
    drop(pin);
    merge_all(&mut clone, &namespace);
    assert_eq!((clone.extent_count(), held(&namespace)), (4, 4 * BLOCK));
    // A clone of it shares its nodes.
    write(&mut clone, &namespace, 5 * BLOCK, 4096);
    write(&mut clone, &namespace, 5 * BLOCK + 4096, 4096);
    let second = clone.clone();
    assert_eq!(merge_all(&mut clone, &namespace), Merged::default());
    assert_pattern(&second, 0, 4 * BLOCK);
}

#[test]
fn what_sealing_shares_is_not_merged_and_what_was_merged_is_sealed_as_one() {
    let namespace = namespace(16 << 20);
    let seal = |content: &mut Content| {
        let mut walk = SealWalk::over(range(0, FILE_SIZE_MAX));
        while let Some(unsealed) = content.next_unsealed(&walk) {
            let reading = unsealed.read();
            content.settle(&namespace, &reading);
            walk.pass(&reading);
        }
    };
    let mut pages = Content::new();
    let mut whole = filled(&namespace, BLOCK);
    for page in (0..16).rev() {
        write(&mut pages, &namespace, page * 4096, 4096);
    }
    merge_all(&mut pages, &namespace);
    seal(&mut whole);
    seal(&mut pages);
    assert_eq!(held(&namespace), BLOCK);
    // Two single pages that equal pages elsewhere.
    let mut twins = [Content::new(), Content::new()];
    for twin in &mut twins {
        for page in [1, 0] {
            write(twin, &namespace, page * 4096, 4096);
        }
        seal(twin);
    }
    assert_eq!(held(&namespace), BLOCK + 8192);
    for twin in &mut twins {
        assert_eq!(merge_all(twin, &namespace), Merged::default());
    }
}

#[test]
fn garbage_goes() {
    let namespace = namespace(16 << 20);
    let mut content = filled(&namespace, BLOCK);
    let pin = content.clip(range(0, BLOCK));
    content.set_len(5000);
    drop(pin);
    assert_eq!((held(&namespace), content.held_bytes()), (BLOCK, 8192));
    let merged = merge_all(&mut content, &namespace);
    assert_eq!((merged.extents, merged.freed_bytes), (0, BLOCK - 8192));
    assert_eq!(held(&namespace), 8192);
    assert_pattern(&content, 0, 5000);
}

#[test]
fn without_memory_all_stays_as_it_is() {
    let namespace = namespace(16 << 20);
    let mut content = shattered(&namespace, BLOCK);
    leave(&namespace, BLOCK - 1);
    assert_eq!(merge_all(&mut content, &namespace), Merged::default());
    assert_eq!(content.extent_count(), 16);
    namespace.set_quota(None);
    merge_all(&mut content, &namespace);
    assert_eq!(content.extent_count(), 1);
    assert_pattern(&content, 0, BLOCK);
}

#[test]
fn memory_that_was_asked_for_ahead_stays() {
    let namespace = namespace(16 << 20);
    let mut content = Content::new();
    content.allocate(&namespace, range(4096, 3 * 4096)).unwrap();
    content.write(&namespace, 0, &pattern(0, 4096)).unwrap();
    content.allocate(&namespace, range(0, BLOCK)).unwrap();
    content.check().unwrap();
    assert!(content.extent_count() > 1);
    merge_all(&mut content, &namespace);
    assert_eq!((content.extent_count(), content.held_bytes()), (1, BLOCK));
    assert_eq!(content.len(), 4096);
    content.set_len(BLOCK);
    assert_pattern(&content, 0, 4096);
    assert_zeros(&content, 4096, BLOCK - 4096);
    assert!(content.next_compressible(range(0, BLOCK)).is_none());
}

#[test]
fn compressed_blocks_are_merged_where_that_takes_less() {
    let namespace = namespace(16 << 20);
    let mut content = Content::new();
    for page in (0..16).rev() {
        content
            .write(&namespace, page * 4096, &[1 + page as u8; 4096])
            .unwrap();
    }
    let mut press = Press::new(Codec::Lz4);
    let mut rest = range(0, BLOCK);
    while let Some(block) = content.next_compressible(rest) {
        rest.start = block.end();
        let packed = block.pack(&mut press).unwrap();
        content.compress(packed, &press).unwrap();
    }
    let before = memory(&namespace);
    assert!(held(&namespace) < 16 * 4096);
    assert_eq!(merge_all(&mut content, &namespace), Merged::default());
    assert_eq!(memory(&namespace), before);
}
