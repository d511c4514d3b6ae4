//! Equal pages held once: every byte stays as it was, and memory goes.

use super::super::Shared;
use super::*;

/// Shares all that is equal, in as many steps as it takes; returns the bytes.
fn share(namespace: &Arc<Namespace>, target: &mut Content, other: &Content) -> u64 {
    let before = read(target, 0, target.len());
    let (mut at, mut bytes) = (0, 0);
    while at < target.len() {
        let Shared { end, bytes: some } = target.share_pages(namespace, other, at).unwrap();
        assert!(end > at);
        at = end;
        bytes += some;
    }
    target.check().unwrap();
    other.check().unwrap();
    assert!(read(target, 0, target.len()) == before, "bytes have changed");
    bytes
}

#[test]
fn an_equal_content_gives_its_memory_back() {
    let namespace = namespace(16 << 20);
    for len in [1, 4096, 5000, 300 * KIB, 300 * KIB + 512] {
        let base = filled(&namespace, len);
        let alone = held(&namespace);
        let mut target = filled(&namespace, len);
        assert_eq!(share(&namespace, &mut target, &base), len);
        assert_eq!(held(&namespace), alone);
        assert_eq!(share(&namespace, &mut target, &base), 0, "there is nothing left");
    }
}

#[test]
fn pages_that_differ_stay_apart() {
    let namespace = namespace(16 << 20);
    let base = filled(&namespace, 300 * KIB);
    let mut target = filled(&namespace, 300 * KIB);
    for page in [0, 5, 6, 15, 16, 74] {
        target.write(&namespace, page * 4096 + 9, b"\0").unwrap();
    }
    let before = held(&namespace);
    assert_eq!(share(&namespace, &mut target, &base), 300 * KIB - 6 * 4096);
    assert!(
        held(&namespace) < before - 200 * KIB,
        "{} of {before}",
        held(&namespace)
    );
    assert_eq!(target.differences(&base).len(), 4);
}

#[test]
fn the_last_page_is_shared_only_where_the_other_has_all_of_it() {
    let namespace = namespace(16 << 20);
    for (own, other, shared) in [
        (5000, 9000, 5000),
        (9000, 5000, 4096),
        (9000, 9000, 9000),
        (8192, 5000, 4096),
    ] {
        let base = filled(&namespace, other);
        let mut target = filled(&namespace, own);
        assert_eq!(
            share(&namespace, &mut target, &base),
            shared,
            "{own} bytes of {other}"
        );
        assert_eq!(target.len(), own);
    }
}

#[test]
fn zeros_become_the_hole_that_the_other_has_unless_memory_was_promised() {
    let namespace = namespace(16 << 20);
    let mut hole = Content::new();
    hole.set_len(1 << 40);
    let mut zeros = Content::new();
    zeros.write(&namespace, 64 * KIB, &[0; 100_000]).unwrap();
    share(&namespace, &mut zeros, &hole);
    assert_eq!(held(&namespace), 0);
    let mut promised = Content::new();
    promised.allocate(&namespace, range(0, 100_000)).unwrap();
    promised.set_len(100_000);
    let before = held(&namespace);
    assert_eq!(share(&namespace, &mut promised, &hole), 0);
    assert_eq!(held(&namespace), before);
    // A hole takes no memory; it is not given any because the other has.
    let mut zeros = Content::new();
    zeros.write(&namespace, 0, &[0; 100_000]).unwrap();
    hole.set_len(100_000);
    assert_eq!(share(&namespace, &mut hole, &zeros), 0);
    assert_eq!(hole.extent_count(), 0);
}

#[test]
fn a_content_that_has_become_a_clone_keeps_its_promise() {
    let namespace = namespace(16 << 20);
    let base = filled(&namespace, 64 * KIB);
    let mut target = Content::new();
    target.allocate(&namespace, range(0, 64 * KIB)).unwrap();
    write(&mut target, &namespace, 0, 64 * KIB);
    assert_eq!(share(&namespace, &mut target, &base), 64 * KIB);
    assert!(target.preallocated && !base.preallocated);
}

#[test]
fn without_memory_for_the_map_bytes_stay() {
    let namespace = namespace(16 << 20);
    let base = filled(&namespace, 300 * KIB);
    let mut target = filled(&namespace, 300 * KIB);
    for page in 0..37 {
        target.write(&namespace, page * 8192, b"\0").unwrap();
    }
    let before = read(&target, 0, 300 * KIB);
    leave(&namespace, 0);
    let mut at = 0;
    while let Ok(step) = target.share_pages(&namespace, &base, at)
        && step.end < 300 * KIB
    {
        at = step.end;
    }
    target.check().unwrap();
    assert!(read(&target, 0, 300 * KIB) == before);
}

/// A base in so many extents that pasting a region takes several steps.
fn scattered(namespace: &Arc<Namespace>, len: u64) -> Content {
    let mut content = Content::new();
    for page in (0..len / 4096).step_by(2).chain((1..len / 4096).step_by(2)) {
        write(&mut content, namespace, page * 4096, 4096);
    }
    content
}

#[test]
fn where_memory_ends_within_a_run_nothing_counts_that_was_not_shared() {
    let (mut short, mut whole) = (0, 0);
    for room in (0..12 << 10).step_by(512) {
        let namespace = namespace_of_blocks(16 << 20, 1 << 20);
        let base = scattered(&namespace, 1024 * KIB);
        let mut target = filled(&namespace, 1024 * KIB);
        // Else it would become a clone of the base at once.
        target.write(&namespace, 255 * 4096, b"\0").unwrap();
        // What is exchanged is in use elsewhere, so it makes no room.
        let other = target.clone();
        leave(&namespace, room);
        let result = target.share_pages(&namespace, &base, 0);
        target.check().unwrap();
        let shares = |page: u64| {
            let [own, bases] = [&target, &base].map(|content| content.map.covering(page * 4096).unwrap());
            own.block.index() == bases.block.index()
        };
        let shared = (0..256).filter(|page| shares(*page)).count() as u64 * 4096;
        match result {
            Ok(done) => {
                assert_eq!(done.bytes, shared, "{room} bytes of room");
                whole += 1;
            }
            Err(_) => short += u32::from(shared > 0),
        }
        assert!(read(&target, 0, 1024 * KIB) == read(&other, 0, 1024 * KIB));
    }
    assert!(short > 0 && whole > 0, "{short} ended half-way, {whole} did not");
}
