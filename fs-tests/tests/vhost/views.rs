//! One image seen as a file, over NBD and by a virtual machine: they agree byte for byte.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::thread;

use fs_tests::export::Export;
use fs_tests::nbd::{Client, command};
use fs_tests::rng::{Rng, from_env_or_time, ops_from_env};
use fs_tests::sys::Mapping;
use fs_tests::virtio::{DEPTH_MAX, Machine, feature, kind, status};

use crate::support::{drive_with, image, pattern};

const SIZE: usize = 4 << 20;

/// An image in every view, and what it should hold.
struct Views {
    rng: Rng,
    expected: Vec<u8>,
    file: File,
    mapping: Mapping,
    client: Client,
    machine: Machine,
}

#[test]
fn three_views_agree_under_random_changes() {
    let drive = drive_with(SIZE as u64);
    let (nbd, vhost) = (
        Export::start(&drive),
        Export::vhost(&drive, "disk", &["--queues", "2"]),
    );
    let file = image(&drive, "disk");
    let mut views = Views {
        rng: Rng::new(from_env_or_time("three views")),
        expected: vec![0; SIZE],
        mapping: Mapping::new(&file, 0, SIZE, false).unwrap(),
        file,
        client: Client::open(&nbd.socket(), "disk").0,
        machine: Machine::connect(&vhost.socket(), 2),
    };
    for number in 0..ops_from_env(3000) {
        views.step(number);
    }
    views.compare(0..SIZE / 2, "at the end");
    drop(views);
    drive.check();
}

impl Views {
    fn step(&mut self, number: u64) {
        let range = self.range();
        let (offset, len) = (range.start as u64, range.len());
        let bytes = pattern(self.rng.bits() as u8, len);
        let queue = self.rng.index(2);
        let flags = self.rng.below(2) as u32;
        let whole = |flags| [(offset, len as u64, flags)];
        match self.rng.below(10) {
            0 | 1 => self.machine.write(queue, offset, &bytes),
            2 => self.file.write_all_at(&bytes, offset).unwrap(),
            3 => self.client.write(offset, &bytes).unwrap(),
            4 => {
                let zero = self.machine.zero(queue, kind::DISCARD, &whole(0));
                assert_eq!(zero, status::OK);
                return self.expected[range].fill(0);
            }
            5 => {
                let zero = self.machine.zero(queue, kind::WRITE_ZEROES, &whole(flags));
                assert_eq!(zero, status::OK);
                return self.expected[range].fill(0);
            }
            6 => {
                let trim = (command::TRIM, 0);
                self.client.perform(trim, (offset, len as u32), b"").unwrap();
                return self.expected[range].fill(0);
            }
            _ => return self.compare(range, &format!("operation {number}")),
        }
        self.expected[range].copy_from_slice(&bytes);
    }

    /// Mostly small, at sectors or at pages.
    fn range(&mut self) -> Range<usize> {
        let most = self.rng.pick(&[8, 40, 1200]);
        let mut sectors = 1 + self.rng.index(most);
        let mut start = self.rng.index(SIZE / 512 - 1200);
        if self.rng.percent(50) {
            start &= !7;
            sectors = sectors.next_multiple_of(8);
        }
        start * 512..(start + sectors) * 512
    }

    fn compare(&mut self, range: Range<usize>, when: &str) {
        let (offset, len) = (range.start as u64, range.len());
        let mut read = vec![0; len];
        self.file.read_exact_at(&mut read, offset).unwrap();
        let seen = [
            ("the file", read),
            ("the mapping", self.mapping.read_part(range.start, len)),
            ("NBD", self.client.read(offset, len as u32).unwrap()),
            ("the guest", self.machine.read(0, offset, len)),
        ];
        for (view, bytes) in seen {
            assert!(
                bytes == self.expected[range.clone()],
                "{when}: {view}, {len} at {offset}"
            );
        }
    }
}

#[test]
fn the_file_s_attributes_follow_the_guest() {
    let drive = drive_with(SIZE as u64);
    let file = image(&drive, "disk");
    let before = file.metadata().unwrap();
    assert_eq!(before.blocks(), 0);
    let export = Export::vhost(&drive, "disk", &[]);
    let mut machine = Machine::connect(&export.socket(), 1);
    machine.write(0, 0, &[1; 65_536]);
    let after = file.metadata().unwrap();
    assert_eq!(after.blocks(), 128);
    assert!(after.modified().unwrap() > before.modified().unwrap());
    let discard = machine.zero(0, kind::DISCARD, &[(0, 65_536, 0)]);
    assert_eq!((discard, file.metadata().unwrap().blocks()), (status::OK, 0));
}

#[test]
fn queues_work_side_by_side_and_are_one_disk() {
    let drive = drive_with(SIZE as u64);
    let export = Export::vhost(&drive, "disk", &["--queues", "4"]);
    let mut machine = Machine::connect(&export.socket(), 4);
    for seed in 0..40 {
        let writer = usize::from(seed) % 4;
        machine.write(writer, 4096, &pattern(seed, 9216));
        for reader in 0..4 {
            assert_eq!(machine.read(reader, 4096, 9216), pattern(seed, 9216));
        }
    }
}

#[test]
fn many_requests_at_a_time_are_each_answered() {
    let drive = drive_with(SIZE as u64);
    let file = image(&drive, "disk");
    let number_of = |page: u64| [page.to_le_bytes(); 512].concat();
    let bytes: Vec<u8> = (0..SIZE as u64 / 4096).flat_map(number_of).collect();
    file.write_all_at(&bytes, 0).unwrap();
    let export = Export::vhost(&drive, "disk", &[]);
    for wanted in [u64::MAX, !feature::EVENT_IDX] {
        let mut machine = Machine::try_connect(&export.socket(), 1, wanted).unwrap();
        let mut rng = Rng::new(7);
        for depth in [1, 2, 16, 33, DEPTH_MAX] {
            let pages: Vec<_> = (0..700).map(|_| rng.below(SIZE as u64 / 4096)).collect();
            let mut answered = Vec::new();
            machine.read_pages(0, &pages, depth, |page, bytes| {
                assert!(bytes == number_of(page), "page {page}");
                answered.push(page);
            });
            assert_eq!(answered, pages, "in the order of the queue");
        }
    }
}

#[test]
fn several_disks_of_a_drive_are_used_at_once() {
    let drive = drive_with(SIZE as u64);
    let names = ["a", "b", "c", "d"];
    for name in names {
        image(&drive, name).set_len(SIZE as u64).unwrap();
    }
    let exports = names.map(|name| Export::vhost(&drive, name, &["--queues", "1"]));
    thread::scope(|scope| {
        for (seed, export) in (1..).step_by(50).zip(&exports) {
            scope.spawn(move || {
                let mut machine = Machine::connect(&export.socket(), 1);
                for round in 0..50 {
                    machine.write(0, 65_536, &pattern(seed + round, 70_144));
                    assert!(machine.read(0, 65_536, 70_144) == pattern(seed + round, 70_144));
                }
            });
        }
    });
    drive.check();
}
