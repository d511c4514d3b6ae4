//! Clones that are qcow2 files with the image as their backing file, by qemu-img(1) and qemu-io(1) on tmpfs.

use super::Work;
use super::store::{Reading, Store, Usage, WRITE_BYTES, write_offset};
use fs_tests::bench::program::is_installed;
use fs_tests::bench::stream::{CALL_BYTES, Stream};
use fs_tests::harness::{Place, Tmpfs, run};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) const LARGE: &str = "qcow2 64K";
pub(crate) const SMALL: &str = "qcow2 4K";

/// An image, and overlays that name it.
pub(super) struct Overlays {
    tmpfs: Tmpfs,
    cluster: &'static str,
    work: Work,
}

impl Overlays {
    /// Writes the image to a tmpfs.
    pub(super) fn open(name: &str, work: Work) -> Result<Self, String> {
        if let Some(lacking) = ["qemu-img", "qemu-io"].iter().find(|tool| !is_installed(tool)) {
            return Err(format!("{lacking} is not installed (package qemu-utils)"));
        }
        let tmpfs = Tmpfs::mount("2G");
        let image = File::create_new(tmpfs.path().join("image")).expect("an empty mount takes a file");
        Stream::new(1)
            .write(&image, work.image_bytes)
            .expect("the image fits");
        let cluster = if name == SMALL { "4k" } else { "64k" };
        Ok(Self { tmpfs, cluster, work })
    }

    fn image(&self) -> PathBuf {
        self.tmpfs.path().join("image")
    }

    fn clones(&self) -> impl Iterator<Item = PathBuf> {
        (0..self.work.clones).map(|number| self.tmpfs.path().join(format!("clone{number}")))
    }

    /// Has one qemu-io do `commands` with each clone, and returns what it printed.
    fn with_each(&self, open: &str, mut commands: impl FnMut(usize, &mut String)) -> String {
        let mut script = String::new();
        for (number, clone) in self.clones().enumerate() {
            let file = clone.display();
            writeln!(script, "open {open} -o driver=qcow2 {file}").expect("a string takes text");
            commands(number, &mut script);
            script += "close\n";
        }
        let path = self.tmpfs.path().join("script");
        fs::write(&path, script).expect("tmpfs takes a file");
        let stdin = File::open(&path).expect("the script was written");
        let output = run(Command::new("qemu-io").stdin(stdin));
        fs::remove_file(path).expect("the script was written");
        let printed = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&printed).into_owned()
    }
}

/// The byte that a clone's page is filled with; qemu-io writes no others.
fn byte_of(number: usize) -> usize {
    1 + number % 255
}

fn taken_bytes(path: &Path) -> u64 {
    fs::metadata(path).expect("the file is there").blocks() * 512
}

impl Store for Overlays {
    fn clone_by_processes(&self) {
        for clone in self.clones() {
            let mut create = Command::new("qemu-img");
            create.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-o"]);
            create.arg(format!("cluster_size={}", self.cluster));
            run(create.arg("-b").arg(self.image()).arg(clone));
        }
    }

    fn one_process(&self) -> Option<Box<dyn FnOnce() + '_>> {
        None
    }

    fn remove_clones(&self) {
        self.clones()
            .for_each(|clone| fs::remove_file(clone).expect("the clone is there"));
    }

    fn write_each(&self) {
        let offset = write_offset(self.work.image_bytes);
        self.with_each("", |number, script| {
            writeln!(script, "write -q -P {} {offset} {WRITE_BYTES}", byte_of(number))
                .expect("a string takes text");
        });
    }

    /// Its files lie in the page cache, all of them.
    fn can_read(&self, reading: Reading) -> bool {
        reading == Reading::Cached
    }

    fn read_all(&self, _: Reading) {
        self.with_each("-r", |_, script| {
            for offset in (0..self.work.image_bytes).step_by(CALL_BYTES) {
                writeln!(script, "read -q {offset} {CALL_BYTES}").expect("a string takes text");
            }
        });
    }

    fn usage(&self) -> Usage {
        let clones: u64 = self
            .clones()
            .map(|clone| match clone.exists() {
                true => taken_bytes(&clone),
                false => 0,
            })
            .sum();
        Usage {
            charged: clones,
            in_all: clones + taken_bytes(&self.image()),
        }
    }

    fn expect_written(&self) {
        let offset = write_offset(self.work.image_bytes);
        let printed = self.with_each("-r", |number, script| {
            writeln!(script, "read -P {} {offset} {WRITE_BYTES}", byte_of(number))
                .expect("a string takes text");
        });
        let whole = format!("read {WRITE_BYTES}/{WRITE_BYTES} bytes");
        let read = printed.matches(&whole).count();
        assert!(
            read == self.work.clones && !printed.contains("failed"),
            "each clone has what was written into it: {printed}"
        );
    }
}
