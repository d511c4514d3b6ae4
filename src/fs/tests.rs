//! Behaviour of the volume through the `Vfs` trait.

mod compare;
mod compress;
mod defrag;
mod forks;
mod seal;
mod snapshots;
mod usage;

use std::ops::ControlFlow;
use std::sync::Arc;

use super::{Dedup, Volume, VolumeConfig};
use crate::ErrorKind;
use crate::clock::{ManualClock, Timestamp};
use crate::grid::{Charge, Grid, GridConfig};
use crate::range::ByteRange;
use crate::vfs::{
    Attr, Caller, CopyRange, DirEntry, Fallocate, FileKind, Ino, NewName, NewNode, RenameMode, SeekTo,
    SetAttr, TimeOrNow, Vfs, WriteAt, XattrMode,
};

const USER: Caller = Caller { uid: 1000, gid: 100 };

/// A volume in a grid of its own.
struct Fixture {
    volume: Arc<Volume>,
    grid: Arc<Grid>,
}

impl Fixture {
    fn new(size_bytes: u64) -> Self {
        Self::with(size_bytes, Dedup::Off)
    }

    fn with(size_bytes: u64, dedup: Dedup) -> Self {
        let grid = Grid::new(GridConfig::with_size(size_bytes)).unwrap();
        let namespace = grid.create_namespace("drive", None).unwrap();
        let volume = Volume::new(
            &grid,
            namespace,
            Arc::new(ManualClock::new()),
            VolumeConfig {
                dedup,
                ..VolumeConfig::default()
            },
        )
        .unwrap();
        Self { volume, grid }
    }

    fn make(&self, parent: Ino, name: &str, node: NewNode<'_>) -> Attr {
        let at = NewName {
            parent,
            name: name.as_bytes(),
            mode: 0o644,
            umask: 0,
        };
        self.volume.create(USER, at, node).unwrap()
    }

    fn file(&self, parent: Ino, name: &str) -> Ino {
        self.make(parent, name, NewNode::Regular).ino
    }

    fn dir(&self, parent: Ino, name: &str) -> Ino {
        self.make(parent, name, NewNode::Directory).ino
    }

    fn write(&self, ino: Ino, offset: u64, bytes: &[u8]) {
        let written = self
            .volume
            .write(ino, WriteAt::Offset(offset), bytes, false)
            .unwrap();
        assert_eq!(written.len, bytes.len());
    }

    fn read(&self, ino: Ino) -> Vec<u8> {
        let mut bytes = vec![0xee; 1 << 20];
        let len = self.volume.read(ino, 0, &mut bytes).unwrap();
        bytes.truncate(len);
        bytes
    }

    fn rename(&self, from: (Ino, &str), to: (Ino, &str), mode: RenameMode) -> Result<(), ErrorKind> {
        let (from, to) = ((from.0, from.1.as_bytes()), (to.0, to.1.as_bytes()));
        self.volume
            .rename(USER, from, to, mode)
            .map_err(|error| error.kind())
    }

    fn names(&self, dir: Ino) -> Vec<String> {
        let mut names = Vec::new();
        let mut visit = |entry: crate::vfs::DirEntry<'_>| {
            names.push(String::from_utf8_lossy(entry.name).into_owned());
            ControlFlow::Continue(())
        };
        self.volume.readdir(dir, 2, false, &mut visit).unwrap();
        names
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.volume.check().unwrap();
            self.grid.check().unwrap();
        }
    }
}

#[test]
fn an_unlinked_file_lives_until_it_is_forgotten() {
    let fixture = Fixture::new(1 << 24);
    let before = fixture.volume.stat();
    let ino = fixture.file(Ino::ROOT, "a");
    fixture.write(ino, 0, b"still here");
    fixture.volume.unlink(Ino::ROOT, b"a").unwrap();
    assert_eq!(fixture.read(ino), b"still here");
    assert_eq!(fixture.volume.getattr(ino).unwrap().nlink, 0);
    fixture.volume.forget(ino, 1);
    assert_eq!(fixture.volume.getattr(ino).unwrap_err().kind(), ErrorKind::Stale);
    assert_eq!(fixture.volume.stat(), before);
}

