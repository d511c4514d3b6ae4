//! Defragmentation: fewer extents, more free memory, and nobody's bytes change.

use super::*;
use crate::extent::Merged;
use crate::fs::{Sealer, Subject};
use crate::limits::DEFRAG_STEP_BYTES;

const LEN: usize = 1 << 20;
const PAGES: usize = LEN / 4096;

/// Bytes that are in no other page.
fn bytes(seed: u32) -> Vec<u8> {
    let page = |page: usize| {
        [seed.to_le_bytes(), (page as u32).to_le_bytes()]
            .concat()
            .repeat(512)
    };
    (0..PAGES).flat_map(page).collect()
}

fn extents(fixture: &Fixture, ino: Ino) -> u64 {
    let inode = fixture.volume.table.get(ino).unwrap();
    inode.content().unwrap().extent_count()
}

fn held(fixture: &Fixture) -> u64 {
    fixture.volume.stat().usage.held_bytes
}

/// All steps for the whole volume.
fn defragment(fixture: &Fixture) -> Merged {
    let found = fixture.volume.scattered(&[Subject::Tree(Ino::ROOT)]).unwrap();
    let files: Vec<Ino> = found.scattered.iter().map(|(ino, _)| *ino).collect();
    let mut merged = Merged::default();
    let (mut rest, mut offset) = (files.as_slice(), 0);
    while !rest.is_empty() {
        let step = fixture.volume.defragment(rest, offset);
        merged.add(step.merged);
        (rest, offset) = (&rest[step.done..], step.offset);
    }
    fixture.volume.gather();
    fixture.volume.check().unwrap();
    merged
}

/// Pages written in no order, over all of the file.
fn overwrite(fixture: &Fixture, ino: Ino, expected: &mut [u8]) {
    for step in 0..PAGES / 2 {
        let at = step * 2 * 37 % PAGES * 4096;
        let page = [0xc0 | step as u8; 4096];
        fixture.write(ino, at as u64, &page);
        expected[at..at + 4096].copy_from_slice(&page);
    }
}

/// A clone that was written to all over, and its base.
fn shattered(fixture: &Fixture) -> (Ino, Ino, Vec<u8>) {
    let (base, clone) = (fixture.file(Ino::ROOT, "base"), fixture.file(Ino::ROOT, "clone"));
    let mut expected = bytes(1);
    fixture.write(base, 0, &expected);
    let copy = CopyRange {
        source: base,
        source_offset: 0,
        target: clone,
        target_offset: 0,
        len: LEN as u64,
    };
    assert_eq!(fixture.volume.copy_range(&copy, false).unwrap(), LEN as u64);
    overwrite(fixture, clone, &mut expected);
    (base, clone, expected)
}

fn remove(fixture: &Fixture, name: &str, ino: Ino) {
    fixture.volume.unlink(Ino::ROOT, name.as_bytes()).unwrap();
    fixture.volume.forget(ino, 1);
}

#[test]
fn a_clone_becomes_whole_when_its_base_is_gone() {
    let fixture = Fixture::new(1 << 24);
    let (base, clone, expected) = shattered(&fixture);
    let before = fixture.volume.getattr(clone).unwrap();
    remove(&fixture, "base", base);
    let (shattered, held_before) = (extents(&fixture, clone), held(&fixture));
    assert!(
        shattered > 200 && held_before > LEN as u64 * 5 / 4,
        "{shattered}, {held_before}"
    );
    let merged = defragment(&fixture);
    assert_eq!(extents(&fixture, clone), 16);
    assert_eq!(merged.extents, shattered - 16);
    assert_eq!(held(&fixture), LEN as u64);
    assert!(fixture.grid.resident_bytes() < LEN as u64 + LEN as u64 / 8);
    assert!(fixture.read(clone) == expected);
    let after = fixture.volume.getattr(clone).unwrap();
    assert_eq!((after.mtime, after.ctime), (before.mtime, before.ctime));
    assert_eq!(defragment(&fixture), Merged::default());
}

#[test]
fn what_clones_and_snapshots_share_stays_and_shows_the_same() {
    let fixture = Fixture::new(1 << 24);
    let (base, clone, expected) = shattered(&fixture);
    let before = held(&fixture);
    defragment(&fixture);
    assert_eq!(held(&fixture), before, "the base has the blocks, too");
    fixture.volume.create_snapshot("before").unwrap();
    let mut changed = expected.clone();
    overwrite(&fixture, clone, &mut changed);
    remove(&fixture, "base", base);
    defragment(&fixture);
    assert!(fixture.read(clone) == changed);
    fixture.volume.rollback("before").unwrap();
    assert!(fixture.read(clone) == expected);
    defragment(&fixture);
    assert!(fixture.read(clone) == expected);
    assert!(fixture.volume.diff("before", None).unwrap().is_empty());
    fixture.volume.delete_snapshot("before").unwrap();
}

#[test]
fn defragmentation_keeps_no_records() {
    let fixture = Fixture::new(1 << 24);
    let file = fixture.file(Ino::ROOT, "a");
    for page in (0..16).rev() {
        fixture.write(file, page * 4096, &[1 + page as u8; 4096]);
    }
    fixture.volume.create_snapshot("one").unwrap();
    assert_eq!(defragment(&fixture).extents, 15);
    assert_eq!(fixture.volume.list_snapshots()[0].changed_inodes, 0);
    assert_eq!(fixture.volume.diff("one", None).unwrap(), []);
}

