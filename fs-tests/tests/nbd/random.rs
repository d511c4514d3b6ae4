//! Random operations through both views of an image, against bytes in an array; a seed replays them.

use std::fs::File;
use std::os::unix::fs::FileExt;

use fs_tests::harness::Place;
use fs_tests::nbd::{Client, command, flag};
use fs_tests::rng::{Rng, from_env_or_time, ops_from_env};
use nix::fcntl::{FallocateFlags, fallocate};

use crate::support::{Export, drive_of, image};

const SIZE: usize = 4 << 20;
/// Longer than what a connection moves at a time.
const LEN_MAX: u64 = 600_000;

/// An image, its two views, and what must be in it.
struct Views {
    rng: Rng,
    clients: Vec<Client>,
    file: File,
    bytes: Vec<u8>,
}

#[test]
fn both_views_agree_with_an_array_under_random_changes() {
    let mut rng = Rng::new(from_env_or_time("nbd"));
    // With blocks that are sealed as soon as they are written, and opened again.
    let drive = drive_of(&["--size", "64M", "--dedup", "inline"], &[("disk", SIZE as u64)]);
    let export = Export::start(&drive);
    let clients = (0..2).map(|_| Client::open(&export.socket(), "disk").0).collect();
    let seed = rng.bits();
    let mut views = Views {
        rng: Rng::new(seed),
        clients,
        file: image(&drive, "disk"),
        bytes: vec![0; SIZE],
    };
    for number in 0..ops_from_env(2000) {
        views.step(number);
    }
    views.compare_all();
    assert!(std::fs::read(drive.path().join("images/disk")).unwrap() == views.bytes);
    drop(views);
    drop(export);
    drive.check();
    drive.unmount();
}

impl Views {
    fn step(&mut self, number: u64) {
        let (offset, len) = self.range();
        let at = offset as usize..offset as usize + len as usize;
        match self.rng.below(20) {
            0..=5 => {
                let bytes = self.fill(len as usize);
                self.client().write(offset, &bytes).unwrap();
                self.bytes[at].copy_from_slice(&bytes);
            }
            6 | 7 => {
                let bytes = self.fill(len as usize);
                self.file.write_all_at(&bytes, offset).unwrap();
                self.bytes[at].copy_from_slice(&bytes);
            }
            8 | 9 => {
                let how = self.rng.pick(&[0, flag::NO_HOLE, flag::FAST_ZERO, flag::FUA]);
                self.perform((command::WRITE_ZEROES, how), (offset, len));
                self.bytes[at].fill(0);
            }
            10 | 11 => {
                self.perform((command::TRIM, 0), (offset, len));
                self.bytes[at].fill(0);
            }
            12 => {
                let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
                fallocate(&self.file, mode, offset.cast_signed(), i64::from(len)).unwrap();
                self.bytes[at].fill(0);
            }
            13..=15 => {
                let found = self.client().read(offset, len).unwrap();
                assert!(
                    found == self.bytes[at],
                    "operation {number}: client, {len} at {offset}"
                );
            }
            16 | 17 => {
                let mut found = vec![0; len as usize];
                self.file.read_exact_at(&mut found, offset).unwrap();
                assert!(
                    found == self.bytes[at],
                    "operation {number}: file, {len} at {offset}"
                );
            }
            18 => self.check_status(offset, len),
            _ => self.perform((command::FLUSH, 0), (0, 0)),
        }
    }

    /// Mostly small, at any byte or at multiples of a page.
    fn range(&mut self) -> (u64, u32) {
        let most = self.rng.pick(&[512, 4096, 20_000, LEN_MAX]);
        let mut len = 1 + self.rng.below(most);
        let mut offset = self.rng.below(SIZE as u64 - len);
        if self.rng.percent(50) {
            offset &= !4095;
            len = len.next_multiple_of(512);
        }
        (offset, len as u32)
    }

    fn fill(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend(self.rng.bits().to_ne_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    fn client(&mut self) -> &mut Client {
        let which = self.rng.index(self.clients.len());
        &mut self.clients[which]
    }

    fn perform(&mut self, request: (u16, u16), range: (u64, u32)) {
        self.client().perform(request, range, b"").unwrap();
    }

    /// What is called a hole has to be zeros.
    fn check_status(&mut self, offset: u64, len: u32) {
        let runs = self.client().status(0, (offset, len)).unwrap();
        let mut at = offset as usize;
        for (len, state) in runs {
            let run = &self.bytes[at..at + len as usize];
            assert!(state == 0 || run.iter().all(|&byte| byte == 0), "a hole at {at}");
            at += len as usize;
        }
        assert_eq!(at as u64, offset + u64::from(len));
    }

    fn compare_all(&mut self) {
        let found = self.client().read(0, SIZE as u32).unwrap();
        assert!(found == self.bytes, "the image at the end");
    }
}