#[test]
fn a_directory_hands_its_group_down_when_it_is_set_group_id() {
    let fixture = Fixture::new(1 << 24);
    let dir = fixture.dir(Ino::ROOT, "d");
    let changes = SetAttr {
        mode: Some(0o2775),
        gid: Some(7),
        ..SetAttr::default()
    };
    fixture.volume.setattr(USER, dir, &changes).unwrap();
    fixture
        .volume
        .setattr(
            USER,
            dir,
            &SetAttr {
                mode: Some(0o2775),
                ..SetAttr::default()
            },
        )
        .unwrap();
    let file = fixture.make(dir, "f", NewNode::Regular);
    let below = fixture.make(dir, "d", NewNode::Directory);
    assert_eq!((file.gid, file.mode), (7, 0o644));
    assert_eq!((below.gid, below.mode), (7, 0o2644));
}

#[test]
fn a_change_of_owner_clears_privileges() {
    let fixture = Fixture::new(1 << 24);
    let ino = fixture.file(Ino::ROOT, "a");
    let mode = |mode| SetAttr {
        mode: Some(mode),
        ..SetAttr::default()
    };
    fixture.volume.setattr(USER, ino, &mode(0o6755)).unwrap();
    let chown = SetAttr {
        uid: Some(5),
        ..SetAttr::default()
    };
    assert_eq!(fixture.volume.setattr(USER, ino, &chown).unwrap().mode, 0o755);
    fixture.volume.setattr(USER, ino, &mode(0o6745)).unwrap();
    fixture.volume.write(ino, WriteAt::End, b"x", true).unwrap();
    assert_eq!(
        fixture.volume.getattr(ino).unwrap().mode,
        0o2745,
        "mandatory-lock style set-group-ID stays"
    );
}

#[test]
fn rename_replaces_exchanges_and_leaves_whiteouts() {
    let fixture = Fixture::new(1 << 24);
    let (a, b) = (fixture.file(Ino::ROOT, "a"), fixture.file(Ino::ROOT, "b"));
    let dir = fixture.dir(Ino::ROOT, "d");
    let plain = RenameMode::default();
    let no_replace = RenameMode {
        no_replace: true,
        ..plain
    };
    let exchange = RenameMode {
        exchange: true,
        ..plain
    };
    let whiteout = RenameMode {
        whiteout: true,
        ..plain
    };
    assert_eq!(
        fixture.rename((Ino::ROOT, "a"), (Ino::ROOT, "b"), no_replace),
        Err(ErrorKind::Exists)
    );
    assert_eq!(
        fixture.rename((Ino::ROOT, "a"), (Ino::ROOT, "d"), plain),
        Err(ErrorKind::IsDirectory)
    );
    assert_eq!(
        fixture.rename((Ino::ROOT, "d"), (Ino::ROOT, "a"), plain),
        Err(ErrorKind::NotDirectory)
    );
    assert_eq!(
        fixture.rename((Ino::ROOT, "d"), (dir, "x"), plain),
        Err(ErrorKind::InvalidArgument)
    );
    fixture
        .rename((Ino::ROOT, "a"), (Ino::ROOT, "d"), exchange)
        .unwrap();
    assert_eq!(fixture.names(Ino::ROOT), ["a", "b", "d"]);
    assert_eq!(fixture.volume.lookup(Ino::ROOT, b"d").unwrap().ino, a);
    fixture.rename((Ino::ROOT, "b"), (dir, "b"), whiteout).unwrap();
    assert_eq!(fixture.volume.lookup(dir, b"b").unwrap().ino, b);
    let left = fixture.volume.lookup(Ino::ROOT, b"b").unwrap();
    assert_eq!((left.kind, left.rdev), (FileKind::CharDevice, 0));
    assert_eq!(fixture.volume.getattr(Ino::ROOT).unwrap().nlink, 3);
    fixture.rename((Ino::ROOT, "d"), (dir, "b"), plain).unwrap();
    assert_eq!(fixture.volume.getattr(b).unwrap().nlink, 0);
}

