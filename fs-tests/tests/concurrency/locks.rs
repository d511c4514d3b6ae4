//! One race for each rule of the lock orders (src/fs, src/extent, src/grid): each would hang where its rule is broken.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use fs_tests::model::pattern;
use fs_tests::rng::{Rng, seconds_from_env};
use okapi::ErrorKind::{self, *};
use okapi::clock::SystemClock;
use okapi::fs::{Dedup, Volume, VolumeConfig};
use okapi::grid::{BlockIndex, Grid, GridConfig, Namespace, Slice};
use okapi::range::ByteRange;
use okapi::vfs::{
    Attr, Caller, CopyRange, Fallocate, Ino, NewName, NewNode, RenameMode, SeekTo, SetAttr, TimeOrNow, Vfs,
    WriteAt, XattrMode,
};

use crate::race::{Race, Round};

pub(crate) const USER: Caller = Caller { uid: 0, gid: 0 };

/// How long each race lasts.
pub(crate) fn time() -> Duration {
    seconds_from_env(2)
}

/// A volume that many threads share.
#[derive(Clone)]
pub(crate) struct Arena {
    grid: Arc<Grid>,
    namespace: Arc<Namespace>,
    pub(crate) volume: Arc<Volume>,
}

impl Arena {
    pub(crate) fn new(size_bytes: u64) -> Self {
        Self::with(size_bytes, Dedup::Off)
    }

    pub(crate) fn with(size_bytes: u64, dedup: Dedup) -> Self {
        let block_size = 16 << 10;
        let grid = Grid::new(GridConfig {
            size_bytes,
            block_size,
        })
        .unwrap();
        let namespace = grid.create_namespace("drive", None).unwrap();
        let volume = Volume::new(
            &grid,
            Arc::clone(&namespace),
            Arc::new(SystemClock),
            VolumeConfig {
                dedup,
                ..VolumeConfig::default()
            },
        )
        .unwrap();
        Self {
            grid,
            namespace,
            volume,
        }
    }

    pub(crate) fn make(&self, parent: Ino, name: &str, node: NewNode<'_>) -> okapi::Result<Attr> {
        let at = NewName {
            parent,
            name: name.as_bytes(),
            mode: 0o777,
            umask: 0,
        };
        self.volume.create(USER, at, node)
    }

    /// A directory that must not exist yet. The look-up is kept, so that the number stays valid.
    pub(crate) fn dir(&self, parent: Ino, name: &str) -> Ino {
        self.make(parent, name, NewNode::Directory).unwrap().ino
    }

    pub(crate) fn file(&self, parent: Ino, name: &str, bytes: &[u8]) -> Ino {
        let ino = self.make(parent, name, NewNode::Regular).unwrap().ino;
        self.write(ino, 0, bytes).unwrap();
        ino
    }

    pub(crate) fn write(&self, ino: Ino, offset: u64, bytes: &[u8]) -> okapi::Result<usize> {
        let written = self.volume.write(ino, WriteAt::Offset(offset), bytes, false)?;
        Ok(written.len)
    }

    /// Makes a file that may exist, and forgets it.
    pub(crate) fn try_make(&self, parent: Ino, name: &str, node: NewNode<'_>) -> okapi::Result<()> {
        let attr = self.make(parent, name, node)?;
        self.volume.forget(attr.ino, 1);
        Ok(())
    }

    pub(crate) fn rename(&self, from: (Ino, &str), to: (Ino, &str), mode: RenameMode) -> okapi::Result<()> {
        let (from, to) = ((from.0, from.1.as_bytes()), (to.0, to.1.as_bytes()));
        self.volume.rename(USER, from, to, mode)
    }

    pub(crate) fn names(&self, dir: Ino) -> Vec<Vec<u8>> {
        let mut names = Vec::new();
        let mut seen = Vec::new();
        let scan = self.volume.readdir(dir, 0, true, &mut |entry| {
            if let Some(attr) = entry.attr {
                seen.push(attr.ino);
                names.push(entry.name.to_vec());
            }
            ControlFlow::Continue(())
        });
        for ino in seen {
            self.volume.forget(ino, 1);
        }
        allow(scan, &[NotFound, Stale]);
        names
    }

    pub(crate) fn check(&self) {
        self.volume.check().unwrap();
        self.grid.check().unwrap();
    }

