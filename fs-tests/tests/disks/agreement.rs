//! The same random changes to images and to a raw file on tmpfs: the same bytes come of it, and the same holes.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use fs_tests::export::Export;
use fs_tests::harness::{Drive, Place, Tmpfs};
use fs_tests::nbd::Client;
use fs_tests::rng::{Rng, from_env_or_time, ops_from_env};

use crate::changes::{SIZE, Step};
use crate::judges::{Run, agreed_map, compare, qemu_map};
use crate::ways::{Image, Way, text};

/// Steps after which the bytes are compared.
const BATCH: u64 = 500;

/// Images that each take all steps, and the raw file that takes them too.
struct Disks {
    drive: Drive,
    /// Held until the images' clients have gone.
    export: Export,
    tmpfs: Tmpfs,
    raw: File,
    /// By one way each.
    images: Vec<(Way, Image)>,
    /// By each way in turn.
    turns: Image,
}

#[test]
fn images_agree_with_a_raw_file_by_every_way() {
    let disks = play("disks", &["--dedup", "off"]);
    let holes = qemu_map(&text(&disks.raw_path()));
    for (way, image) in &disks.images {
        let map = agreed_map(image, &disks.bytes());
        // QEMU divides unaligned zeros at places of its own; our client sends what was done to the raw file.
        if matches!(way, Way::Client) {
            assert_holes_cover(&map, &holes);
        }
    }
    disks.finish();
}

#[test]
fn images_agree_with_a_raw_file_while_equal_blocks_are_shared_and_cold_ones_compressed() {
    let disks = play("sealed disks", &["--dedup", "inline", "--compress", "lz4"]);
    for (_, image) in &disks.images {
        agreed_map(image, &disks.bytes());
    }
    disks.finish();
}

/// Makes disks and has them take random steps.
fn play(name: &str, options: &[&str]) -> Disks {
    let mut rng = Rng::new(from_env_or_time(name));
    let mut disks = Disks::new(options);
    let mut left = ops_from_env(2500);
    while left > 0 {
        let count = left.min(BATCH);
        left -= count;
        let steps: Vec<_> = (0..count).map(|_| Step::random(&mut rng)).collect();
        disks.apply(&steps, &mut rng);
        disks.compare_bytes(left);
    }
    disks
}

impl Disks {
    fn new(options: &[&str]) -> Self {
        let drive = Drive::mount(&[&["--size", "512M"], options].concat());
        let images = drive.path().join("images");
        fs::create_dir(&images).unwrap();
        let export = Export::start(&drive);
        let image = |name: &str| {
            let path = images.join(name);
            File::create_new(&path).unwrap().set_len(SIZE).unwrap();
            Image {
                file: text(&path),
                uri: export.uri(name),
                client: Client::open(&export.socket(), name).0,
            }
        };
        let images = Way::ALL.map(|way| (way, image(&format!("{way:?}"))));
        let turns = image("turns");
        let tmpfs = Tmpfs::mount("64M");
        let mut raw = File::options();
        let raw = raw.read(true).write(true).create_new(true);
        let raw = raw.open(tmpfs.path().join("raw")).unwrap();
        raw.set_len(SIZE).unwrap();
        Self {
            drive,
            export,
            tmpfs,
            raw,
            images: images.into(),
            turns,
        }
    }

    fn apply(&mut self, steps: &[Step], rng: &mut Rng) {
        for change in steps.iter().flat_map(Step::changes) {
            change.apply(&self.raw);
        }
        for (way, image) in &mut self.images {
            image.apply(*way, steps);
        }
        for part in steps.chunks(100) {
            self.turns.apply(rng.pick(&Way::ALL), part);
        }
    }

    /// The file is read through the page cache, which must not be behind, and the image by NBD.
    fn compare_bytes(&mut self, left: u64) {
        let bytes = self.bytes();
        let images = self.images.iter_mut().map(|(_, image)| image);
        for image in images.chain([&mut self.turns]) {
            let by_file = fs::read(&image.file).unwrap();
            assert_same(&by_file, &bytes, || format!("{}, {left} left", image.file));
            let by_nbd = image.client.read(0, SIZE as u32).unwrap();
            assert_same(&by_nbd, &bytes, || format!("{}, {left} left", image.uri));
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; SIZE as usize];
        self.raw.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    fn raw_path(&self) -> PathBuf {
        self.tmpfs.path().join("raw")
    }

    /// The judges have their say, and the drive is sound.
    fn finish(self) {
        let raw = self.raw_path();
        agreed_map(&self.turns, &self.bytes());
        for (_, image) in &self.images {
            compare(image, &raw, self.tmpfs.path());
        }
        compare(&self.turns, &raw, self.tmpfs.path());
        drop((self.images, self.turns));
        self.drive.check();
        drop(self.export);
        self.drive.unmount();
    }
}

/// What is a hole on tmpfs is one here. The other way round a page may differ: of a page that has a few bytes and never
/// had more, okapi lets go when these are gone, where tmpfs has a whole page of which the rest is not.
#[track_caller]
fn assert_holes_cover(map: &[Run], raw: &[Run]) {
    for hole in raw.iter().filter(|run| run.is_hole) {
        let around = map.iter().rfind(|run| run.start <= hole.start);
        let is_covered = around.is_some_and(|run| run.is_hole && run.end() >= hole.end());
        assert!(is_covered, "a hole on tmpfs, {hole:?}, lies in {around:?}");
    }
}

#[track_caller]
fn assert_same(found: &[u8], expected: &[u8], what: impl Fn() -> String) {
    let wrong = found
        .iter()
        .zip(expected)
        .position(|(found, expected)| found != expected);
    assert_eq!((wrong, found.len()), (None, expected.len()), "{}", what());
}