#[test]
fn a_directory_moves_with_what_is_below_it() {
    let fixture = Fixture::new(1 << 24);
    let one = fixture.dir(Ino::ROOT, "one");
    let two = fixture.dir(Ino::ROOT, "two");
    let below = fixture.dir(one, "below");
    fixture.file(below, "f");
    fixture
        .rename((one, "below"), (two, "moved"), RenameMode::default())
        .unwrap();
    assert_eq!(fixture.volume.lookup(below, b"..").unwrap().ino, two);
    let links = |ino| fixture.volume.getattr(ino).unwrap().nlink;
    assert_eq!((links(one), links(two)), (2, 3));
    let onto = fixture.rename((Ino::ROOT, "one"), (two, "moved"), RenameMode::default());
    assert_eq!(onto, Err(ErrorKind::NotEmpty));
    let up = fixture.rename((two, "moved"), (Ino::ROOT, "two"), RenameMode::default());
    assert_eq!(up, Err(ErrorKind::NotEmpty));
}

#[test]
fn nothing_is_added_to_a_removed_directory() {
    let fixture = Fixture::new(1 << 24);
    let dir = fixture.dir(Ino::ROOT, "d");
    fixture.volume.rmdir(Ino::ROOT, b"d").unwrap();
    let at = NewName {
        parent: dir,
        name: b"f",
        mode: 0o644,
        umask: 0,
    };
    assert_eq!(
        fixture
            .volume
            .create(USER, at, NewNode::Regular)
            .unwrap_err()
            .kind(),
        ErrorKind::NotFound
    );
    let file = fixture.file(Ino::ROOT, "f");
    assert_eq!(
        fixture.volume.link(file, dir, b"f").unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(
        fixture.rename((Ino::ROOT, "f"), (dir, "f"), RenameMode::default()),
        Err(ErrorKind::NotFound)
    );
}

#[test]
fn a_full_volume_refuses_cleanly_and_recovers() {
    let fixture = Fixture::new(2 << 20);
    let ino = fixture.file(Ino::ROOT, "f");
    let chunk = vec![7u8; 64 << 10];
    let mut size = 0;
    let error = loop {
        match fixture.volume.write(ino, WriteAt::End, &chunk, false) {
            Ok(written) => size += written.len as u64,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    let attr = fixture.volume.getattr(ino).unwrap();
    assert_eq!(attr.size, size);
    assert_eq!(fixture.read(ino).len() as u64, size.min(1 << 20));
    let mut made = 0;
    while fixture
        .volume
        .create(
            USER,
            NewName {
                parent: Ino::ROOT,
                name: format!("{made}").as_bytes(),
                mode: 0,
                umask: 0,
            },
            NewNode::Fifo,
        )
        .is_ok()
    {
        made += 1;
    }
    assert_eq!(fixture.names(Ino::ROOT).len(), made + 1);
    fixture.volume.unlink(Ino::ROOT, b"f").unwrap();
    fixture.volume.forget(ino, 1);
    let again = fixture.file(Ino::ROOT, "again");
    fixture.write(again, 0, &chunk);
}

#[test]
fn holes_preallocation_and_shared_ranges() {
    let fixture = Fixture::new(1 << 24);
    let ino = fixture.file(Ino::ROOT, "sparse");
    fixture.write(ino, 1 << 20, b"end");
    assert_eq!(fixture.volume.seek(ino, 0, SeekTo::Data).unwrap(), 1 << 20);
    assert_eq!(fixture.volume.seek(ino, 0, SeekTo::Hole).unwrap(), 0);
    assert_eq!(
        fixture
            .volume
            .seek(ino, (1 << 20) + 3, SeekTo::Data)
            .unwrap_err()
            .kind(),
        ErrorKind::BeyondEnd
    );
    let range = ByteRange { start: 0, end: 8192 };
    fixture
        .volume
        .fallocate(ino, range, Fallocate::Allocate { keep_size: true })
        .unwrap();
    assert!(fixture.volume.getattr(ino).unwrap().blocks >= 16);
    let copy = fixture.file(Ino::ROOT, "copy");
    let everything = CopyRange {
        source: ino,
        source_offset: 0,
        target: copy,
        target_offset: 0,
        len: 1 << 30,
    };
    assert_eq!(
        fixture.volume.copy_range(&everything, false).unwrap(),
        (1 << 20) + 3
    );
    assert_eq!(fixture.read(copy), fixture.read(ino));
    let overlapping = CopyRange {
        source: ino,
        source_offset: 0,
        target: ino,
        target_offset: 1,
        len: 2,
    };
    let error = fixture.volume.copy_range(&overlapping, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    fixture
        .volume
        .fallocate(
            ino,
            ByteRange {
                start: 1 << 20,
                end: 2 << 20,
            },
            Fallocate::Punch,
        )
        .unwrap();
    assert_eq!(
        fixture.volume.seek(ino, 8192, SeekTo::Data).unwrap_err().kind(),
        ErrorKind::BeyondEnd
    );
    assert_eq!(fixture.volume.getattr(ino).unwrap().size, (1 << 20) + 3);
}

#[test]
fn extended_attributes_are_bounded_and_charged() {
    let fixture = Fixture::new(1 << 24);
    let ino = fixture.file(Ino::ROOT, "f");
    let before = fixture.volume.stat();
    let set = |name: &[u8], value: &[u8], mode| {
        fixture
            .volume
            .setxattr(USER, ino, name, value, mode)
            .map_err(|error| error.kind())
    };
    set(b"user.a", b"1", XattrMode::Create).unwrap();
    assert_eq!(set(b"user.a", b"2", XattrMode::Create), Err(ErrorKind::Exists));
    assert_eq!(
        set(b"user.b", b"2", XattrMode::Replace),
        Err(ErrorKind::NoAttribute)
    );
    assert_eq!(
        set(b"user.big", &vec![0; 65537], XattrMode::Set),
        Err(ErrorKind::TooLarge)
    );
    assert_eq!(
        set(b"system.unknown", b"", XattrMode::Set),
        Err(ErrorKind::NotSupported)
    );
    set(b"user.a", b"longer", XattrMode::Replace).unwrap();
    assert_eq!(&*fixture.volume.getxattr(ino, b"user.a").unwrap(), b"longer");
    assert_eq!(fixture.volume.listxattr(USER, ino).unwrap(), b"user.a\0");
    fixture.volume.removexattr(ino, b"user.a").unwrap();
    assert_eq!(
        fixture.volume.removexattr(ino, b"user.a").unwrap_err().kind(),
        ErrorKind::NoAttribute
    );
    assert_eq!(fixture.volume.stat(), before);
}

#[test]
fn access_times_follow_relatime() {
    let fixture = Fixture::new(1 << 24);
    let ino = fixture.file(Ino::ROOT, "f");
    fixture.write(ino, 0, b"x");
    fixture.read(ino);
    let first = fixture.volume.getattr(ino).unwrap().atime;
    fixture.read(ino);
    assert_eq!(fixture.volume.getattr(ino).unwrap().atime, first);
    let early = Timestamp {
        secs: -5,
        nanos: 999_999_999,
    };
    let changes = SetAttr {
        atime: Some(TimeOrNow::At(early)),
        ..SetAttr::default()
    };
    assert_eq!(fixture.volume.setattr(USER, ino, &changes).unwrap().atime, early);
    fixture.read(ino);
    assert_ne!(fixture.volume.getattr(ino).unwrap().atime, early);
}

#[test]
fn a_listing_counts_look_ups_only_of_entries_it_took() {
    let fixture = Fixture::new(1 << 24);
    let ino = fixture.file(Ino::ROOT, "f");
    fixture.volume.forget(ino, 1);
    let mut stop = |_: crate::vfs::DirEntry<'_>| ControlFlow::Break(());
    fixture.volume.readdir(Ino::ROOT, 2, true, &mut stop).unwrap();
    fixture.volume.unlink(Ino::ROOT, b"f").unwrap();
    assert_eq!(fixture.volume.getattr(ino).unwrap_err().kind(), ErrorKind::Stale);
}

#[test]
fn a_dot_names_an_inode_of_any_kind() {
    let fixture = Fixture::new(1 << 20);
    let ino = fixture.file(Ino::ROOT, "file");
    assert_eq!(fixture.volume.lookup(ino, b".").unwrap().ino, ino);
    for name in ["..", "name", &"n".repeat(300)] {
        let error = fixture.volume.lookup(ino, name.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotDirectory);
    }
    fixture.volume.forget(ino, 1);
    fixture.volume.unlink(Ino::ROOT, b"file").unwrap();
    assert!(fixture.volume.getattr(ino).is_ok(), "a look-up of `.` counts");
    fixture.volume.forget(ino, 1);
    assert!(fixture.volume.getattr(ino).is_err());
}

#[test]
fn a_check_never_meets_an_inode_half_dead() {
    let fixture = Fixture::new(64 << 20);
    let volume = &fixture.volume;
    for n in 0..500 {
        fixture.file(Ino::ROOT, &format!("ballast{n}"));
    }
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            for n in 0..5000 {
                let name = format!("file{n}");
                let ino = fixture.file(Ino::ROOT, &name);
                volume.unlink(Ino::ROOT, name.as_bytes()).unwrap();
                volume.forget(ino, 1);
            }
        });
        while !worker.is_finished() {
            volume.check().unwrap();
        }
    });
}