    /// A check while others work; the grid may be too busy for one.
    pub(crate) fn check_meanwhile(&self) {
        self.volume.check().unwrap();
        allow(self.grid.check(), &[Busy]);
    }

    /// A job that works on this volume.
    pub(crate) fn job(&self, mut round: impl FnMut(&Self, &mut Rng) + Send + 'static) -> Round {
        let own = self.clone();
        Box::new(move |rng| round(&own, rng))
    }
}

/// Accepts success and the errors that a race may bring.
#[track_caller]
pub(crate) fn allow<T>(result: okapi::Result<T>, kinds: &[ErrorKind]) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) if kinds.contains(&error.kind()) => None,
        Err(error) => panic!("{error:?} is none of {kinds:?}"),
    }
}

pub(crate) const PLAIN: RenameMode = RenameMode {
    no_replace: false,
    exchange: false,
    whiteout: false,
};
const EXCHANGE: RenameMode = RenameMode {
    exchange: true,
    ..PLAIN
};

#[test]
fn renames_between_two_directories_in_opposite_directions() {
    let arena = Arena::new(64 << 20);
    let dirs = [arena.dir(Ino::ROOT, "a"), arena.dir(Ino::ROOT, "b")];
    for number in 0..8 {
        arena.file(dirs[number % 2], &format!("{number}"), b"x");
    }
    let job = |number: u64| {
        let forth = number.is_multiple_of(2);
        arena.job(move |arena, rng| {
            let (from, to) = if forth {
                (dirs[0], dirs[1])
            } else {
                (dirs[1], dirs[0])
            };
            let name = format!("{}", rng.below(8));
            let mode = if rng.percent(30) { EXCHANGE } else { PLAIN };
            allow(arena.rename((from, &name), (to, &name), mode), &[NotFound]);
        })
    };
    let checks = |_| arena.job(|arena, _| arena.check_meanwhile());
    Race::new("opposite renames")
        .with("rename", 8, job)
        .with("check", 1, checks)
        .run(time());
    arena.check();
    assert_eq!(
        arena.names(dirs[0]).len() + arena.names(dirs[1]).len(),
        8,
        "no file is lost or doubled"
    );
}

#[test]
fn renames_between_a_directory_and_the_one_below_it() {
    let arena = Arena::new(64 << 20);
    let above = arena.dir(Ino::ROOT, "above");
    let below = arena.dir(above, "below");
    let up_and_down = |number: u64| {
        arena.job(move |arena, _| {
            let name = format!("{number}");
            allow(arena.try_make(above, &name, NewNode::Directory), &[Exists]);
            allow(arena.rename((above, &name), (below, &name), PLAIN), &[NotFound]);
            allow(arena.rename((below, &name), (above, &name), PLAIN), &[NotFound]);
            allow(arena.volume.rmdir(above, name.as_bytes()), &[NotFound, NotEmpty]);
        })
    };
    let list_and_make = |number: u64| {
        arena.job(move |arena, _| {
            arena.names(if number == 0 { above } else { below });
            let removed = arena.volume.rmdir(above, b"below");
            assert!(allow(removed, &[NotEmpty]).is_none(), "it is never empty");
            allow(arena.try_make(below, "kept", NewNode::Regular), &[Exists]);
        })
    };
    arena.file(below, "kept", b"");
    Race::new("up and down")
        .with("rename", 6, up_and_down)
        .with("list", 2, list_and_make)
        .run(time());
    arena.check();
}

#[test]
fn directories_move_into_each_other_and_never_into_themselves() {
    let arena = Arena::new(64 << 20);
    for number in 0..6 {
        arena.dir(Ino::ROOT, &format!("{number}"));
    }
    // each thread looks for the directories wherever they hang just now
    fn find(arena: &Arena, rng: &mut Rng) -> (Ino, Vec<u8>) {
        let mut at = Ino::ROOT;
        loop {
            let names = arena.names(at);
            if names.is_empty() {
                return (Ino::ROOT, b"0".to_vec());
            }
            let name = names[rng.index(names.len())].clone();
            if rng.percent(50) {
                return (at, name);
            }
            // the numbers stay valid: each directory is held by the look-up of the one that made it
            let Ok(attr) = arena.volume.lookup(at, &name) else {
                continue;
            };
            arena.volume.forget(attr.ino, 1);
            at = attr.ino;
        }
    }
    let shuffle = |_| {
        arena.job(|arena, rng| {
            let (from, to) = (find(arena, rng), find(arena, rng));
            let into = match arena.volume.lookup(to.0, &to.1) {
                Ok(attr) => {
                    arena.volume.forget(attr.ino, 1);
                    attr.ino
                }
                Err(_) => Ino::ROOT,
            };
            let result = match rng.percent(30) {
                true => arena
                    .volume
                    .rename(USER, (from.0, &from.1), (to.0, &to.1), EXCHANGE),
                false => arena
                    .volume
                    .rename(USER, (from.0, &from.1), (into, &from.1), PLAIN),
            };
            allow(result, &[NotFound, InvalidArgument, NotEmpty]);
        })
    };
    let checks = |_| arena.job(|arena, _| arena.check_meanwhile());
    Race::new("moving directories")
        .with("shuffle", 8, shuffle)
        .with("check", 1, checks)
        .run(time());
    arena.check();
    let report = arena.volume.check().unwrap();
    assert_eq!(report.directories, 7, "six directories and the root: {report:?}");
}

