//! A drive with an image, and what tests say about it.

use std::fs::{self, File};
use std::time::{Duration, Instant};

use fs_tests::harness::{Drive, Place};

/// Mounts a drive with an image of that many bytes, called `disk`. Equal blocks stay apart, so that memory can be counted.
pub(crate) fn drive_with(bytes: u64) -> Drive {
    let drive = Drive::mount(&["--size", "512M", "--dedup", "off"]);
    fs::create_dir(drive.path().join("images")).unwrap();
    image(&drive, "disk").set_len(bytes).unwrap();
    drive
}

/// Makes an image, or opens it.
pub(crate) fn image(drive: &Drive, name: &str) -> File {
    let path = drive.path().join("images").join(name);
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .unwrap()
}

#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Memory that the blocks of a drive take.
pub(crate) fn held_bytes(drive: &Drive) -> u64 {
    drive.stat()["held_bytes"].as_u64().unwrap()
}

/// Bytes that differ everywhere.
pub(crate) fn pattern(seed: u8, len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| seed.wrapping_add((at % 251) as u8) | 1)
        .collect()
}
