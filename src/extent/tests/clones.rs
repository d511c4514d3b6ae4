//! What clones cost, and that they stay one level deep.

use std::collections::HashSet;

use super::*;

const MIB: u64 = 1 << 20;
/// Most bytes that a clone may cost once a page of it was written to.
const WRITTEN_CLONE_MAX: u64 = 4_500;

fn used(namespace: &Namespace) -> u64 {
    let usage = namespace.usage();
    usage.held_bytes + usage.metadata_bytes
}

/// A copy of the whole as `copy_file_range` makes it.
fn copy(namespace: &Arc<Namespace>, source: &Content) -> Content {
    let mut target = Content::new();
    let clip = source.clip(range(0, u64::MAX));
    assert_eq!(target.paste(namespace, 0, &clip).unwrap(), source.len());
    target
}

fn nodes(contents: &[&Content]) -> u64 {
    let mut seen = HashSet::new();
    contents.iter().map(|content| content.node_bytes(&mut seen)).sum()
}

/// Blocks, each once.
fn shown_blocks(contents: &[&Content]) -> u64 {
    let blocks = contents.iter().flat_map(|content| content.blocks());
    let blocks: HashSet<u64> = blocks.map(|block| block.index().get()).collect();
    blocks.len() as u64
}

#[test]
fn a_clone_costs_nothing_and_a_page_of_it_a_page() {
    let namespace = namespace(128 * MIB);
    for len in [3 * BLOCK, 64 * MIB, 64 * MIB - 77] {
        let base = filled(&namespace, len);
        let before = used(&namespace);
        let mut clones: Vec<Content> = (0..20).map(|_| copy(&namespace, &base)).collect();
        assert_eq!(used(&namespace), before);
        for (number, clone) in clones.iter_mut().enumerate() {
            let before = used(&namespace);
            let start = number as u64 * 8 * KIB + 4 * KIB;
            clone.write(&namespace, start, &[0; 4096]).unwrap();
            clone.check().unwrap();
            let cost = used(&namespace) - before;
            assert!(cost <= WRITTEN_CLONE_MAX, "{cost} bytes");
            assert_pattern(clone, 0, start);
            assert_zeros(clone, start, 4096);
            assert_pattern(clone, start + 4096, BLOCK.min(len - start - 4096));
        }
        assert_pattern(&base, 0, 3 * BLOCK);
        let contents: Vec<&Content> = clones.iter().chain([&base]).collect();
        assert_eq!(namespace.node_bytes(), nodes(&contents));
    }
    assert_eq!(used(&namespace), 0);
}

#[test]
fn a_clone_of_clones_has_one_overlay_above_the_tree_of_their_base() {
    let namespace = namespace(128 * MIB);
    let base = filled(&namespace, 16 * MIB);
    let Map::Tree(root) = &base.map else {
        panic!("256 extents need a tree")
    };
    let depth = root.check().unwrap();
    let mut generations = vec![base.clone()];
    for number in 0..200_u64 {
        let mut next = copy(&namespace, &generations[generations.len() - 1]);
        next.write(&namespace, number * 37 % 4096 * 4096, &[0; 4096])
            .unwrap();
        next.check().unwrap();
        let found = match &next.map {
            Map::Tree(root) => root.check(),
            Map::Over(overlay) => overlay.base().check(),
            Map::Empty | Map::One(_) => Err("too few extents"),
        };
        assert_eq!(found, Ok(depth), "it is no deeper");
        generations.push(next);
    }
    let last = generations.pop().unwrap();
    drop((base, generations));
    for number in 0..200 {
        assert_zeros(&last, number * 37 % 4096 * 4096, 4096);
    }
    assert_eq!(namespace.node_bytes(), nodes(&[&last]));
    assert_eq!(namespace.usage().blocks, shown_blocks(&[&last]));
}

#[test]
fn what_no_clone_shows_any_more_is_freed() {
    let namespace = namespace(64 * MIB);
    let base = filled(&namespace, 4 * MIB);
    let mut clones = [copy(&namespace, &base), copy(&namespace, &base)];
    for clone in &mut clones {
        // Page by page, so that the block is hidden little by little.
        for page in 0..16 {
            clone
                .write(&namespace, 5 * BLOCK + page * 4096, &[0; 4096])
                .unwrap();
        }
        clone.punch(&namespace, range(9 * BLOCK, 10 * BLOCK)).unwrap();
        clone.set_len(2 * MIB);
        clone.check().unwrap();
    }
    drop(base);
    let [a, b] = &clones;
    assert_eq!(namespace.usage().blocks, shown_blocks(&[a, b]));
    assert_eq!(namespace.usage().blocks, 30 + 2 * 16);
    assert_eq!(namespace.node_bytes(), nodes(&[a, b]));
}

#[test]
fn the_last_of_a_family_owns_its_tree_again() {
    let namespace = namespace(64 * MIB);
    let base = filled(&namespace, 4 * MIB);
    let mut clone = copy(&namespace, &base);
    write(&mut clone, &namespace, 4096, 4096);
    assert!(matches!(clone.map, Map::Over(_)));
    drop(base);
    let before = namespace.node_bytes();
    let held = held(&namespace);
    write(&mut clone, &namespace, 3 * BLOCK, 4096);
    assert!(matches!(clone.map, Map::Tree(_)));
    assert!(namespace.node_bytes() <= before + 1024, "no node is copied");
    assert_eq!(super::held(&namespace), held, "the block is the clone's own");
}