#[test]
fn removing_a_directory_while_others_make_names_in_it() {
    let arena = Arena::new(64 << 20);
    let make = |number: u64| {
        arena.job(move |arena, _| {
            allow(arena.try_make(Ino::ROOT, "dir", NewNode::Directory), &[Exists]);
            let Some(dir) = allow(arena.volume.lookup(Ino::ROOT, b"dir"), &[NotFound]) else {
                return;
            };
            let name = format!("{number}");
            allow(
                arena.try_make(dir.ino, &name, NewNode::Regular),
                &[NotFound, Stale],
            );
            if let Some(up) = allow(arena.volume.lookup(dir.ino, b".."), &[NotFound, Stale]) {
                arena.volume.forget(up.ino, 1);
            }
            allow(arena.volume.unlink(dir.ino, name.as_bytes()), &[NotFound, Stale]);
            arena.volume.forget(dir.ino, 1);
        })
    };
    let remove = |_| {
        arena.job(|arena, _| {
            allow(arena.volume.rmdir(Ino::ROOT, b"dir"), &[NotFound, NotEmpty]);
        })
    };
    Race::new("rmdir")
        .with("make", 6, make)
        .with("remove", 2, remove)
        .run(time());
    arena.check();
}

#[test]
fn removing_and_renaming_over_one_name() {
    let arena = Arena::new(64 << 20);
    let dirs = [arena.dir(Ino::ROOT, "a"), arena.dir(Ino::ROOT, "b")];
    let names = ["x", "y", "z"];
    let job = |_| {
        arena.job(move |arena, rng| {
            let (dir, other) = (rng.pick(&dirs), rng.pick(&dirs));
            let (name, new) = (rng.pick(&names), rng.pick(&names));
            let race = [
                NotFound,
                Exists,
                IsDirectory,
                NotDirectory,
                NotEmpty,
                InvalidArgument,
            ];
            match rng.below(7) {
                0 => drop(allow(arena.try_make(dir, name, NewNode::Regular), &race)),
                1 => drop(allow(arena.try_make(dir, name, NewNode::Directory), &race)),
                2 => drop(allow(arena.volume.unlink(dir, name.as_bytes()), &race)),
                3 => drop(allow(arena.volume.rmdir(dir, name.as_bytes()), &race)),
                4 => drop(allow(arena.rename((dir, name), (other, new), PLAIN), &race)),
                5 => drop(allow(arena.rename((dir, name), (other, new), EXCHANGE), &race)),
                _ => {
                    if let Some(found) = allow(arena.volume.lookup(dir, name.as_bytes()), &race) {
                        let linked = arena.volume.link(found.ino, other, new.as_bytes());
                        let linked = allow(linked, &[NotFound, Exists, NotPermitted, Stale]);
                        arena.volume.forget(found.ino, 1 + u64::from(linked.is_some()));
                    }
                }
            }
        })
    };
    let checks = |_| arena.job(|arena, _| arena.check_meanwhile());
    Race::new("one name")
        .with("churn", 8, job)
        .with("check", 1, checks)
        .run(time());
    arena.check();
}