#[test]
fn a_step_has_a_bound_and_the_next_one_goes_on_behind_it() {
    let fixture = Fixture::new(1 << 26);
    let files = ["a", "b"].map(|name| fixture.file(Ino::ROOT, name));
    let regions = DEFRAG_STEP_BYTES >> 16;
    for (file, regions) in [(files[0], regions + 5), (files[1], 1)] {
        for region in 0..regions {
            for page in [1, 0] {
                fixture.write(file, (region << 16) + page * 4096, &[7; 4096]);
            }
        }
    }
    let first = fixture.volume.defragment(&files, 0);
    assert_eq!(first.done, 0);
    assert_eq!(first.offset >> 16, first.merged.extents);
    assert!(
        (regions - 1..=regions).contains(&first.merged.extents),
        "{first:?}"
    );
    let second = fixture.volume.defragment(&files, first.offset);
    assert_eq!((second.done, second.offset), (2, 0));
    assert_eq!(first.merged.extents + second.merged.extents, regions + 6);
    assert_eq!(fixture.volume.defragment(&files, 0).merged, Merged::default());
}

/// Writes, makes snapshots and goes back to some of them, and looks at the bytes each time; what they are at last.
fn rewrite(fixture: &Fixture, file: Ino, mut expected: Vec<u8>) -> Vec<u8> {
    for round in 0..20 {
        let name = format!("snapshot{round}");
        fixture.volume.create_snapshot(&name).unwrap();
        let before = expected.clone();
        for step in 0..64 {
            let at = (step * 37 + round) % PAGES * 4096;
            let page = [(round + step) as u8 | 1; 4096];
            fixture.write(file, at as u64, &page);
            expected[at..at + 4096].copy_from_slice(&page);
        }
        assert!(fixture.read(file) == expected);
        if round % 2 == 1 {
            fixture.volume.rollback(&name).unwrap();
            expected = before;
            assert!(fixture.read(file) == expected);
        }
        fixture.volume.delete_snapshot(&name).unwrap();
    }
    expected
}

#[test]
fn whoever_writes_meanwhile_reads_what_was_written() {
    let fixture = Fixture::new(1 << 24);
    let (base, clone, expected) = shattered(&fixture);
    remove(&fixture, "base", base);
    let expected = std::thread::scope(|scope| {
        let writer = scope.spawn(|| rewrite(&fixture, clone, expected));
        while !writer.is_finished() {
            assert_eq!(fixture.volume.defragment(&[clone], 0).done, 1);
        }
        writer.join().unwrap()
    });
    defragment(&fixture);
    assert!(fixture.read(clone) == expected);
    assert_eq!((extents(&fixture, clone), held(&fixture)), (16, LEN as u64));
}

#[test]
fn what_cannot_be_defragmented_is_refused_or_left_alone() {
    let fixture = Fixture::new(1 << 24);
    let file = fixture.file(Ino::ROOT, "a");
    let dir = fixture.dir(Ino::ROOT, "d");
    for page in (0..16).rev() {
        fixture.write(file, page * 4096, &[1; 4096]);
    }
    let below = |subject| fixture.volume.scattered(&[subject]);
    assert_eq!(below(Subject::Tree(dir)).unwrap().files, 0);
    let name = |dir, name: &[u8]| Subject::Name {
        dir,
        name: name.into(),
    };
    let found = below(name(Ino::ROOT, b"a")).unwrap();
    assert_eq!((found.files, found.extents), (1, 16));
    assert_eq!(found.scattered, [(file, 16 * 4096)]);
    let error = below(name(Ino::ROOT, b"b")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    fixture.volume.create_snapshot("one").unwrap();
    let control = fixture.volume.lookup(Ino::ROOT, b".okapi").unwrap().ino;
    assert_eq!(
        below(Subject::Tree(control)).unwrap_err().kind(),
        ErrorKind::ReadOnly
    );
    let step = fixture.volume.defragment(&[dir, Ino(999), control], 5);
    assert_eq!((step.done, step.offset, step.merged), (3, 0, Merged::default()));
    fixture.volume.unlink(Ino::ROOT, b"a").unwrap();
    assert_eq!(fixture.volume.defragment(&[file], 0).merged, Merged::default());
}

#[test]
fn the_sealer_merges_what_was_left_alone_before_it_seals() {
    let fixture = Fixture::with(1 << 24, Dedup::Idle);
    let (whole, pages) = (fixture.file(Ino::ROOT, "whole"), fixture.file(Ino::ROOT, "pages"));
    let content = &bytes(1)[..1 << 16];
    fixture.write(whole, 0, content);
    for page in (0..16).rev() {
        fixture.write(pages, page as u64 * 4096, &content[page * 4096..][..4096]);
    }
    let sealer = Sealer::start(&fixture.volume).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while fixture.volume.stat().unsealed_inodes > 0 {
        assert!(std::time::Instant::now() < deadline, "nobody seals");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    drop(sealer);
    assert_eq!((extents(&fixture, pages), held(&fixture)), (1, 1 << 16));
    assert!(fixture.read(pages) == content);
}
