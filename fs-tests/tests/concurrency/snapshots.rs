//! Snapshots made, read, deleted and gone back to, while others change what is in them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fs_tests::model::{NodeDump, TreeDump};
use fs_tests::rng::Rng;
use fs_tests::vfs_driver::VfsDriver;
use okapi::ErrorKind::*;
use okapi::fs::{CloneSnapshot, Subject};
use okapi::vfs::{Ino, NewNode, SetAttr, Vfs, XattrMode};

use crate::locks::{Arena, PLAIN, USER, allow, time};
use crate::race::{Race, Round};

/// Bytes of each file: several blocks, so that a half-done write would show.
const FILE_LEN: usize = 40_000;
const FILES: u64 = 8;

/// A tree in which every operation leaves each file whole, and each of some files in one of two directories.
#[derive(Clone)]
struct Tree {
    arena: Arena,
    dirs: [Ino; 2],
    files: Vec<Ino>,
    /// For names of snapshots.
    count: Arc<AtomicU64>,
}

impl Tree {
    fn new() -> Self {
        let arena = Arena::new(256 << 20);
        let dirs = [arena.dir(Ino::ROOT, "a"), arena.dir(Ino::ROOT, "b")];
        let whole = vec![0; FILE_LEN];
        let files = (0..FILES).map(|n| arena.file(dirs[0], &format!("file{n}"), &whole));
        Self {
            files: files.collect(),
            arena,
            dirs,
            count: Arc::default(),
        }
    }

    fn job(&self, mut round: impl FnMut(&Self, &mut Rng) + Send + 'static) -> Round {
        let own = self.clone();
        Box::new(move |rng| round(&own, rng))
    }

    fn dump(&self, root: Ino) -> TreeDump {
        VfsDriver::below(&*self.arena.volume, root).dump().unwrap()
    }

    /// The root of a snapshot.
    fn root_of(&self, name: &str) -> Ino {
        let mut at = Ino::ROOT;
        for name in [".okapi", "snapshots", name] {
            at = self.arena.volume.lookup(at, name.as_bytes()).unwrap().ino;
        }
        at
    }

    /// Writes a whole file, moves one, makes one or takes one away, changes attributes.
    fn change(&self, rng: &mut Rng) {
        let number = rng.below(FILES);
        let file = self.files[rng.index(self.files.len())];
        let (from, to) = if rng.percent(50) { (0, 1) } else { (1, 0) };
        let (from, to) = (self.dirs[from], self.dirs[to]);
        match rng.below(5) {
            0 | 1 => {
                let fill = u8::try_from(rng.below(256)).unwrap();
                allow(self.arena.write(file, 0, &[fill; FILE_LEN]), &[]);
            }
            2 => {
                let name = format!("file{number}");
                allow(self.arena.rename((from, &name), (to, &name), PLAIN), &[NotFound]);
            }
            3 => {
                let name = format!("extra{number}");
                if allow(self.arena.try_make(from, &name, NewNode::Regular), &[Exists]).is_none() {
                    allow(self.arena.volume.unlink(from, name.as_bytes()), &[NotFound]);
                }
            }
            _ => {
                let value = rng.below(1000).to_string();
                let set = self
                    .arena
                    .volume
                    .setxattr(USER, file, b"user.a", value.as_bytes(), XattrMode::Set);
                allow(set, &[]);
                let changes = SetAttr {
                    mode: Some(0o600 | u16::try_from(rng.below(8)).unwrap()),
                    ..SetAttr::default()
                };
                allow(self.arena.volume.setattr(USER, file, &changes), &[]);
            }
        }
    }

    /// Freezes, reads twice with time between, and deletes.
    fn freeze(&self, rng: &mut Rng) {
        let name = format!("s{}", self.count.fetch_add(1, Ordering::Relaxed));
        self.arena.volume.create_snapshot(&name).unwrap();
        let root = self.root_of(&name);
        let first = self.dump(root);
        self.expect_whole(&first);
        for _ in 0..rng.below(20) {
            std::thread::yield_now();
        }
        assert_eq!(self.dump(root), first, "a snapshot does not change");
        self.arena.volume.delete_snapshot(&name).unwrap();
        let gone = self.arena.volume.getattr(root).unwrap_err();
        assert_eq!(gone.kind(), Stale);
    }

