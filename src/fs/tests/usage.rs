//! What files take, for themselves and together, against what deleting them frees.

use super::*;
use crate::fs::{FileUsage, Subject};

/// Bytes of a block.
const BLOCK: u64 = 64 << 10;

impl Fixture {
    /// A file of so many full blocks, each with other bytes, that nobody has open.
    fn blocks(&self, dir: Ino, name: &str, fills: &[u8]) -> Ino {
        let ino = self.file(dir, name);
        for (at, fill) in (0..).zip(fills) {
            self.write(ino, at * BLOCK, &[*fill; BLOCK as usize]);
        }
        self.volume.forget(ino, 1);
        ino
    }

    /// Shares blocks of one file with another, which is made if it is not there.
    fn share(&self, source: Ino, name: &str, blocks: std::ops::Range<u64>) -> Ino {
        let target = match self.volume.lookup(Ino::ROOT, name.as_bytes()) {
            Ok(attr) => attr.ino,
            Err(_) => self.file(Ino::ROOT, name),
        };
        let copy = CopyRange {
            source,
            source_offset: blocks.start * BLOCK,
            target,
            target_offset: blocks.start * BLOCK,
            len: (blocks.end - blocks.start) * BLOCK,
        };
        assert_eq!(self.volume.copy_range(&copy, false).unwrap(), copy.len);
        self.volume.forget(target, 1);
        target
    }

    fn usage(&self, subject: Subject) -> FileUsage {
        let report = self.volume.usage(&[subject]).unwrap();
        assert_eq!(report.each, [report.total], "one subject is all there is");
        report.total
    }

    fn usage_of(&self, name: &str) -> FileUsage {
        self.usage(named(name))
    }

    /// Removes a name; what was private to it must be free then.
    fn remove(&self, name: &str) {
        let private = self.usage_of(name).private_bytes;
        let held = || self.volume.stat().usage.held_bytes;
        let before = held();
        self.volume.unlink(Ino::ROOT, name.as_bytes()).unwrap();
        assert_eq!(before - held(), private, "{name}");
    }
}

fn named(name: &str) -> Subject {
    Subject::Name {
        dir: Ino::ROOT,
        name: name.as_bytes().into(),
    }
}

/// Private and shared blocks, and the number of files that share them.
fn figures(usage: FileUsage) -> (u64, u64, u64) {
    assert_eq!(usage.referenced_bytes, usage.private_bytes + usage.shared_bytes());
    let blocks = |bytes: u64| {
        assert_eq!(bytes % BLOCK, 0, "whole blocks");
        bytes / BLOCK
    };
    (
        blocks(usage.private_bytes),
        blocks(usage.shared_bytes()),
        usage.sharing_files,
    )
}

#[test]
fn a_file_alone_has_all_for_itself() {
    let fixture = Fixture::new(1 << 24);
    fixture.blocks(Ino::ROOT, "a", &[1, 2, 3]);
    let usage = fixture.usage_of("a");
    assert_eq!((usage.files, usage.logical_bytes), (1, 3 * BLOCK));
    assert_eq!(figures(usage), (3, 0, 0));
    fixture.remove("a");
}

#[test]
fn holes_are_long_and_take_nothing() {
    let fixture = Fixture::new(1 << 24);
    let ino = fixture.file(Ino::ROOT, "a");
    fixture.write(ino, 1 << 40, b"x");
    let usage = fixture.usage_of("a");
    assert_eq!(usage.logical_bytes, (1 << 40) + 1);
    assert_eq!(usage.referenced_bytes, fixture.volume.stat().usage.held_bytes);
    assert!(usage.private_bytes < 4096);
}