#[test]
fn a_directory_never_replaces_one_that_it_is_below() {
    let fixture = Fixture::new(4 << 20);
    let a = fixture.dir(Ino::ROOT, "a");
    let b = fixture.dir(a, "b");
    fixture.dir(b, "c");
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let visit = &mut |_: DirEntry<'_>| ControlFlow::Continue(());
                (0..20_000).for_each(|_| fixture.volume.readdir(a, 0, true, visit).unwrap());
            });
            while !reader.is_finished() {
                let refused = fixture.rename((b, "c"), (Ino::ROOT, "a"), RenameMode::default());
                assert_eq!(refused, Err(ErrorKind::NotEmpty));
            }
        });
        done.send(()).unwrap();
    });
    let patience = std::time::Duration::from_secs(30);
    finished
        .recv_timeout(patience)
        .expect("a listing and a rename do not wait for each other");
}

#[test]
fn a_zeroed_range_is_zeros_while_the_grid_looks_at_its_blocks() {
    let fixture = Fixture::new(64 << 20);
    let ino = fixture.file(Ino::ROOT, "file");
    let range = ByteRange::at(0, 1 << 20).unwrap();
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            for round in 0..300 {
                fixture.write(ino, 0, &[7; 1 << 20]);
                let zero = Fallocate::Zero { keep_size: false };
                fixture.volume.fallocate(ino, range, zero).unwrap();
                assert!(fixture.read(ino).iter().all(|&byte| byte == 0), "round {round}");
            }
        });
        while !worker.is_finished() {
            // It may find the grid too busy.
            let _ = fixture.grid.check();
        }
    });
}

