//! Behaviour of snapshots through the `Vfs` trait.

use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::fs::Difference;
use crate::vfs::Outdated;

impl Fixture {
    pub(super) fn find(&self, path: &str) -> Result<Attr, ErrorKind> {
        let mut at = self.volume.getattr(Ino::ROOT).unwrap();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            at = self
                .volume
                .lookup(at.ino, name.as_bytes())
                .map_err(|error| error.kind())?;
            self.volume.forget(at.ino, 1);
        }
        Ok(at)
    }

    pub(super) fn find_in(&self, snapshot: &str, path: &str) -> Result<Attr, ErrorKind> {
        self.find(&format!(".okapi/snapshots/{snapshot}/{path}"))
    }

    pub(super) fn snapshot(&self, name: &str) {
        self.volume.create_snapshot(name).unwrap();
    }

    fn unlink(&self, name: &str) {
        self.volume.unlink(Ino::ROOT, name.as_bytes()).unwrap();
    }

    /// A file that nobody has open.
    fn closed_file(&self, name: &str, bytes: &[u8]) -> Ino {
        let ino = self.file(Ino::ROOT, name);
        self.write(ino, 0, bytes);
        self.volume.forget(ino, 1);
        ino
    }
}

#[test]
fn the_directory_of_snapshots_is_found_and_not_listed() {
    let fixture = Fixture::new(1 << 24);
    fixture.file(Ino::ROOT, "a");
    fixture.snapshot("first");
    fixture.snapshot("second");
    assert_eq!(fixture.names(Ino::ROOT), ["a"]);
    let control = fixture.find(".okapi").unwrap();
    let list = fixture.find(".okapi/snapshots").unwrap();
    assert_eq!(fixture.names(control.ino), ["snapshots"]);
    assert_eq!(fixture.names(list.ino), ["first", "second"]);
    assert_eq!(
        (list.kind, list.mode, list.nlink),
        (FileKind::Directory, 0o555, 4)
    );
    let root = fixture.find_in("second", "").unwrap();
    assert_eq!(fixture.names(root.ino), ["a"]);
    assert_eq!(fixture.find_in("second", "..").unwrap().ino, list.ino);
    assert_eq!(fixture.find(".okapi/..").unwrap().ino, Ino::ROOT);
    assert_eq!(fixture.find_in("third", ""), Err(ErrorKind::NotFound));
    assert_eq!(fixture.find_in("first", "b"), Err(ErrorKind::NotFound));
    let mut listed = Vec::new();
    let mut visit = |entry: DirEntry<'_>| {
        listed.push((entry.name.to_vec(), entry.attr.map(|attr| attr.ino == entry.ino)));
        ControlFlow::Continue(())
    };
    fixture.volume.readdir(list.ino, 3, true, &mut visit).unwrap();
    assert_eq!(
        listed,
        [(b"second".to_vec(), Some(true))],
        "a listing goes on behind its cookie"
    );
}