#[test]
fn a_base_and_its_clones_share_until_each_is_alone() {
    let fixture = Fixture::new(1 << 24);
    let base = fixture.blocks(Ino::ROOT, "base", &[1, 2, 3, 4]);
    for clone in ["one", "two"] {
        fixture.share(base, clone, 0..4);
    }
    assert_eq!(figures(fixture.usage_of("base")), (0, 4, 2));
    let one = fixture.volume.lookup(Ino::ROOT, b"one").unwrap().ino;
    fixture.volume.forget(one, 1);
    fixture.write(one, BLOCK, &[9; BLOCK as usize]);
    assert_eq!(figures(fixture.usage_of("one")), (1, 3, 2));
    assert_eq!(figures(fixture.usage_of("two")), (0, 4, 2));
    fixture.remove("base");
    assert_eq!(
        figures(fixture.usage_of("two")),
        (1, 3, 1),
        "a base can go before its clones"
    );
    fixture.remove("two");
    assert_eq!(figures(fixture.usage_of("one")), (4, 0, 0));
    fixture.remove("one");
    assert_eq!(
        fixture.volume.stat().usage.held_bytes,
        0,
        "the last holder frees the blocks"
    );
}

#[test]
fn what_several_share_with_each_other_only_is_theirs_together() {
    let fixture = Fixture::new(1 << 24);
    let base = fixture.blocks(Ino::ROOT, "base", &[1, 2]);
    fixture.share(base, "one", 0..2);
    fixture.share(base, "two", 0..1);
    let report = fixture.volume.usage(&[named("base"), named("one")]).unwrap();
    assert_eq!(figures(report.each[0]), (0, 2, 2));
    assert_eq!(figures(report.total), (1, 1, 1));
    assert_eq!((report.total.files, report.total.logical_bytes), (2, 4 * BLOCK));
    let all = fixture.usage(Subject::Tree(Ino::ROOT));
    assert_eq!(figures(all), (2, 0, 0));
    assert_eq!((all.files, all.logical_bytes), (3, 5 * BLOCK));
}

#[test]
fn what_is_asked_for_twice_counts_once() {
    let fixture = Fixture::new(1 << 24);
    let dir = fixture.dir(Ino::ROOT, "dir");
    let below = fixture.dir(dir, "below");
    fixture.blocks(below, "a", &[1]);
    fixture.blocks(Ino::ROOT, "b", &[2]);
    let subjects = [
        named("dir"),
        Subject::Tree(below),
        Subject::Name {
            dir: below,
            name: b"a"[..].into(),
        },
        named("b"),
        named("b"),
        Subject::Tree(dir),
    ];
    let report = fixture.volume.usage(&subjects).unwrap();
    for usage in &report.each {
        assert_eq!((figures(*usage), usage.files), ((1, 0, 0), 1));
    }
    assert_eq!((figures(report.total), report.total.files), ((2, 0, 0), 2));
}

#[test]
fn a_file_with_another_name_elsewhere_is_not_freed() {
    let fixture = Fixture::new(1 << 24);
    let dir = fixture.dir(Ino::ROOT, "dir");
    let ino = fixture.blocks(Ino::ROOT, "a", &[1]);
    fixture.volume.link(ino, dir, b"b").unwrap();
    fixture.volume.forget(ino, 1);
    assert_eq!(figures(fixture.usage_of("a")), (0, 1, 1));
    assert_eq!(figures(fixture.usage_of("dir")), (0, 1, 1));
    let both = fixture.volume.usage(&[named("a"), named("dir")]).unwrap().total;
    assert_eq!((figures(both), both.files), ((1, 0, 0), 1));
    fixture.remove("a");
    assert_eq!(figures(fixture.usage_of("dir")), (1, 0, 0));
}

#[test]
fn a_block_in_two_places_of_a_file_counts_once() {
    let fixture = Fixture::new(1 << 24);
    let ino = fixture.blocks(Ino::ROOT, "a", &[1]);
    let copy = CopyRange {
        source: ino,
        source_offset: 0,
        target: ino,
        target_offset: 4 * BLOCK,
        len: BLOCK,
    };
    fixture.volume.copy_range(&copy, false).unwrap();
    let usage = fixture.usage_of("a");
    assert_eq!((figures(usage), usage.logical_bytes), ((1, 0, 0), 5 * BLOCK));
    fixture.remove("a");
}