#[test]
fn copies_between_two_files_in_opposite_directions() {
    let arena = Arena::new(64 << 20);
    let bytes = pattern(1, 100_000);
    let files = [
        arena.file(Ino::ROOT, "a", &bytes),
        arena.file(Ino::ROOT, "b", &bytes),
    ];
    let copy = |number: u64| {
        arena.job(move |arena, rng| {
            let forth = (number % 2) as usize;
            let (source, target) = match number {
                0..=5 => (files[forth], files[1 - forth]),
                _ => (files[forth], files[forth]),
            };
            let pages = |rng: &mut Rng| rng.below(12) * 4096;
            let range = CopyRange {
                source,
                source_offset: pages(rng),
                target,
                target_offset: pages(rng),
                len: 1 + rng.below(20_000),
            };
            allow(
                arena.volume.copy_range(&range, number.is_multiple_of(3)),
                &[InvalidArgument],
            );
        })
    };
    let write = |number: u64| {
        arena.job(move |arena, rng| {
            let file = files[(number % 2) as usize];
            arena
                .write(file, rng.below(90_000), &[number as u8; 5000])
                .unwrap();
            let mut out = [0; 5000];
            arena.volume.read(file, rng.below(90_000), &mut out).unwrap();
        })
    };
    Race::new("opposite copies")
        .with("copy", 8, copy)
        .with("write", 2, write)
        .run(time());
    arena.check();
}

#[test]
fn attributes_and_bytes_of_one_file() {
    let arena = Arena::new(64 << 20);
    let file = arena.file(Ino::ROOT, "a", &pattern(1, 50_000));
    let job = |_| {
        arena.job(move |arena, rng| {
            let volume = &arena.volume;
            let offset = rng.below(100_000);
            let range = ByteRange::at(offset, 1 + rng.below(30_000)).unwrap();
            match rng.below(12) {
                0 => drop(
                    volume
                        .write(file, WriteAt::Offset(offset), &[1; 3000], true)
                        .unwrap(),
                ),
                1 => drop(volume.write(file, WriteAt::End, &[2; 100], false).unwrap()),
                2 => drop(volume.read(file, offset, &mut [0; 9000])),
                3 => {
                    let size = Some(rng.below(120_000));
                    let changes = SetAttr {
                        size,
                        mode: Some(0o6755),
                        ..SetAttr::default()
                    };
                    volume.setattr(USER, file, &changes).unwrap();
                }
                4 => {
                    let mtime = Some(TimeOrNow::Now);
                    let changes = SetAttr {
                        mtime,
                        uid: Some(7),
                        ..SetAttr::default()
                    };
                    volume.setattr(USER, file, &changes).unwrap();
                }
                5 => volume.fallocate(file, range, Fallocate::Punch).unwrap(),
                6 => volume
                    .fallocate(file, range, Fallocate::Zero { keep_size: true })
                    .unwrap(),
                7 => volume
                    .fallocate(file, range, Fallocate::Allocate { keep_size: false })
                    .unwrap(),
                8 => drop(allow(volume.seek(file, offset, SeekTo::Data), &[BeyondEnd])),
                9 => volume
                    .setxattr(USER, file, b"user.a", &[3; 500], XattrMode::Set)
                    .unwrap(),
                10 => drop(allow(volume.removexattr(file, b"user.a"), &[NoAttribute])),
                _ => {
                    volume.getattr(file).unwrap();
                    volume.listxattr(USER, file).unwrap();
                    volume.stat();
                    volume.statfs();
                }
            }
        })
    };
    let checks = |_| arena.job(|arena, _| arena.check_meanwhile());
    Race::new("one file")
        .with("use", 8, job)
        .with("check", 1, checks)
        .run(time());
    arena.check();
}

#[test]
fn the_last_name_and_the_last_lookup_go_at_once() {
    let arena = Arena::new(64 << 20);
    let empty = arena.volume.stat();
    let job = |number: u64| {
        arena.job(move |arena, _| {
            let name = format!("{}", number / 2);
            if let Some(made) = allow(arena.make(Ino::ROOT, &name, NewNode::Regular), &[Exists]) {
                allow(arena.write(made.ino, 0, &[1; 20_000]), &[Stale]);
                arena.volume.forget(made.ino, 1);
            }
            if let Some(found) = allow(arena.volume.lookup(Ino::ROOT, name.as_bytes()), &[NotFound]) {
                allow(arena.volume.unlink(Ino::ROOT, name.as_bytes()), &[NotFound]);
                // it is held, so it can be used whether or not another thread has removed its name
                arena.volume.read(found.ino, 0, &mut [0; 100]).unwrap();
                arena.volume.forget(found.ino, 1);
            }
        })
    };
    let list = |_| arena.job(|arena, _| drop(arena.names(Ino::ROOT)));
    Race::new("last use")
        .with("use", 8, job)
        .with("list", 1, list)
        .run(time());
    for name in arena.names(Ino::ROOT) {
        arena.volume.unlink(Ino::ROOT, &name).unwrap();
    }
    arena.check();
    assert_eq!(arena.volume.stat(), empty, "nothing stays when all is gone");
}