#[test]
fn nothing_in_a_snapshot_can_be_changed() {
    let fixture = Fixture::new(1 << 24);
    let file = fixture.closed_file("file", b"bytes");
    fixture.snapshot("s");
    let volume = &fixture.volume;
    let root = fixture.find_in("s", "").unwrap().ino;
    let kept = fixture.find_in("s", "file").unwrap().ino;
    let at = NewName {
        parent: root,
        name: b"new",
        mode: 0o644,
        umask: 0,
    };
    let copy = CopyRange {
        source: file,
        source_offset: 0,
        target: kept,
        target_offset: 0,
        len: 1,
    };
    let plain = RenameMode::default();
    let range = ByteRange { start: 0, end: 1 };
    let refused = [
        volume.create(USER, at, NewNode::Regular).map(drop),
        volume.unlink(root, b"file"),
        volume.rmdir(root, b"file"),
        volume.rename(USER, (root, b"file"), (root, b"other"), plain),
        volume.rename(USER, (Ino::ROOT, b"file"), (root, b"other"), plain),
        volume.link(kept, root, b"other").map(drop),
        volume.link(file, root, b"other").map(drop),
        volume.write(kept, WriteAt::End, b"more", false).map(drop),
        volume.fallocate(kept, range, Fallocate::Punch),
        volume.copy_range(&copy, false).map(drop),
        volume.setattr(USER, kept, &SetAttr::default()).map(drop),
        volume.setxattr(USER, kept, b"user.a", b"", XattrMode::Set),
        volume.removexattr(kept, b"user.a"),
    ];
    for (number, result) in refused.into_iter().enumerate() {
        assert_eq!(
            result.unwrap_err().kind(),
            ErrorKind::ReadOnly,
            "operation {number}"
        );
    }
    let name = b".okapi";
    let at = NewName {
        parent: Ino::ROOT,
        name,
        ..at
    };
    let kind = |result: crate::Result<()>| result.unwrap_err().kind();
    let made = volume.create(USER, at, NewNode::Directory).map(drop);
    assert_eq!(kind(made), ErrorKind::NotPermitted);
    assert_eq!(kind(volume.rmdir(Ino::ROOT, name)), ErrorKind::NotPermitted);
    let renamed = volume.rename(USER, (Ino::ROOT, b"file"), (Ino::ROOT, name), plain);
    assert_eq!(kind(renamed), ErrorKind::NotPermitted);
}

#[test]
fn a_snapshot_keeps_bytes_attributes_and_times_exactly() {
    let fixture = Fixture::new(1 << 24);
    let file = fixture.closed_file("file", b"old bytes");
    fixture
        .volume
        .setxattr(USER, file, b"user.a", b"old", XattrMode::Set)
        .unwrap();
    let before = fixture.volume.getattr(file).unwrap();
    fixture.snapshot("s");
    fixture.write(file, 0, b"NEW");
    fixture
        .volume
        .setxattr(USER, file, b"user.a", b"new", XattrMode::Set)
        .unwrap();
    let kept = fixture.find_in("s", "file").unwrap();
    assert_eq!(
        Attr {
            ino: before.ino,
            ..kept
        },
        before
    );
    assert_eq!(fixture.read(kept.ino), b"old bytes");
    assert_eq!(*fixture.volume.getxattr(kept.ino, b"user.a").unwrap(), *b"old");
    assert_eq!(fixture.read(file), b"NEW bytes");
    fixture.unlink("file");
    assert_eq!(fixture.read(kept.ino), b"old bytes");
}

