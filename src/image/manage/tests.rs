//! Tests on a real volume.

use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::clock::SystemClock;
use crate::fs::{Volume, VolumeConfig};
use crate::grid::{Grid, GridConfig};
use crate::image::Images;
use crate::vfs::{Ino, SetAttr};

const SIZE: u64 = 1 << 20;

/// A drive with an image `base` that is full of bytes, and what others are told.
struct Drive {
    grid: Arc<Grid>,
    fs: Arc<Volume>,
    images: Arc<Images>,
    told: Arc<Mutex<Vec<Outdated>>>,
}

impl Drive {
    fn new(size: u64) -> Self {
        let grid = Grid::new(GridConfig::with_size(size)).expect("the budget is fine");
        let namespace = grid.create_namespace("drive", None).expect("a fresh name");
        let fs = Volume::new(&grid, namespace, Arc::new(SystemClock), VolumeConfig::default())
            .expect("a root fits");
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = Arc::clone(&told);
        let images = Images::new(Arc::clone(&fs) as Arc<dyn Vfs>, false, move |outdated| {
            tell.lock().extend_from_slice(outdated);
        });
        let drive = Self {
            grid,
            fs,
            images,
            told,
        };
        let directory = drive.create(Ino::ROOT, "images", NewNode::Directory);
        let base = drive.create(directory, "base", NewNode::Regular);
        let bytes: Vec<u8> = (0..SIZE).map(|at| (at % 251) as u8).collect();
        drive
            .fs
            .write(base, WriteAt::Offset(0), &bytes, false)
            .expect("there is room");
        drive
    }

    fn create(&self, parent: Ino, name: &str, node: NewNode<'_>) -> Ino {
        let at = NewName {
            parent,
            name: name.as_bytes(),
            mode: 0o640,
            umask: 0,
        };
        let caller = Caller { uid: 7, gid: 8 };
        self.fs.create(caller, at, node).expect("there is room").ino
    }

    fn make(&self, base: &str, new: &NewImage) -> Result<()> {
        self.images.manage(|manager| manager.make(&name(base), new))
    }

    fn find(&self, path: &str) -> Option<Attr> {
        let directory = self.fs.lookup(Ino::ROOT, b"images").expect("it is there");
        let found = self.fs.lookup(directory.ino, path.as_bytes()).ok();
        if let Some(attr) = &found {
            self.fs.forget(attr.ino, 1);
        }
        self.fs.forget(directory.ino, 1);
        found
    }

    fn bytes(&self, image: &str) -> Vec<u8> {
        let attr = self.find(image).expect("it is there");
        let mut bytes = vec![0; attr.size as usize];
        let len = self.fs.read(attr.ino, 0, &mut bytes).expect("a file can be read");
        assert_eq!(len, bytes.len());
        bytes
    }

    fn entries(&self) -> Vec<String> {
        let directory = self.fs.lookup(Ino::ROOT, b"images").expect("it is there").ino;
        let mut names = Vec::new();
        self.fs
            .readdir(directory, 0, false, &mut |entry| {
                names.push(String::from_utf8_lossy(entry.name).into_owned());
                std::ops::ControlFlow::Continue(())
            })
            .expect("a directory can be listed");
        self.fs.forget(directory, 1);
        names.retain(|name| name != "." && name != "..");
        names.sort();
        names
    }
}

impl Drop for Drive {
    /// No look-up may be left behind: the count of each inode is what the check compares.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.fs.check().expect("the volume fits together");
            self.grid.check().expect("the grid fits together");
        }
    }
}

fn name(name: &str) -> Name {
    Name::new(name).expect("a fine name")
}

fn new(image: &str) -> NewImage {
    NewImage {
        name: name(image),
        ip: None,
        fleet: None,
        patches: Vec::new(),
    }
}

fn patch(offset: u64, bytes: &[u8]) -> Patch {
    Patch {
        offset,
        bytes: bytes.to_vec(),
    }
}