#[test]
fn a_file_that_is_open_without_a_name_counts_as_one_elsewhere() {
    let fixture = Fixture::new(1 << 24);
    let base = fixture.blocks(Ino::ROOT, "base", &[1]);
    let open = fixture.share(base, "open", 0..1);
    fixture.volume.lookup(Ino::ROOT, b"open").unwrap();
    fixture.volume.unlink(Ino::ROOT, b"open").unwrap();
    fixture.volume.check().unwrap();
    assert_eq!(figures(fixture.usage_of("base")), (0, 1, 1));
    fixture.volume.forget(open, 1);
    assert_eq!(figures(fixture.usage_of("base")), (1, 0, 0));
}

#[test]
fn what_a_snapshot_shows_is_not_freed() {
    let fixture = Fixture::new(1 << 24);
    let ino = fixture.blocks(Ino::ROOT, "a", &[1, 2]);
    fixture.volume.create_snapshot("s").unwrap();
    let root = fixture.find_in("s", "").unwrap().ino;
    assert_eq!(figures(fixture.usage_of("a")), (0, 2, 1));
    assert_eq!(figures(fixture.usage(Subject::Tree(root))), (0, 2, 1));
    fixture.write(ino, 0, &[3; BLOCK as usize]);
    assert_eq!(figures(fixture.usage_of("a")), (1, 1, 1));
    let kept = fixture.usage(Subject::Tree(root));
    assert_eq!(figures(kept), (1, 1, 1));
    let listed = fixture.volume.list_snapshots();
    assert_eq!(kept.private_bytes, listed[0].private_bytes);
    fixture.remove("a");
    assert_eq!(figures(fixture.usage(Subject::Tree(root))), (2, 0, 0));
    assert_eq!(fixture.usage(Subject::Tree(Ino::ROOT)), FileUsage::default());
}

#[test]
fn a_state_of_two_snapshots_is_private_to_both_together() {
    let fixture = Fixture::new(1 << 24);
    fixture.blocks(Ino::ROOT, "a", &[1]);
    for name in ["s", "t"] {
        fixture.volume.create_snapshot(name).unwrap();
    }
    fixture.remove("a");
    let root = |name| fixture.find_in(name, "").unwrap().ino;
    let trees = [root("s"), root("t")].map(Subject::Tree);
    let report = fixture.volume.usage(&trees).unwrap();
    assert_eq!(figures(report.each[0]), (0, 1, 1));
    assert_eq!((figures(report.total), report.total.files), ((1, 0, 0), 1));
    let list = fixture.find(".okapi/snapshots").unwrap().ino;
    assert_eq!(fixture.usage(Subject::Tree(list)), report.total);
    let kept = Subject::Name {
        dir: root("t"),
        name: b"a"[..].into(),
    };
    assert_eq!(figures(fixture.usage(kept)), (0, 1, 1));
    fixture.volume.delete_snapshot("s").unwrap();
    assert_eq!(figures(fixture.usage(Subject::Tree(root("t")))), (1, 0, 0));
}

#[test]
fn what_is_not_there_is_refused() {
    let fixture = Fixture::new(1 << 24);
    let file = fixture.blocks(Ino::ROOT, "a", &[1]);
    let kind = |subject| fixture.volume.usage(&[subject]).unwrap_err().kind();
    assert_eq!(kind(named("b")), ErrorKind::NotFound);
    assert_eq!(kind(Subject::Tree(file)), ErrorKind::NotDirectory);
    assert_eq!(kind(Subject::Tree(Ino(1 << 43))), ErrorKind::Stale);
    assert_eq!(kind(Subject::Tree(Ino(1 << 44 | 1))), ErrorKind::Stale);
    assert_eq!(fixture.volume.usage(&[]).unwrap().each, []);
}

#[test]
fn the_check_finds_blocks_that_no_file_has() {
    let fixture = Fixture::new(1 << 24);
    let lost = fixture.volume.namespace.new_block(0, b"lost").unwrap();
    let error = fixture.volume.check().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    drop(lost);
    fixture.volume.check().unwrap();
}