#[test]
fn deleting_a_snapshot_frees_what_only_it_has() {
    let fixture = Fixture::new(1 << 24);
    let file = fixture.closed_file("file", &[1; 100_000]);
    fixture.closed_file("gone", &[2; 100_000]);
    fixture.write(file, 0, &[3; 100_000]);
    let empty = |fixture: &Fixture| fixture.volume.stat().usage;
    let before = empty(&fixture);
    for name in ["a", "b", "c"] {
        fixture.snapshot(name);
        fixture.write(file, 0, &[4; 100_000]);
        fixture.closed_file(name, &[5; 5000]);
    }
    fixture.unlink("gone");
    assert!(empty(&fixture).held_bytes > before.held_bytes + 200_000);
    for name in ["b", "a", "c"] {
        fixture.unlink(name);
        fixture.volume.delete_snapshot(name).unwrap();
        fixture.volume.check().unwrap();
    }
    fixture.closed_file("gone", &[2; 100_000]);
    assert_eq!(empty(&fixture), before);
    assert_eq!(
        fixture.volume.delete_snapshot("a").unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn the_first_change_in_a_large_directory_copies_no_entries() {
    let fixture = Fixture::new(1 << 28);
    for number in 0..20_000 {
        fixture.closed_file(&format!("name{number}"), b"");
    }
    fixture.snapshot("s");
    let before = fixture.volume.stat().usage.metadata_bytes;
    fixture.unlink("name77");
    let grown = fixture.volume.stat().usage.metadata_bytes - before;
    assert!(grown < 2000, "{grown} bytes for one entry of 20000");
    let root = fixture.find_in("s", "").unwrap();
    assert_eq!(fixture.names(root.ino).len(), 20_000);
}

#[test]
fn going_back_tells_the_frontend_what_it_remembers_wrongly() {
    let fixture = Fixture::new(1 << 24);
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&told);
    fixture
        .volume
        .on_outdated(move |outdated| log.lock().extend_from_slice(outdated));
    let file = fixture.closed_file("file", b"old");
    let untouched = fixture.closed_file("untouched", b"");
    fixture.snapshot("s");
    let list = fixture.find(".okapi/snapshots").unwrap().ino;
    let entry = |parent, name: &str| Outdated::Entry {
        parent,
        name: name.as_bytes().into(),
    };
    assert_eq!(*told.lock(), [Outdated::Inode(list), entry(list, "s")]);
    told.lock().clear();
    fixture.write(file, 0, b"new");
    fixture
        .rename((Ino::ROOT, "file"), (Ino::ROOT, "moved"), RenameMode::default())
        .unwrap();
    let born = fixture.closed_file("born", b"");
    fixture.volume.rollback("s").unwrap();
    let told = told.lock();
    for outdated in [
        Outdated::Inode(file),
        Outdated::Inode(Ino::ROOT),
        Outdated::Inode(born),
        entry(Ino::ROOT, "file"),
        entry(Ino::ROOT, "moved"),
        entry(Ino::ROOT, "born"),
    ] {
        assert!(told.contains(&outdated), "{outdated:?} is not told");
    }
    assert!(!told.contains(&Outdated::Inode(untouched)));
    assert_eq!(fixture.find("file").unwrap().ino, file);
    assert_eq!(fixture.read(file), b"old");
}

#[test]
fn going_back_twice_over_an_inode_that_was_gone_in_between() {
    let fixture = Fixture::new(1 << 24);
    let file = fixture.closed_file("file", b"bytes");
    fixture.snapshot("with");
    fixture.unlink("file");
    fixture.snapshot("without");
    fixture.volume.rollback("with").unwrap();
    fixture.snapshot("again");
    fixture.write(file, 0, b"other");
    assert_eq!(fixture.find_in("without", "file"), Err(ErrorKind::NotFound));
    fixture.volume.check().unwrap();
    fixture.volume.rollback("without").unwrap();
    assert_eq!(fixture.find("file"), Err(ErrorKind::NotFound));
    fixture.volume.check().unwrap();
    fixture.volume.rollback("again").unwrap();
    assert_eq!(fixture.read(file), b"bytes");
}

#[test]
fn an_open_file_outlives_a_return_to_before_it_was_made() {
    let fixture = Fixture::new(1 << 24);
    fixture.snapshot("s");
    let open = fixture.file(Ino::ROOT, "open");
    fixture.write(open, 0, b"still here");
    fixture.volume.rollback("s").unwrap();
    assert_eq!(fixture.find("open"), Err(ErrorKind::NotFound));
    assert_eq!(fixture.read(open), b"still here");
    assert_eq!(fixture.volume.getattr(open).unwrap().nlink, 0);
    fixture.volume.forget(open, 1);
    assert_eq!(fixture.volume.stat().inodes, 1);
}

#[test]
fn a_file_is_copied_out_of_a_snapshot_by_reference() {
    let fixture = Fixture::new(1 << 24);
    let file = fixture.closed_file("file", &[7; 1 << 20]);
    fixture.snapshot("s");
    fixture.unlink("file");
    let held = fixture.volume.stat().usage.held_bytes;
    let source = fixture.find_in("s", "file").unwrap().ino;
    assert_ne!(source, file);
    let target = fixture.file(Ino::ROOT, "again");
    let copy = CopyRange {
        source,
        source_offset: 0,
        target,
        target_offset: 0,
        len: 1 << 20,
    };
    assert_eq!(fixture.volume.copy_range(&copy, false).unwrap(), 1 << 20);
    assert_eq!(fixture.volume.stat().usage.held_bytes, held);
    assert_eq!(fixture.read(target), [7; 1 << 20]);
}

#[test]
fn a_full_volume_refuses_a_change_that_must_be_kept_and_recovers() {
    let fixture = Fixture::new(1 << 20);
    let old = fixture.closed_file("old", &[1; 4096]);
    fixture.snapshot("s");
    fixture.closed_file("young", b"");
    let filler = fixture.file(Ino::ROOT, "filler");
    let mut offset = 0;
    for len in [64 << 10, 4 << 10, 64] {
        let bytes = vec![9; len];
        while let Ok(written) = fixture
            .volume
            .write(filler, WriteAt::Offset(offset), &bytes, false)
        {
            offset += written.len as u64;
        }
        offset = offset.next_multiple_of(4096);
    }
    let changes = SetAttr {
        mode: Some(0o600),
        ..SetAttr::default()
    };
    let refused = fixture.volume.setattr(USER, old, &changes).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NoSpace);
    assert_eq!(fixture.volume.getattr(old).unwrap().mode, 0o644);
    // What the snapshot does not know goes without being kept.
    fixture.unlink("young");
    fixture.volume.delete_snapshot("s").unwrap();
    fixture.volume.setattr(USER, old, &changes).unwrap();
}

