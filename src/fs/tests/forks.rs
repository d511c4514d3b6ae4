//! Clones of snapshots: what they have, what they share, and that they come whole or not at all.

use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::fs::{CloneSnapshot, Subject};
use crate::vfs::Outdated;

impl Fixture {
    fn fork(&self, source: (&str, &str), dir: Ino, name: &str) -> Result<(), ErrorKind> {
        let clone = CloneSnapshot {
            snapshot: source.0,
            path: source.1.as_bytes(),
            dir,
            name: name.as_bytes(),
        };
        let made = self.volume.clone_snapshot(&clone);
        made.map_err(|error| error.kind())
    }

    /// Names below a directory, with what stat(2) shows, their attributes and a hash of their bytes; inodes are numbered in the
    /// order in which they are met.
    fn describe(&self, dir: Ino) -> Vec<String> {
        let mut described = Vec::new();
        let mut met = Vec::new();
        let hasher = std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::default();
        let mut todo = vec![(String::new(), dir)];
        while let Some((path, ino)) = todo.pop() {
            let attr = self.volume.getattr(ino).unwrap();
            if !met.contains(&ino) {
                met.push(ino);
            }
            let number = met.iter().position(|known| *known == ino);
            let xattrs = self.volume.listxattr(Caller::default(), ino).unwrap();
            let values: Vec<_> = xattrs
                .split(|byte| *byte == 0)
                .filter(|name| !name.is_empty())
                .map(|name| self.volume.getxattr(ino, name).unwrap())
                .collect();
            let bytes = match attr.kind {
                FileKind::Regular => self.read(ino),
                FileKind::Symlink => self.volume.readlink(ino).unwrap().to_vec(),
                _ => Vec::new(),
            };
            // Who looks at the living tree touches it.
            let plain = Attr {
                ino: Ino(0),
                atime: Timestamp::default(),
                ..attr
            };
            let bytes = std::hash::BuildHasher::hash_one(&hasher, bytes);
            described.push(format!(
                "{path} {number:?} {plain:?} {xattrs:?} {values:?} {bytes}"
            ));
            if attr.kind == FileKind::Directory {
                for name in self.names(ino) {
                    let child = self.volume.lookup(ino, name.as_bytes()).unwrap().ino;
                    self.volume.forget(child, 1);
                    todo.push((format!("{path}/{name}"), child));
                }
            }
        }
        described.sort();
        described
    }