#[test]
fn what_a_full_volume_has_can_be_overwritten_while_the_grid_looks_at_it() {
    let fixture = Fixture::new(4 << 20);
    let volume = &fixture.volume;
    let ino = fixture.file(Ino::ROOT, "file");
    let mut len = 0;
    while let Ok(written) = volume.write(ino, WriteAt::Offset(len), &[1; 4096], false) {
        len += written.len as u64;
    }
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            for byte in 0..20 {
                (0..len / 4096).for_each(|page| fixture.write(ino, page * 4096, &[byte; 4096]));
            }
        });
        while !worker.is_finished() {
            // It may find the grid too busy.
            let _ = fixture.grid.check();
        }
    });
}

#[test]
fn a_page_copied_over_and_over_is_bounded_by_the_size() {
    let fixture = Fixture::new(4 << 20);
    let before = fixture.volume.stat();
    let ino = fixture.file(Ino::ROOT, "f");
    fixture.write(ino, 0, &[7; 4096]);
    let mut len = 4096;
    let error = loop {
        let copy = CopyRange {
            source: ino,
            source_offset: 0,
            target: ino,
            target_offset: len,
            len,
        };
        match fixture.volume.copy_range(&copy, false) {
            Ok(copied) => len += copied,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    let charged = fixture.volume.stat().usage.metadata_bytes;
    assert!(
        charged >= len / 4096 * 24,
        "{charged} bytes are charged for {len} bytes of one page"
    );
    let truncate = SetAttr {
        size: Some(4096),
        ..SetAttr::default()
    };
    fixture.volume.setattr(USER, ino, &truncate).unwrap();
    assert!(
        fixture.volume.stat().usage.metadata_bytes < 2048,
        "a cut gives back"
    );
    fixture.volume.unlink(Ino::ROOT, b"f").unwrap();
    fixture.volume.forget(ino, 1);
    assert_eq!(fixture.volume.stat(), before);
}

#[test]
fn clones_cost_an_inode_and_the_check_counts_their_nodes_once() {
    let fixture = Fixture::new(64 << 20);
    let volume = &fixture.volume;
    let base = fixture.file(Ino::ROOT, "base");
    (0..40).for_each(|block| fixture.write(base, block << 16, &[7; 1 << 16]));
    let files: Vec<Ino> = (0..20)
        .map(|number| fixture.file(Ino::ROOT, &format!("clone{number}")))
        .collect();
    let charged = || volume.stat().usage.metadata_bytes;
    let before = charged();
    for &target in &files {
        let copy = CopyRange {
            source: base,
            source_offset: 0,
            target,
            target_offset: 0,
            len: 1 << 40,
        };
        assert_eq!(volume.copy_range(&copy, false).unwrap(), 40 << 16);
    }
    assert_eq!(charged(), before);
    volume.create_snapshot("s").unwrap();
    (files.iter().zip(0..)).for_each(|(ino, at)| fixture.write(*ino, at << 17, &[8; 4096]));
    volume.check().unwrap();
    volume.delete_snapshot("s").unwrap();
    volume.unlink(Ino::ROOT, b"base").unwrap();
    volume.forget(base, 1);
    volume.check().unwrap();

    let block = volume.namespace.new_block(1, &[]).unwrap();
    let stray = Charge::beside(&block, 100);
    assert_eq!(volume.check().unwrap_err().kind(), ErrorKind::Corrupt);
    drop((stray, block));
    volume.check().unwrap();
}

#[test]
fn overwriting_a_full_volume_succeeds_while_others_read() {
    let fixture = Fixture::new(4 << 20);
    let ino = fixture.file(Ino::ROOT, "f");
    let chunk = vec![7u8; 64 << 10];
    while fixture.volume.write(ino, WriteAt::End, &chunk, false).is_ok() {}
    let size = fixture.volume.getattr(ino).unwrap().size;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 0..20_000u64 {
                let offset = n * 4096 % (size - 4096);
                fixture.write(ino, offset, &chunk[..4096]);
            }
        });
        while !writer.is_finished() {
            fixture.read(ino);
        }
    });
}