#[test]
fn a_full_volume_goes_on() {
    let arena = Arena::new(2 << 20);
    let empty = arena.volume.stat();
    let job = |number: u64| {
        arena.job(move |arena, rng| {
            let name = format!("{number}-{}", rng.below(5));
            if let Some(made) = allow(arena.make(Ino::ROOT, &name, NewNode::Regular), &[Exists, NoSpace]) {
                let bytes = pattern(1 + number as u32 * 4, rng.below(300_000));
                let written = allow(arena.write(made.ino, 0, &bytes), &[NoSpace]).unwrap_or(0);
                let mut read = vec![0; bytes.len()];
                let len = arena.volume.read(made.ino, 0, &mut read).unwrap();
                assert!(read[..len] == bytes[..written], "what was written is read");
                arena.volume.forget(made.ino, 1);
            }
            if rng.percent(70) {
                allow(arena.volume.unlink(Ino::ROOT, name.as_bytes()), &[NotFound]);
            }
        })
    };
    let checks = |_| arena.job(|arena, _| arena.check_meanwhile());
    Race::new("full")
        .with("fill", 7, job)
        .with("check", 1, checks)
        .run(time());
    for name in arena.names(Ino::ROOT) {
        arena.volume.unlink(Ino::ROOT, &name).unwrap();
    }
    arena.check();
    let left = arena.volume.stat();
    assert_eq!(
        (left.usage, left.inodes),
        (empty.usage, empty.inodes),
        "nothing stays when all is gone"
    );
}

#[test]
fn the_grid_is_used_trimmed_and_checked_under_the_volume() {
    let arena = Arena::new(32 << 20);
    let file = arena.file(Ino::ROOT, "a", b"");
    let keyed = |number: u64| {
        arena.job(move |arena, rng| {
            let index = BlockIndex::new((1 << 40) + rng.below(16)).unwrap();
            let next = BlockIndex::new((1 << 40) + rng.below(16)).unwrap();
            let bytes = [number as u8; 3000];
            allow(
                arena.namespace.put(&[(index, 10, &bytes), (next, 0, &[])]),
                &[NoSpace],
            );
            let slice = Slice { offset: 0, len: 4000 };
            arena
                .namespace
                .get(&[(next, slice), (index, slice)], &mut |_, bytes| {
                    let head = bytes.len().min(10);
                    assert!(
                        bytes[head..]
                            .windows(2)
                            .all(|two| two[0] == two[1] || two[1] == 0),
                        "a put is whole"
                    );
                });
        })
    };
    let use_file = |number: u64| {
        arena.job(move |arena, rng| {
            let range = ByteRange::at(rng.below(1 << 20), 50_000).unwrap();
            allow(
                arena.write(file, range.start, &[number as u8; 40_000]),
                &[NoSpace],
            );
            allow(arena.volume.fallocate(file, range, Fallocate::Punch), &[NoSpace]);
        })
    };
    let tend = |number: u64| {
        arena.job(move |arena, rng| match number {
            0 => drop(arena.grid.trim()),
            1 => arena.check_meanwhile(),
            2 => arena.namespace.set_quota(rng.percent(50).then_some(16 << 20)),
            _ => {
                let name = format!("side{}", rng.below(2));
                if let Some(side) = allow(arena.grid.create_namespace(&name, Some(1 << 20)), &[Exists, Busy])
                {
                    let put = side.put_record(BlockIndex::new(0).unwrap(), &[5; 50_000]);
                    allow(put, &[NoSpace, QuotaExceeded, NotFound]);
                }
                allow(arena.grid.remove_namespace(&name), &[NotFound, Busy]);
                arena.grid.usage();
            }
        })
    };
    Race::new("grid")
        .with("keyed", 3, keyed)
        .with("file", 2, use_file)
        .with("tend", 4, tend)
        .run(time());
    arena.namespace.set_quota(None);
    arena.check();
}