    /// Freezes, clones one of the directories, asks what the clone takes, and deletes both.
    fn fork(&self) {
        let volume = &self.arena.volume;
        let name = format!("f{}", self.count.fetch_add(1, Ordering::Relaxed));
        volume.create_snapshot(&name).unwrap();
        let clone = CloneSnapshot {
            snapshot: &name,
            path: b"a",
            dir: Ino::ROOT,
            name: name.as_bytes(),
        };
        volume.clone_snapshot(&clone).unwrap();
        let find = |dir, name: &str| volume.lookup(dir, name.as_bytes()).unwrap().ino;
        let source = self.dump(find(self.root_of(&name), "a"));
        let root = find(Ino::ROOT, &name);
        let made = self.dump(root);
        assert!(made.names.keys().eq(source.names.keys()));
        let usage = volume.usage(&[Subject::Tree(root)]).unwrap().total;
        assert_eq!(usage.files, made.names.len() as u64 - 1);
        assert!(usage.private_bytes <= usage.referenced_bytes);
        for (path, ino) in made.names.iter().filter(|(path, _)| !path.is_empty()) {
            if path.starts_with(b"/file") {
                expect_one_byte(&made.nodes[ino]);
            }
            volume.unlink(root, &path[1..]).unwrap();
        }
        volume.rmdir(Ino::ROOT, name.as_bytes()).unwrap();
        volume.forget(root, 1);
        volume.delete_snapshot(&name).unwrap();
    }

    /// What holds between any two operations.
    fn expect_whole(&self, dump: &TreeDump) {
        for number in 0..FILES {
            let places = ["/a", "/b"].map(|dir| format!("{dir}/file{number}").into_bytes());
            let found: Vec<_> = places.iter().filter_map(|path| dump.names.get(path)).collect();
            let [ino] = found[..] else {
                panic!("file{number} is in {} places", found.len());
            };
            expect_one_byte(&dump.nodes[ino]);
        }
    }
}

/// A file is of one byte throughout.
fn expect_one_byte(node: &NodeDump) {
    let bytes: Vec<u8> = node
        .segments
        .iter()
        .flat_map(|segment| segment.bytes.clone())
        .collect();
    assert_eq!(bytes.len(), FILE_LEN);
    assert!(
        bytes.iter().all(|byte| *byte == bytes[0]),
        "a write was frozen half done"
    );
}

#[test]
fn a_snapshot_stays_as_it_was_while_everything_changes() {
    let tree = Tree::new();
    Race::new("frozen")
        .with("change", 4, |_| tree.job(|tree, rng| tree.change(rng)))
        .with("freeze", 3, |_| tree.job(|tree, rng| tree.freeze(rng)))
        .with("fork", 2, |_| tree.job(|tree, _| tree.fork()))
        .with("check", 1, |_| tree.job(|tree, _| tree.arena.check_meanwhile()))
        .run(time());
    tree.arena.check();
    assert_eq!(tree.arena.volume.list_snapshots(), []);
}

#[test]
fn going_back_meets_changes_and_other_snapshots() {
    let tree = Tree::new();
    tree.arena.volume.create_snapshot("base").unwrap();
    let base = tree.dump(tree.root_of("base"));
    Race::new("rollback")
        .with("change", 4, |_| tree.job(|tree, rng| tree.change(rng)))
        .with("freeze", 2, |_| tree.job(|tree, rng| tree.freeze(rng)))
        .with("rollback", 1, |_| {
            tree.job(|tree, _| tree.arena.volume.rollback("base").unwrap())
        })
        .with("check", 1, |_| tree.job(|tree, _| tree.arena.check_meanwhile()))
        .run(time());
    tree.arena.check();
    assert_eq!(tree.dump(tree.root_of("base")), base);
    tree.arena.volume.rollback("base").unwrap();
    assert_eq!(tree.dump(Ino::ROOT).names, without_snapshot(&base));
    tree.arena.check();
}

/// The numbers that the living inodes have.
fn without_snapshot(dump: &TreeDump) -> std::collections::BTreeMap<Vec<u8>, u64> {
    let living = |ino: &u64| ino & ((1 << okapi::limits::INO_BITS) - 1);
    dump.names
        .iter()
        .map(|(path, ino)| (path.clone(), living(ino)))
        .collect()
}
