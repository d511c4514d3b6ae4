//! Files compared, and equal pages made to share memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;

const LEN: u64 = 1 << 20;

fn whole() -> ByteRange {
    ByteRange { start: 0, end: LEN }
}

fn bytes(fill: u8) -> Vec<u8> {
    (0..LEN)
        .map(|at| (at / 4096) as u8 ^ (at % 251) as u8 ^ fill)
        .collect()
}

impl Fixture {
    fn filled(&self, name: &str, fill: u8) -> Ino {
        let ino = self.file(Ino::ROOT, name);
        self.write(ino, 0, &bytes(fill));
        ino
    }

    fn differences(&self, files: [Ino; 2]) -> Vec<(u64, u64)> {
        let found = self.volume.differences(files, whole(), 100).unwrap();
        assert_eq!(found.end, LEN);
        found
            .ranges
            .iter()
            .map(|range| (range.start, range.end))
            .collect()
    }

    fn share_pages(&self, source: Ino, target: Ino) -> u64 {
        let shared = self.volume.share_pages(source, target, whole()).unwrap();
        assert_eq!(shared.end, LEN);
        shared.bytes
    }

    fn held(&self) -> u64 {
        self.volume.stat().usage.held_bytes
    }
}

#[test]
fn files_differ_where_their_bytes_do_and_share_the_rest_on_demand() {
    let fixture = Fixture::new(16 << 20);
    let (a, b) = (fixture.filled("a", 1), fixture.filled("b", 1));
    fixture.write(b, 5000, b"other");
    assert_eq!(fixture.differences([a, b]), [(4096, 8192)]);
    assert_eq!(fixture.differences([a, a]), []);
    let before = fixture.held();
    assert_eq!(fixture.share_pages(a, b), LEN - 4096);
    assert!(fixture.held() < before - LEN / 2);
    assert_eq!(fixture.differences([a, b]), [(4096, 8192)]);
    let mut expected = bytes(1);
    assert_eq!(fixture.read(a), expected);
    expected[5000..5005].copy_from_slice(b"other");
    assert_eq!(fixture.read(b), expected);
    assert_eq!(fixture.share_pages(a, a), 0);
}

#[test]
fn snapshots_show_what_they_showed() {
    let fixture = Fixture::new(16 << 20);
    let (a, b) = (fixture.filled("a", 1), fixture.filled("b", 2));
    fixture.volume.create_snapshot("old").unwrap();
    fixture.write(b, 0, &bytes(1));
    fixture.volume.create_snapshot("new").unwrap();
    assert_eq!(fixture.share_pages(a, b), LEN);
    let shown = |snapshot: &str| {
        let mut at = Ino::ROOT;
        for name in [".okapi", "snapshots", snapshot, "b"] {
            at = fixture.volume.lookup(at, name.as_bytes()).unwrap().ino;
        }
        at
    };
    assert_eq!(fixture.read(shown("old")), bytes(2));
    assert_eq!(fixture.read(shown("new")), bytes(1));
    assert_eq!(fixture.differences([shown("new"), a]), []);
    assert_eq!(fixture.differences([shown("old"), b]), [(0, LEN)]);
    // What a snapshot shows can be shared, and not be changed.
    fixture.write(a, 0, &bytes(2));
    assert_eq!(fixture.share_pages(shown("old"), a), LEN);
    let refused = fixture.volume.share_pages(a, shown("old"), whole());
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ReadOnly);
    for snapshot in ["old", "new"] {
        fixture.volume.delete_snapshot(snapshot).unwrap();
    }
    assert_eq!(fixture.read(a), bytes(2));
    assert_eq!(fixture.read(b), bytes(1));
}

#[test]
fn only_regular_files_are_compared() {
    let fixture = Fixture::new(16 << 20);
    let (file, dir) = (fixture.filled("a", 1), fixture.dir(Ino::ROOT, "dir"));
    for (pair, kind) in [
        ([file, dir], ErrorKind::IsDirectory),
        ([dir, file], ErrorKind::IsDirectory),
        ([file, Ino(999)], ErrorKind::Stale),
        ([Ino(999), file], ErrorKind::Stale),
    ] {
        let compared = fixture.volume.differences(pair, whole(), 1);
        assert_eq!(compared.unwrap_err().kind(), kind);
        let shared = fixture.volume.share_pages(pair[0], pair[1], whole());
        assert_eq!(shared.unwrap_err().kind(), kind);
    }
}

#[test]
fn a_file_without_a_name_is_left_as_it_is() {
    let fixture = Fixture::new(16 << 20);
    let (a, b) = (fixture.filled("a", 1), fixture.filled("b", 1));
    fixture.volume.unlink(Ino::ROOT, b"b").unwrap();
    assert_eq!(fixture.share_pages(a, b), 0);
    assert_eq!(fixture.read(b), bytes(1));
    fixture.volume.forget(b, 1);
}

/// Takes all memory that is left.
fn fill(fixture: &Fixture) {
    let rest = fixture.file(Ino::ROOT, "rest");
    let mut at = 0;
    for size in [64 << 10, 4096] {
        let bytes = vec![0xab; size];
        while let Ok(written) = fixture.volume.write(rest, WriteAt::Offset(at), &bytes, false) {
            at += written.len as u64;
        }
    }
}

#[test]
fn on_a_full_volume_an_overwrite_waits_for_a_look_to_end() {
    let fixture = Fixture::new(4 << 20);
    let (a, b) = (fixture.filled("a", 1), fixture.filled("b", 2));
    fixture.differences([a, b]);
    fill(&fixture);
    let volume = &fixture.volume;
    let look = volume.looks.begin();
    let pinned = volume.table.get(a).unwrap().content().unwrap().clone();
    thread::scope(|scope| {
        let writer = scope.spawn(|| fixture.write(a, 0, &[7; 4096]));
        while volume.looks.waiting() == 0 && !writer.is_finished() {
            thread::yield_now();
        }
        drop(pinned);
        drop(look);
    });
    assert_eq!(fixture.read(a)[..4096], [7; 4096]);
}

#[test]
fn a_full_volume_that_is_compared_is_overwritten() {
    let fixture = Fixture::new(4 << 20);
    let (a, b) = (fixture.filled("a", 1), fixture.filled("b", 2));
    fill(&fixture);
    let volume = &fixture.volume;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut round = 0;
            while !done.load(Ordering::Relaxed) {
                for page in 0..LEN / 4096 {
                    fixture.write(a, page * 4096, &[round; 4096]);
                }
                round ^= 1;
            }
        });
        for _ in 0..50 {
            if writer.is_finished() {
                break;
            }
            volume.differences([a, b], whole(), 1000).unwrap();
            // There may be no memory for the map; no byte changes.
            let _ = volume.share_pages(a, b, whole());
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(fixture.read(b), bytes(2));
}

#[test]
fn pieces_of_a_comparison_make_one_answer() {
    let fixture = Fixture::new(32 << 20);
    let (a, b) = (fixture.file(Ino::ROOT, "a"), fixture.file(Ino::ROOT, "b"));
    let len = 5 << 20;
    for (file, fill) in [(a, 1), (b, 2)] {
        for at in (0..len).step_by(1 << 20) {
            fixture.write(file, at, &vec![fill; 1 << 20]);
        }
    }
    let range = ByteRange { start: 0, end: len };
    let found = fixture.volume.differences([a, b], range, 2).unwrap();
    assert_eq!((found.ranges, found.end), (vec![range], len));
}