#[test]
fn a_diff_names_what_came_went_moved_and_changed() {
    let fixture = Fixture::new(1 << 24);
    let dir = fixture.dir(Ino::ROOT, "dir");
    let inner = fixture.file(dir, "inner");
    fixture.write(inner, 0, &[1; 10_000]);
    for name in ["gone", "moved", "same", "mode"] {
        fixture.closed_file(name, &[1; 10_000]);
    }
    fixture.snapshot("a");
    assert_eq!(fixture.volume.diff("a", None).unwrap(), []);

    fixture.write(inner, 5000, b"other");
    fixture
        .rename((Ino::ROOT, "dir"), (Ino::ROOT, "place"), RenameMode::default())
        .unwrap();
    fixture.unlink("gone");
    fixture
        .rename((Ino::ROOT, "moved"), (dir, "here"), RenameMode::default())
        .unwrap();
    fixture.write(fixture.find("same").unwrap().ino, 0, &[1; 10_000]);
    let chmod = SetAttr {
        mode: Some(0o600),
        ..SetAttr::default()
    };
    let mode = fixture.find("mode").unwrap().ino;
    fixture.volume.setattr(USER, mode, &chmod).unwrap();
    let sub = fixture.dir(Ino::ROOT, "sub");
    fixture.file(sub, "new");
    fixture.volume.link(inner, sub, b"link").unwrap();

    let added = |path: &str| Difference::Added { path: path.into() };
    let renamed = |from: &str, to: &str| Difference::Renamed {
        from: from.into(),
        to: to.into(),
    };
    let modified = |path: &str, ranges: &[(u64, u64)], attributes| Difference::Modified {
        path: path.into(),
        ranges: ranges.to_vec(),
        attributes,
    };
    let expected = [
        added("sub"),
        added("sub/link"),
        added("sub/new"),
        Difference::Removed {
            path: b"gone".to_vec(),
        },
        renamed("dir", "place"),
        renamed("moved", "place/here"),
        modified("mode", &[], true),
        modified("place/inner", &[(4096, 8192)], false),
        modified("same", &[], true),
    ];
    assert_eq!(fixture.volume.diff("a", None).unwrap(), expected);
    fixture.snapshot("b");
    assert_eq!(fixture.volume.diff("a", Some("b")).unwrap(), expected);
    let back = fixture.volume.diff("b", Some("a")).unwrap();
    assert!(
        back.contains(&renamed("place", "dir")) && back.contains(&added("gone")),
        "{back:?}"
    );
    assert_eq!(fixture.volume.list_snapshots().len(), 2);
    fixture.volume.rollback("a").unwrap();
    assert_eq!(fixture.volume.diff("a", None).unwrap(), []);
    assert_eq!(fixture.volume.diff("b", None).unwrap(), back);
    assert_eq!(
        fixture.volume.diff("c", None).unwrap_err().kind(),
        ErrorKind::NotFound
    );
}