#[test]
fn cutting_a_clone_needs_no_room() {
    let namespace = namespace(128 * MIB);
    let base = filled(&namespace, 64 * MIB);
    let mut clones: Vec<Content> = (0..8).map(|_| copy(&namespace, &base)).collect();
    write(&mut clones[7], &namespace, 33 * MIB, 4096);
    leave(&namespace, 0);
    for (number, clone) in clones.iter_mut().enumerate() {
        let before = namespace.node_bytes();
        let len = number as u64 * 9 * MIB + 5_000;
        clone.set_len(len);
        clone.check().unwrap();
        let tail = len.min(BLOCK);
        assert_pattern(clone, len - tail, tail);
        let more = namespace.node_bytes().saturating_sub(before);
        assert!(more <= 8 * KIB, "{more} bytes past the bound");
    }
    let divided = clones[3].punch(&namespace, range(4096, 8192));
    assert_eq!(divided.unwrap_err().kind(), ErrorKind::QuotaExceeded);
    assert_pattern(&base, 0, 64 * MIB);
}

#[test]
fn a_copy_in_pieces_is_a_clone_too() {
    let namespace = namespace(64 * MIB);
    let mut source = filled(&namespace, 16 * MIB + 5);
    source.punch(&namespace, range(3 * MIB, 5 * MIB)).unwrap();
    let nodes_before = namespace.node_bytes();
    for piece in [2 * MIB, 4 * MIB - 4096, 5 * MIB + 77] {
        let mut target = filled(&namespace, 10_000);
        let mut at = 0;
        while at < source.len() {
            let clip = source.clip(range(at, at + piece));
            at += target.paste(&namespace, at, &clip).unwrap();
            target.check().unwrap();
            assert!(read(&target, 0, at) == read(&source, 0, at));
            assert_eq!(target.len(), at);
        }
        assert_eq!(target.extent_count(), source.extent_count());
        assert_eq!(namespace.node_bytes(), nodes_before, "all nodes are shared");
    }
}

#[test]
fn clones_are_compared_without_a_look_at_what_they_share() {
    let namespace = namespace(64 * MIB);
    let base = filled(&namespace, 16 * MIB);
    let clone = copy(&namespace, &base);
    assert_eq!(base.map.shared_until(&clone.map, 0), Some(u64::MAX));
    let (mut a, mut b) = (copy(&namespace, &base), copy(&namespace, &clone));
    a.write(&namespace, 4 * MIB + 10, b"mine").unwrap();
    b.write(&namespace, 9 * MIB + 10, b"yours").unwrap();
    assert_eq!(a.map.shared_until(&b.map, 0), Some(4 * MIB));
    assert_eq!(a.map.shared_until(&b.map, 4 * MIB), None);
    assert_eq!(a.map.shared_until(&b.map, 4 * MIB + BLOCK), Some(9 * MIB));
    assert_eq!(a.map.shared_until(&b.map, 9 * MIB + BLOCK), Some(u64::MAX));
    // Enough to have nodes of its own, where it was written to.
    for page in 0..40 {
        a.write(&namespace, page * 8 * KIB, &[0; 4096]).unwrap();
    }
    assert!(matches!(a.map, Map::Tree(_)));
    assert_eq!(a.map.shared_until(&b.map, 0), None);
    assert_eq!(a.map.shared_until(&b.map, 8 * MIB), Some(9 * MIB));
    assert_eq!(a.differences(&b).len(), 42);
}

#[test]
fn check_finds_damage_to_overlays() {
    let namespace = namespace(64 * MIB);
    let base = filled(&namespace, 4 * MIB);
    let damaged = |damage: &dyn Fn(&mut Extent)| {
        let mut clone = copy(&namespace, &base);
        write(&mut clone, &namespace, 4096, 4096);
        damage(clone.map.exclusive_mut(0).unwrap());
        assert_eq!(clone.check().unwrap_err().kind(), ErrorKind::Corrupt);
    };
    damaged(&|front| front.start += 4096);
    damaged(&|front| front.len += 1);
    // The block of the hidden extent is held, and not shown.
    let mut clone = copy(&namespace, &base);
    clone.write(&namespace, 0, &[0; 4096]).unwrap();
    clone.check().unwrap();
    let other = namespace.new_block(64 << 10, &[]).unwrap();
    clone.map.exclusive_mut(4096).unwrap().block = other;
    assert_eq!(clone.check().unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn what_is_behind_a_copy_stays() {
    let namespace = namespace(16 * MIB);
    let source = filled(&namespace, 3 * BLOCK);
    let clip = source.clip(range(0, 3 * BLOCK));
    let mut longer = Content::new();
    write(&mut longer, &namespace, 0, 4 * BLOCK);
    longer.zero(&namespace, range(0, 4 * BLOCK)).unwrap();
    longer.paste(&namespace, 0, &clip).unwrap();
    assert_pattern(&longer, 0, 3 * BLOCK);
    assert_zeros(&longer, 3 * BLOCK, BLOCK);
    let mut ahead = Content::new();
    ahead.allocate(&namespace, range(0, 4 * BLOCK)).unwrap();
    ahead.paste(&namespace, 0, &clip).unwrap();
    assert_eq!((ahead.len(), ahead.held_bytes()), (3 * BLOCK, 4 * BLOCK));
    // And what the source has behind its length is not copied.
    let copied = copy(&namespace, &ahead);
    assert_eq!((copied.len(), copied.held_bytes()), (3 * BLOCK, 3 * BLOCK));
    copied.check().unwrap();
}