#[test]
fn what_stays_is_listed_once_while_others_come_and_go() {
    let arena = Arena::new(64 << 20);
    let dir = arena.dir(Ino::ROOT, "dir");
    for number in 0..300 {
        arena.file(dir, &format!("stays{number}"), b"");
    }
    let churn = |number: u64| {
        arena.job(move |arena, rng| {
            let name = format!("goes{number}-{}", rng.below(50));
            if allow(arena.try_make(dir, &name, NewNode::Regular), &[Exists]).is_none() {
                arena.volume.unlink(dir, name.as_bytes()).unwrap();
            }
            let moved = format!("moves{number}");
            allow(arena.try_make(dir, &moved, NewNode::Regular), &[Exists]);
            arena.rename((dir, &moved), (dir, &name), PLAIN).unwrap();
        })
    };
    let scan = |_| {
        arena.job(move |arena, rng| {
            let (mut cookie, mut seen) = (0, Vec::new());
            let step = 1 + rng.below(40);
            loop {
                let mut taken = 0;
                arena
                    .volume
                    .readdir(dir, cookie, false, &mut |entry| {
                        if taken == step {
                            return ControlFlow::Break(());
                        }
                        taken += 1;
                        cookie = entry.cookie;
                        if entry.name.starts_with(b"stays") {
                            seen.push(entry.name.to_vec());
                        }
                        ControlFlow::Continue(())
                    })
                    .unwrap();
                if taken == 0 {
                    break;
                }
            }
            let all = seen.len();
            seen.sort();
            seen.dedup();
            assert_eq!((seen.len(), all), (300, 300), "each entry that stays comes once");
        })
    };
    Race::new("scan")
        .with("churn", 4, churn)
        .with("scan", 4, scan)
        .run(time());
    arena.check();
}

/// Sealing takes the gate, the structure lock, an inode's attributes and content, and below them shards of the seals,
/// which writers who open what was sealed take in between.
#[test]
fn sealing_beside_all_that_changes_what_it_looks_at() {
    const LEN: u64 = 64 << 10;
    let arena = Arena::with(32 << 20, Dedup::Inline);
    let files = ["a", "b", "c"].map(|name| arena.file(Ino::ROOT, name, &[1; LEN as usize]));
    let write = |_| {
        arena.job(move |arena, rng| {
            let file = rng.pick(&files);
            let value = 1 + rng.below(2) as u8;
            let (offset, len) = match rng.percent(50) {
                true => (0, LEN),
                false => (rng.below(LEN), 1),
            };
            allow(arena.write(file, offset, &vec![value; len as usize]), &[NoSpace]);
        })
    };
    let change = |_| {
        arena.job(move |arena, rng| {
            let (from, to) = (rng.pick(&files), rng.pick(&files));
            let name = format!("{}", rng.below(3));
            match rng.below(5) {
                0 => drop(allow(arena.volume.create_snapshot(&name), &[Exists, NoSpace])),
                1 => drop(allow(arena.volume.delete_snapshot(&name), &[NotFound])),
                2 => drop(allow(arena.volume.rollback(&name), &[NotFound, NoSpace])),
                3 => {
                    let copy = CopyRange {
                        source: from,
                        source_offset: 0,
                        target: to,
                        target_offset: 0,
                        len: LEN / 2,
                    };
                    allow(arena.volume.copy_range(&copy, false), &[InvalidArgument, NoSpace]);
                }
                _ => {
                    let made = arena.try_make(Ino::ROOT, &name, NewNode::Regular);
                    if allow(made, &[Exists, NoSpace]).is_none() {
                        allow(
                            arena.volume.unlink(Ino::ROOT, name.as_bytes()),
                            &[NotFound, NoSpace],
                        );
                    }
                }
            }
        })
    };
    let read = |_| {
        arena.job(move |arena, rng| {
            let mut bytes = vec![0; LEN as usize];
            let len = arena.volume.read(rng.pick(&files), 0, &mut bytes).unwrap();
            assert!(
                bytes[..len].iter().all(|byte| (1..=2).contains(byte)),
                "bytes of nobody"
            );
        })
    };
    let seal = |_| {
        arena.job(|arena, _| {
            arena.volume.seal_all();
        })
    };
    let checks = |_| arena.job(|arena, _| arena.check_meanwhile());
    Race::new("sealing")
        .with("write", 3, write)
        .with("change", 2, change)
        .with("read", 1, read)
        .with("seal", 2, seal)
        .with("check", 1, checks)
        .run(time());
    arena.check();
}