    /// A directory `tree` with one of everything, which nobody has open.
    fn tree(&self) -> Ino {
        let tree = self.dir(Ino::ROOT, "tree");
        let below = self.dir(tree, "below");
        let file = self.file(below, "file");
        self.write(file, 0, &[1; 100_000]);
        self.write(file, 1 << 19, b"behind a hole");
        self.volume.link(file, tree, b"other name").unwrap();
        let link = self.make(tree, "link", NewNode::Symlink(b"below/file"));
        let fifo = self.make(tree, "fifo", NewNode::Fifo);
        let device = self.make(below, "device", NewNode::CharDevice(0x0103));
        let empty = self.dir(below, "empty");
        let set = |ino, name: &[u8], value: &[u8]| {
            let set = self.volume.setxattr(USER, ino, name, value, XattrMode::Set);
            set.unwrap();
        };
        set(file, b"user.colour", b"green");
        // version 2; owner rwx, user 7 r, group rx, mask rx, others none
        let acl: Vec<u8> = [
            (1, 7, u32::MAX),
            (2, 4, 7),
            (4, 5, u32::MAX),
            (16, 5, u32::MAX),
            (32, 0, u32::MAX),
        ]
        .iter()
        .flat_map(|(tag, bits, id): &(u16, u16, u32)| {
            [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat()
        })
        .collect();
        set(
            below,
            b"system.posix_acl_default",
            &[&[2, 0, 0, 0], &acl[..]].concat(),
        );
        let odd = SetAttr {
            mode: Some(0o2751),
            uid: Some(1234),
            gid: Some(4321),
            mtime: Some(TimeOrNow::At(Timestamp { secs: -5, nanos: 6 })),
            ..SetAttr::default()
        };
        self.volume.setattr(USER, below, &odd).unwrap();
        for ino in [tree, below, file, file, link.ino, fifo.ino, device.ino, empty] {
            self.volume.forget(ino, 1);
        }
        tree
    }

    fn remove_all(&self, dir: Ino, name: &str) {
        let attr = self.volume.lookup(dir, name.as_bytes()).unwrap();
        self.volume.forget(attr.ino, 1);
        if attr.kind != FileKind::Directory {
            return self.volume.unlink(dir, name.as_bytes()).unwrap();
        }
        for below in self.names(attr.ino) {
            self.remove_all(attr.ino, &below);
        }
        self.volume.rmdir(dir, name.as_bytes()).unwrap();
    }
}

#[test]
fn a_clone_has_all_that_the_snapshot_has_and_shares_its_blocks() {
    let fixture = Fixture::new(1 << 24);
    fixture.tree();
    fixture.snapshot("s");
    let held = fixture.volume.stat().usage.held_bytes;
    fixture.fork(("s", "tree"), Ino::ROOT, "clone").unwrap();
    fixture.volume.check().unwrap();
    assert_eq!(
        fixture.volume.stat().usage.held_bytes,
        held,
        "no bytes are copied"
    );
    let clone = fixture.find("clone").unwrap().ino;
    assert_eq!(
        fixture.find("clone/below/file").unwrap().atime,
        fixture.find_in("s", "tree/below/file").unwrap().atime
    );
    let source = fixture.describe(fixture.find_in("s", "tree").unwrap().ino);
    assert_eq!(fixture.describe(clone), source);
    assert_eq!(source.len(), 8);

    fixture.fork(("s", "tree/below/"), clone, "again").unwrap();
    let again = fixture.describe(fixture.find("clone/again").unwrap().ino);
    let below = fixture.describe(fixture.find_in("s", "tree/below").unwrap().ino);
    // The other name of the file is not in this clone.
    let links = |described: &[String]| {
        described
            .join("\n")
            .replace("nlink: 2, uid: 1000", "nlink: 1, uid: 1000")
    };
    assert_eq!(links(&again), links(&below));
    assert_eq!(fixture.find("clone").unwrap().nlink, 4);
}

#[test]
fn clone_and_source_go_their_own_ways_and_both_can_go() {
    let fixture = Fixture::new(1 << 24);
    let before = fixture.volume.stat();
    fixture.tree();
    fixture.snapshot("s");
    fixture.fork(("s", ""), Ino::ROOT, "clone").unwrap();
    let at = |path| fixture.find(path).unwrap().ino;
    fixture.write(at("clone/tree/below/file"), 10, b"clone");
    fixture.write(at("tree/below/file"), 20, b"source");
    fixture.volume.check().unwrap();
    let of_clone = fixture.read(at("clone/tree/other name"));
    assert_eq!(
        (&of_clone[10..15], &of_clone[20..26]),
        (&b"clone"[..], &[1; 6][..])
    );
    let of_source = fixture.read(at("tree/below/file"));
    assert_eq!(
        (&of_source[10..15], &of_source[20..26]),
        (&[1; 5][..], &b"source"[..])
    );

    fixture.volume.delete_snapshot("s").unwrap();
    fixture.remove_all(Ino::ROOT, "tree");
    fixture.volume.check().unwrap();
    assert_eq!(fixture.read(at("clone/tree/below/file")), of_clone);
    let usage = fixture.volume.usage(&[Subject::Tree(at("clone"))]).unwrap().total;
    assert_eq!((usage.shared_bytes(), usage.files), (0, 1));
    fixture.remove_all(Ino::ROOT, "clone");
    assert_eq!(fixture.volume.stat(), before);
}

#[test]
fn a_clone_is_of_then_though_everything_has_changed_and_gone() {
    let fixture = Fixture::new(1 << 24);
    fixture.tree();
    fixture.snapshot("s");
    let then = fixture.describe(fixture.find_in("s", "tree").unwrap().ino);
    let file = fixture.find("tree/below/file").unwrap().ino;
    fixture.write(file, 0, b"changed");
    fixture.remove_all(Ino::ROOT, "tree");
    fixture.snapshot("later");
    fixture
        .fork(("s", "/tree/./below/.."), Ino::ROOT, "clone")
        .unwrap();
    assert_eq!(fixture.describe(fixture.find("clone").unwrap().ino), then);
    assert_eq!(
        fixture.find_in("later", "clone"),
        Err(ErrorKind::NotFound),
        "a newer snapshot does not have it"
    );
    fixture.volume.rollback("later").unwrap();
    assert_eq!(fixture.find("clone"), Err(ErrorKind::NotFound));
}

#[test]
fn what_cannot_be_cloned_leaves_nothing() {
    let fixture = Fixture::new(1 << 24);
    let tree = fixture.tree();
    fixture.snapshot("s");
    let before = fixture.volume.stat();
    let refused = |source, dir, name, kind| {
        assert_eq!(fixture.fork(source, dir, name), Err(kind), "{source:?} {name}");
    };
    refused(("no", ""), Ino::ROOT, "clone", ErrorKind::NotFound);
    refused(("s", "no"), Ino::ROOT, "clone", ErrorKind::NotFound);
    refused(("s", "tree/fifo"), Ino::ROOT, "clone", ErrorKind::NotDirectory);
    refused(("s", "tree/link"), Ino::ROOT, "clone", ErrorKind::NotDirectory);
    refused(("s", ""), Ino::ROOT, "tree", ErrorKind::Exists);
    refused(("s", ""), Ino::ROOT, ".okapi", ErrorKind::NotPermitted);
    refused(("s", ""), Ino::ROOT, "..", ErrorKind::InvalidArgument);
    let file = fixture.find("tree/fifo").unwrap().ino;
    refused(("s", ""), file, "clone", ErrorKind::NotDirectory);
    let shown = fixture.find_in("s", "tree").unwrap().ino;
    refused(("s", ""), shown, "clone", ErrorKind::ReadOnly);
    assert_eq!(fixture.volume.stat(), before);
    fixture.remove_all(Ino::ROOT, "tree");
    refused(("s", ""), tree, "clone", ErrorKind::Stale);
}

#[test]
fn a_clone_that_does_not_fit_leaves_nothing() {
    let fixture = Fixture::new(4 << 20);
    let dir = fixture.dir(Ino::ROOT, "dir");
    for n in 0..2000 {
        let ino = fixture.file(dir, &format!("file{n}"));
        fixture.write(ino, 0, b"some bytes");
        fixture
            .volume
            .link(ino, dir, format!("link{n}").as_bytes())
            .unwrap();
        fixture.volume.forget(ino, 2);
    }
    fixture.snapshot("s");
    let mut clones = 0;
    let before = loop {
        let before = fixture.volume.stat();
        let names = fixture.names(Ino::ROOT);
        match fixture.fork(("s", "dir"), Ino::ROOT, &format!("clone{clones}")) {
            Ok(()) => clones += 1,
            Err(kind) => {
                assert_eq!(kind, ErrorKind::NoSpace);
                assert_eq!(fixture.names(Ino::ROOT), names);
                break before;
            }
        }
    };
    assert!(clones > 0, "one fits");
    assert_eq!(fixture.volume.stat(), before);
    fixture.volume.check().unwrap();
    fixture.remove_all(Ino::ROOT, "clone0");
    fixture.fork(("s", "dir"), Ino::ROOT, "clone0").unwrap();
}

#[test]
fn a_hundred_thousand_files_are_cloned() {
    const FILES: u64 = 100_000;
    let fixture = Fixture::new(1 << 28);
    let dir = fixture.dir(Ino::ROOT, "dir");
    for n in 0..FILES {
        let ino = fixture.file(dir, &format!("file{n}"));
        fixture.write(ino, 0, &n.to_le_bytes());
        fixture.volume.forget(ino, 1);
    }
    fixture.snapshot("s");
    fixture.fork(("s", "dir"), Ino::ROOT, "clone").unwrap();
    let clone = fixture.find("clone").unwrap();
    assert_eq!(fixture.names(clone.ino).len() as u64, FILES);
    for n in [0, 1, 77_777, FILES - 1] {
        let ino = fixture.find(&format!("clone/file{n}")).unwrap().ino;
        assert_eq!(fixture.read(ino), n.to_le_bytes());
    }
    assert_eq!(fixture.volume.stat().inodes, 2 * FILES + 3);
}

#[test]
fn the_frontend_is_told_of_a_clone() {
    let fixture = Fixture::new(1 << 24);
    fixture.snapshot("s");
    let told = Arc::new(Mutex::new(Vec::new()));
    let teller = Arc::clone(&told);
    fixture
        .volume
        .on_outdated(move |outdated| teller.lock().extend_from_slice(outdated));
    fixture.fork(("s", ""), Ino::ROOT, "clone").unwrap();
    assert_eq!(
        fixture.fork(("s", ""), Ino::ROOT, "clone"),
        Err(ErrorKind::Exists)
    );
    let entry = Outdated::Entry {
        parent: Ino::ROOT,
        name: b"clone"[..].into(),
    };
    assert_eq!(*told.lock(), [Outdated::Inode(Ino::ROOT), entry]);
}