#[test]
fn a_clone_has_the_bytes_of_its_base_with_the_patches_and_a_record() {
    let drive = Drive::new(16 << 20);
    let held = drive.grid.usage().held_bytes;
    let clone = NewImage {
        ip: Some("10.0.0.3".into()),
        fleet: Some("10.0.0.0/24".into()),
        patches: vec![
            patch(4096, &[7; 4096]),
            patch(SIZE - 3, b"end"),
            patch(4097, b"later"),
        ],
        ..new("clone")
    };
    drive.make("base", &clone).expect("there is room");
    let mut expected = drive.bytes("base");
    expected[4096..8192].fill(7);
    expected[4097..4102].copy_from_slice(b"later");
    expected[SIZE as usize - 3..].copy_from_slice(b"end");
    assert_eq!(drive.bytes("clone"), expected);
    assert_eq!(drive.grid.usage().held_bytes, held + 2 * 4096);
    let attr = drive.find("clone").expect("it is there");
    assert_eq!((attr.uid, attr.gid, attr.mode), (7, 8, 0o640));
    let record = Record::read(&*drive.fs, attr.ino).expect("the file is there");
    assert_eq!(record.base, Some(name("base")));
    assert_eq!(record.ip.as_deref(), Some("10.0.0.3"));
    assert_eq!(record.fleet.as_deref(), Some("10.0.0.0/24"));
    assert_eq!(drive.entries(), ["base", "clone"]);
}

#[test]
fn others_are_told_of_the_directory_and_of_both_names() {
    let drive = Drive::new(16 << 20);
    drive.make("base", &new("clone")).expect("there is room");
    let told = drive.told.lock();
    let entries: Vec<_> = told
        .iter()
        .filter_map(|outdated| match outdated {
            Outdated::Entry { name, .. } => Some(String::from_utf8_lossy(name).into_owned()),
            _ => None,
        })
        .collect();
    assert!(matches!(entries.as_slice(), [draft, name] if draft.starts_with(".okapi-") && name == "clone"));
    assert!(matches!(told.first(), Some(Outdated::Inode(_))));
}

#[test]
fn what_cannot_be_made_leaves_nothing() {
    let drive = Drive::new(16 << 20);
    let before = drive.fs.stat();
    let fails = |base: &str, clone: &NewImage| drive.make(base, clone).expect_err("it cannot be made").kind();
    assert_eq!(fails("nobody", &new("clone")), ErrorKind::NotFound);
    assert_eq!(fails("base", &new("base")), ErrorKind::Exists);
    for patches in [vec![patch(SIZE - 1, b"ab")], vec![patch(u64::MAX, b"a")]] {
        let clone = NewImage {
            patches,
            ..new("clone")
        };
        assert_ne!(fails("base", &clone), ErrorKind::NoSpace);
    }
    let full = NewImage {
        patches: (0..64)
            .map(|n| patch(n % 2 * 4096, &vec![n as u8; 1 << 19]))
            .collect(),
        ..new("clone")
    };
    drop(drive);
    let drive = Drive::new(3 << 19);
    assert_eq!(
        drive.make("base", &full).expect_err("too much").kind(),
        ErrorKind::NoSpace
    );
    assert_eq!(drive.entries(), ["base"]);
    assert_eq!(drive.fs.stat().inodes, before.inodes);
}

#[test]
fn a_base_of_any_shape_is_cloned() {
    let drive = Drive::new(16 << 20);
    let base = drive.find("base").expect("it is there").ino;
    for size in [0, 1, 4095, (1 << 40) + 512] {
        let size = SetAttr {
            size: Some(size),
            ..SetAttr::default()
        };
        drive
            .fs
            .setattr(Caller::default(), base, &size)
            .expect("a hole fits");
        let clone = new(&format!("clone-{}", size.size.expect("it was just set")));
        drive.make("base", &clone).expect("there is room");
        let attr = drive.find(clone.name.as_str()).expect("it is there");
        assert_eq!(Some(attr.size), size.size);
    }
}

#[test]
fn a_record_that_makes_no_sense_counts_as_missing() {
    let drive = Drive::new(16 << 20);
    let ino = drive.find("base").expect("it is there").ino;
    let long = vec![b'1'; 4096];
    for value in [&b""[..], b"\xff", b"a\nb", &long] {
        for attribute in ["user.okapi.base", "user.okapi.ip", "user.okapi.fleet"] {
            drive
                .fs
                .setxattr(
                    Caller::default(),
                    ino,
                    attribute.as_bytes(),
                    value,
                    crate::vfs::XattrMode::Set,
                )
                .expect("any value can be set");
        }
        assert_eq!(
            Record::read(&*drive.fs, ino).expect("the file is there"),
            Record::default()
        );
    }
    Record::default().write(&*drive.fs, ino).expect("they can go");
    let left = drive
        .fs
        .listxattr(Caller::default(), ino)
        .expect("the file is there");
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn nothing_is_changed_where_the_drive_refuses_it() {
    let drive = Drive::new(16 << 20);
    let images = Images::new(Arc::clone(&drive.fs) as Arc<dyn Vfs>, true, |_| {});
    let error = images
        .manage(|manager| manager.make(&name("base"), &new("clone")))
        .expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::ReadOnly);
    assert_eq!(drive.entries(), ["base"]);
}
