//! Deduplication through the `Vfs` trait.

use super::*;
use crate::fs::{Dedup, Sealer};

/// Bytes that are in no other block, and no zeros.
fn bytes(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 4096) as u8 ^ seed | 1).collect()
}

fn held(fixture: &Fixture) -> u64 {
    fixture.volume.stat().usage.held_bytes
}

fn with(dedup: Dedup) -> Fixture {
    Fixture::with(1 << 24, dedup)
}

#[test]
fn equal_files_take_the_memory_of_one_until_one_is_written_to() {
    let fixture = with(Dedup::Off);
    let content = bytes(1, 200_000);
    let files = ["a", "b", "c"].map(|name| fixture.file(Ino::ROOT, name));
    for file in files {
        fixture.write(file, 0, &content);
    }
    let alone = fixture.volume.getattr(files[0]).unwrap().blocks * 512;
    assert_eq!(held(&fixture), 3 * alone);
    let report = fixture.volume.seal_all();
    assert_eq!((report.sealed_blocks, report.shared_blocks), (4, 8));
    assert_eq!((report.shared_bytes, report.zero_bytes), (2 * alone, 0));
    assert_eq!(held(&fixture), alone);
    fixture.volume.check().unwrap();
    fixture.write(files[1], 70_000, b"other");
    assert_eq!(held(&fixture), alone + 4096);
    assert!(fixture.read(files[0]) == content && fixture.read(files[2]) == content);
    fixture.volume.unlink(Ino::ROOT, b"a").unwrap();
    fixture.volume.forget(files[0], 1);
    assert!(fixture.read(files[2]) == content);
    assert_eq!(fixture.volume.seal_all().read_bytes, 4096, "all else is sealed");
}

#[test]
fn what_sharing_costs_is_charged_and_given_back() {
    let fixture = with(Dedup::Off);
    let empty = fixture.volume.stat();
    for name in ["a", "b"] {
        let ino = fixture.file(Ino::ROOT, name);
        fixture.write(ino, 0, &bytes(1, 300_000));
        fixture.volume.forget(ino, 1);
    }
    fixture.volume.seal_all();
    fixture.volume.check().unwrap();
    for name in ["a", "b"] {
        fixture.volume.unlink(Ino::ROOT, name.as_bytes()).unwrap();
    }
    assert_eq!(fixture.volume.stat(), empty);
}

#[test]
fn zeros_become_holes_unless_their_memory_was_asked_for() {
    let fixture = with(Dedup::Off);
    let files = ["zeros", "preallocated"].map(|name| fixture.file(Ino::ROOT, name));
    fixture.write(files[0], 0, &[0; 100_000]);
    let range = ByteRange::at(0, 100_000).unwrap();
    let allocate = Fallocate::Allocate { keep_size: false };
    fixture.volume.fallocate(files[1], range, allocate).unwrap();
    let before = files.map(|file| fixture.volume.getattr(file).unwrap());
    let report = fixture.volume.seal_all();
    let after = files.map(|file| fixture.volume.getattr(file).unwrap());
    assert_eq!(report.zero_bytes, before[0].blocks * 512);
    assert_eq!((after[0].blocks, after[0].size), (0, 100_000));
    assert_eq!(after[0].mtime, before[0].mtime);
    assert_eq!(after[1], before[1]);
    assert_eq!(fixture.read(files[0]), [0; 100_000]);
}

#[test]
fn sealing_keeps_no_records_and_changes_no_snapshot() {
    let fixture = with(Dedup::Off);
    let (old, new) = (bytes(1, 200_000), bytes(2, 200_000));
    let files = ["a", "b"].map(|name| fixture.file(Ino::ROOT, name));
    for file in files {
        fixture.write(file, 0, &old);
    }
    fixture.volume.create_snapshot("before").unwrap();
    let alone = held(&fixture) / 2;
    fixture.volume.seal_all();
    assert_eq!(held(&fixture), alone);
    assert_eq!(fixture.volume.list_snapshots()[0].changed_inodes, 0);
    assert_eq!(fixture.volume.diff("before", None).unwrap(), []);
    for file in files {
        fixture.write(file, 0, &new);
    }
    fixture.volume.seal_all();
    assert_eq!(held(&fixture), 2 * alone, "the old bytes once, the new ones once");
    fixture.volume.rollback("before").unwrap();
    assert!(fixture.read(files[0]) == old && fixture.read(files[1]) == old);
    fixture.volume.seal_all();
    fixture.volume.check().unwrap();
    fixture.volume.delete_snapshot("before").unwrap();
    assert_eq!(held(&fixture), alone);
}

#[test]
fn a_file_without_a_name_is_left_alone() {
    let fixture = with(Dedup::Off);
    let ino = fixture.file(Ino::ROOT, "a");
    fixture.write(ino, 0, &bytes(1, 200_000));
    fixture.volume.unlink(Ino::ROOT, b"a").unwrap();
    assert_eq!(fixture.volume.seal_all().sealed_blocks, 0);
    assert!(fixture.read(ino) == bytes(1, 200_000));
}

#[test]
fn whole_blocks_are_shared_as_they_are_written() {
    let fixture = with(Dedup::Inline);
    let content = bytes(1, 200_000);
    for name in ["a", "b"] {
        let file = fixture.file(Ino::ROOT, name);
        fixture.write(file, 0, &content[..100_000]);
        fixture.write(file, 100_000, &content[100_000..]);
        assert!(fixture.read(file) == content);
    }
    let usage = fixture.volume.stat().usage;
    assert_eq!(usage.sealed_blocks, 2, "the first and the third");
    assert_eq!(fixture.volume.stat().unsealed_inodes, 2, "what is left of both");
    let report = fixture.volume.seal_all();
    assert_eq!((report.sealed_blocks, report.shared_blocks), (2, 2));
    assert_eq!(fixture.volume.stat().unsealed_inodes, 0);
}

#[test]
fn the_sealer_comes_when_files_are_left_alone_and_ends_with_its_owner() {
    let fixture = with(Dedup::Idle);
    let sealer = Sealer::start(&fixture.volume).unwrap();
    let content = bytes(1, 200_000);
    for name in ["a", "b"] {
        let file = fixture.file(Ino::ROOT, name);
        fixture.write(file, 0, &content);
    }
    assert_eq!(fixture.volume.stat().unsealed_inodes, 2);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while fixture.volume.stat().unsealed_inodes > 0 {
        assert!(std::time::Instant::now() < deadline, "nobody seals");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let stat = fixture.volume.stat();
    assert_eq!(stat.logical_bytes, 2 * stat.usage.held_bytes);
    drop(sealer);
    assert_eq!(Arc::strong_count(&fixture.volume), 1);
}
