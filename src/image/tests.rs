//! Images on a real volume.

mod change;
mod disk;
mod fleet;
mod manage;
mod survey;

use std::sync::Arc;

use parking_lot::Mutex;

use super::{Images, Manager, Name, NewImage, Patch, Record};
use crate::clock::SystemClock;
use crate::error::{ErrorKind, Result};
use crate::fs::{Volume, VolumeConfig};
use crate::grid::{Grid, GridConfig};
use crate::vfs::{Attr, Caller, Ino, NewName, NewNode, Outdated, SetAttr, Vfs, WriteAt, XattrMode};

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
        let made = self.fs.create(caller, at, node).expect("there is room");
        self.fs.forget(made.ino, 1);
        made.ino
    }

    fn make(&self, base: &str, new: &NewImage) -> Result<()> {
        self.images.manage(|manager| manager.make(&name(base), new))
    }

    fn clone(&self, base: &str, clone: &str) {
        self.make(base, &new(clone)).expect("there is room");
    }

    fn manage<T>(&self, work: impl FnOnce(&mut Manager<'_>) -> Result<T>) -> Result<T> {
        self.images.manage(work)
    }

    fn ino(&self, image: &str) -> Ino {
        self.find(image).expect("it is there").ino
    }

    fn write(&self, image: &str, offset: u64, bytes: &[u8]) {
        let written = self
            .fs
            .write(self.ino(image), WriteAt::Offset(offset), bytes, false);
        assert_eq!(written.expect("there is room").len, bytes.len());
    }

    fn resize(&self, image: &str, size: u64) {
        let size = SetAttr {
            size: Some(size),
            ..SetAttr::default()
        };
        self.fs
            .setattr(Caller::default(), self.ino(image), &size)
            .expect("a hole fits");
    }

    fn record(&self, image: &str) -> Record {
        Record::read(&*self.fs, self.ino(image)).expect("the file is there")
    }

    fn set_xattr(&self, image: &str, attribute: &str, value: &[u8]) {
        self.fs
            .setxattr(
                Caller::default(),
                self.ino(image),
                attribute.as_bytes(),
                value,
                XattrMode::Set,
            )
            .expect("any value can be set");
    }

    fn xattr(&self, image: &str, attribute: &str) -> Option<Box<[u8]>> {
        self.fs.getxattr(self.ino(image), attribute.as_bytes()).ok()
    }

    fn directory(&self) -> Ino {
        let directory = self.fs.lookup(Ino::ROOT, b"images").expect("it is there").ino;
        self.fs.forget(directory, 1);
        directory
    }

    fn held(&self) -> u64 {
        self.grid.usage().held_bytes
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
        burned: None,
        patches: Vec::new(),
    }
}

fn patch(offset: u64, bytes: &[u8]) -> Patch {
    Patch {
        offset,
        bytes: bytes.to_vec(),
    }
}
