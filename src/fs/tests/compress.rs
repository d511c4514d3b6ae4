//! Volumes that hold files compressed.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::*;
use crate::fs::Compress;
use crate::grid::{Codec, Press};

impl Fixture {
    fn compressing(size_bytes: u64) -> Self {
        let grid = Grid::new(GridConfig::with_size(size_bytes)).unwrap();
        let namespace = grid.create_namespace("drive", None).unwrap();
        let config = VolumeConfig {
            compress: Compress::Lz4,
            ..VolumeConfig::default()
        };
        let volume = Volume::new(&grid, namespace, Arc::new(ManualClock::new()), config).unwrap();
        Self { volume, grid }
    }

    fn compressed_blocks(&self) -> u64 {
        self.volume.stat().usage.compressed_blocks
    }

    fn check(&self) {
        self.volume.check().unwrap();
        self.grid.check().unwrap();
    }
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 100) as u8 | 1).collect()
}

#[test]
fn what_is_compressed_reads_and_counts_as_before() {
    let fixture = Fixture::compressing(8 << 20);
    let ino = fixture.file(Ino::ROOT, "file");
    fixture.write(ino, 0, &text(300_000));
    let (before, blocks) = (fixture.volume.stat(), fixture.volume.getattr(ino).unwrap().blocks);
    let report = fixture.volume.seal_all();
    let after = fixture.volume.stat();
    assert_eq!(after.usage.compressed_blocks, 5);
    assert_eq!(
        before.usage.held_bytes - after.usage.held_bytes,
        report.compressed_bytes
    );
    assert_eq!(after.logical_bytes, before.logical_bytes);
    assert_eq!(fixture.volume.getattr(ino).unwrap().blocks, blocks);
    assert!(fixture.read(ino) == text(300_000));
    assert_eq!(fixture.volume.seal_all().compressed_bytes, 0);
    fixture.check();
}

#[test]
fn a_snapshot_shows_what_was_compressed_and_then_written_to() {
    let fixture = Fixture::compressing(8 << 20);
    let ino = fixture.file(Ino::ROOT, "file");
    fixture.write(ino, 0, &text(100_000));
    fixture.volume.create_snapshot("before").unwrap();
    fixture.volume.seal_all();
    assert_eq!(fixture.compressed_blocks(), 2);
    fixture.write(ino, 5000, b"new");
    assert_eq!(
        fixture.compressed_blocks(),
        2,
        "the snapshot has them now, but for a page"
    );
    fixture.check();
    fixture.volume.rollback("before").unwrap();
    assert!(fixture.read(ino) == text(100_000));
    fixture.volume.delete_snapshot("before").unwrap();
    fixture.check();
    fixture.write(ino, 5000, b"new");
    assert_eq!(fixture.compressed_blocks(), 1);
    fixture.check();
}

#[test]
fn equal_blocks_are_held_once_and_compressed() {
    let fixture = Fixture::compressing(8 << 20);
    let files = ["a", "b"].map(|name| fixture.file(Ino::ROOT, name));
    for ino in files {
        fixture.write(ino, 0, &text(65536));
    }
    fixture.volume.seal_all();
    assert_eq!(fixture.compressed_blocks(), 1);
    // One more, equal to a block that is compressed by now.
    let third = fixture.file(Ino::ROOT, "c");
    fixture.write(third, 0, &text(65536));
    let report = fixture.volume.seal_all();
    assert_eq!((report.shared_blocks, fixture.compressed_blocks()), (1, 1));
    fixture.write(third, 0, b"new");
    let expected = [b"new", &text(65536)[3..]].concat();
    assert!(fixture.read(third) == expected && fixture.read(files[0]) == text(65536));
    fixture.check();
}

#[test]
fn a_full_drive_takes_more_once_it_is_compressed() {
    let fixture = Fixture::compressing(2 << 20);
    let ino = fixture.file(Ino::ROOT, "file");
    let bytes = text(1 << 20);
    fixture.write(ino, 0, &bytes);
    let full = |fixture: &Fixture| {
        let at = WriteAt::Offset(1 << 20);
        fixture
            .volume
            .write(ino, at, &bytes, false)
            .map(|written| written.len)
    };
    assert!(full(&fixture).unwrap() < bytes.len());
    fixture.volume.seal_all();
    assert_eq!(full(&fixture).unwrap(), bytes.len());
    fixture.check();
}

/// A check, which holds the gate, counts the memory of blocks twice.
#[test]
fn nothing_is_compressed_while_the_gate_is_held() {
    let fixture = &Fixture::compressing(8 << 20);
    let ino = fixture.file(Ino::ROOT, "file");
    fixture.write(ino, 0, &text(2 * 65536));
    let inode = fixture.volume.table.get(ino).unwrap();
    let gate = fixture.volume.snapshots.write();
    thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        scope.spawn(move || {
            let go_on = || tell.send(()).is_ok();
            let mut press = Press::new(Codec::Lz4);
            fixture.volume.compress_file(&inode, Some(&mut press), go_on)
        });
        told.recv().expect("it asks before the first block");
        let second = told.recv_timeout(Duration::from_millis(100));
        assert!(second.is_err(), "it was done with the first block");
        drop(gate);
        assert_eq!(told.iter().count(), 2);
    });
    assert_eq!(fixture.compressed_blocks(), 2);
    fixture.check();
}
