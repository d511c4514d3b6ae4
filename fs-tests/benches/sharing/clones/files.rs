//! Clones that are files: copied by cp(1) and copy_file_range(2) on okapi, XFS and tmpfs.

use super::Work;
use super::store::{Reading, Store, Usage, WRITE_BYTES, write_offset};
use crate::gauge::Memory;
use crate::options::Options;
use fs_tests::bench::machine::{meminfo, used_bytes};
use fs_tests::bench::mounted::{Image, Mounted};
use fs_tests::bench::stream::{Reader, Stream};
use fs_tests::harness::{Drive, Place, Tmpfs, run};
use fs_tests::rng::Rng;
use nix::fcntl::copy_file_range;
use nix::unistd::syncfs;
use std::fs::{self, File, OpenOptions};
use std::io::Seek;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) const OKAPI: &str = "okapi";
pub(crate) const XFS: &str = "XFS reflink";
pub(crate) const TMPFS: &str = "tmpfs copies";

/// Bound on what okapi and XFS may take.
const SIZE: &str = "1G";
const XFS_BYTES: u64 = 1 << 30;
/// XFS would set 128 KiB aside for each page that is copied, and take them back after minutes.
const MKFS_XFS: [&str; 5] = ["-q", "-m", "reflink=1", "-d", "cowextsize=1"];
/// Left to everything else when full copies are made.
const SPARE_BYTES: u64 = 2 << 30;

/// Where the files are.
enum Ground {
    Okapi(Drive),
    Xfs(Mounted),
    Tmpfs(Tmpfs),
}

/// An image and its clones as files.
pub(super) struct Files {
    ground: Ground,
    work: Work,
}

impl Files {
    /// Mounts one of the three, and writes the image.
    pub(super) fn open(name: &str, options: &Options) -> Result<Self, String> {
        let work = options.work;
        let ground = match name {
            OKAPI => Ground::Okapi(options.drive(SIZE)),
            XFS => Ground::Xfs(Mounted::image(
                &Image {
                    mkfs: ("mkfs.xfs", &MKFS_XFS),
                    len_bytes: XFS_BYTES,
                },
                "2G",
            )?),
            TMPFS => Ground::Tmpfs(tmpfs(work)?),
            _ => unreachable!("{name} keeps no files"),
        };
        let files = Self { ground, work };
        let image = File::create_new(files.image()).expect("an empty mount takes a file");
        Stream::new(1)
            .write(&image, work.image_bytes)
            .expect("the image fits");
        files.sync();
        Ok(files)
    }

    fn path(&self) -> &Path {
        match &self.ground {
            Ground::Okapi(drive) => drive.path(),
            Ground::Xfs(mounted) => mounted.path(),
            Ground::Tmpfs(tmpfs) => tmpfs.path(),
        }
    }

    fn image(&self) -> PathBuf {
        self.path().join("image")
    }

    fn clones(&self) -> impl Iterator<Item = PathBuf> {
        (0..self.work.clones).map(|number| self.path().join(format!("clone{number}")))
    }

    /// Has the filesystem put away what it still has in hand.
    fn sync(&self) {
        let root = File::open(self.path()).expect("the mount opens");
        syncfs(&root).expect("a filesystem syncs");
    }
}

/// A tmpfs for full copies, where there is memory for them.
fn tmpfs(work: Work) -> Result<Tmpfs, String> {
    let wanted = ((work.clones + 1) * work.image_bytes) as u64;
    let available = meminfo("MemAvailable");
    if available < wanted + SPARE_BYTES {
        let gib = |bytes: u64| bytes.div_ceil(1 << 30);
        return Err(format!(
            "it needs {} GiB of memory, {} are available",
            gib(wanted + SPARE_BYTES),
            available >> 30
        ));
    }
    Ok(Tmpfs::mount(&(wanted + (64 << 20)).to_string()))
}

/// The bytes that go into a clone; no two get the same.
fn page_of(number: usize) -> [u8; WRITE_BYTES] {
    let mut rng = Rng::new(1000 + number as u64);
    let mut page = [0; WRITE_BYTES];
    for word in page.chunks_exact_mut(8) {
        word.copy_from_slice(&rng.bits().to_le_bytes());
    }
    page
}

impl Store for Files {
    fn clone_by_processes(&self) {
        for clone in self.clones() {
            let mut cp = Command::new("cp");
            if matches!(self.ground, Ground::Xfs(_)) {
                cp.arg("--reflink=always");
            }
            run(cp.arg(self.image()).arg(clone));
        }
    }

    fn one_process(&self) -> Option<Box<dyn FnOnce() + '_>> {
        Some(Box::new(|| {
            let image = File::open(self.image()).expect("the image is there");
            for path in self.clones() {
                (&image).rewind().expect("a file has a beginning");
                let clone = File::create_new(path).expect("a new name can be created");
                copy(&image, &clone, self.work.image_bytes);
            }
        }))
    }

    fn remove_clones(&self) {
        self.clones()
            .for_each(|clone| fs::remove_file(clone).expect("the clone is there"));
        self.sync();
    }

    fn write_each(&self) {
        let offset = write_offset(self.work.image_bytes);
        for (number, path) in self.clones().enumerate() {
            let clone = OpenOptions::new().write(true).open(path);
            let clone = clone.expect("the clone is there");
            clone
                .write_all_at(&page_of(number), offset)
                .expect("a clone takes a page");
        }
        self.sync();
    }

    fn can_read(&self, reading: Reading) -> bool {
        reading == Reading::Cached || open_for(&self.image(), reading).is_ok()
    }

    fn read_all(&self, reading: Reading) {
        let mut reader = Reader::new();
        for path in self.clones() {
            let clone = open_for(&path, reading).expect("the clone is there");
            reader.read(&clone).expect("the clone reads");
        }
    }

    fn usage(&self) -> Usage {
        self.sync();
        match &self.ground {
            Ground::Okapi(drive) => {
                let memory = Memory::at_rest(drive);
                Usage {
                    charged: memory.charged(),
                    in_all: memory.pss,
                }
            }
            Ground::Xfs(mounted) => {
                let image = fs::metadata(mounted.image_path()).expect("the loop device has its file");
                Usage {
                    charged: used_bytes(mounted.path()),
                    in_all: image.blocks() * 512,
                }
            }
            Ground::Tmpfs(tmpfs) => {
                let used = used_bytes(tmpfs.path());
                Usage {
                    charged: used,
                    in_all: used,
                }
            }
        }
    }

    fn expect_written(&self) {
        let offset = write_offset(self.work.image_bytes);
        for (number, path) in self.clones().enumerate() {
            let mut page = [0; WRITE_BYTES];
            let clone = File::open(path).expect("the clone is there");
            clone.read_exact_at(&mut page, offset).expect("the clone reads");
            assert!(
                page == page_of(number),
                "clone {number} has what was written into it"
            );
        }
        if let Ground::Okapi(drive) = &self.ground {
            drive.check();
        }
    }
}

fn copy(image: &File, clone: &File, len_bytes: usize) {
    let mut left = len_bytes;
    while left > 0 {
        let copied = copy_file_range(image, None, clone, None, left).expect("a file can be copied");
        assert!(copied > 0, "the image is as long as it was made");
        left -= copied;
    }
}

fn open_for(path: &Path, reading: Reading) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    if reading == Reading::Direct {
        options.custom_flags(libc::O_DIRECT);
    }
    options.open(path)
}
