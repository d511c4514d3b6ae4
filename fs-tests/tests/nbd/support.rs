//! A drive with images, and an export of them.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) use fs_tests::export::Export;
use fs_tests::export::command;
use fs_tests::harness::{Drive, Place};

/// Mounts a drive with an image for each name and size. Equal blocks stay apart, so that memory can be counted.
pub(crate) fn drive_with(images: &[(&str, u64)]) -> Drive {
    drive_of(&["--size", "512M", "--dedup", "off"], images)
}

/// Mounts a drive with these options, and an image for each name and size.
pub(crate) fn drive_of(options: &[&str], images: &[(&str, u64)]) -> Drive {
    let drive = Drive::mount(options);
    fs::create_dir(drive.path().join("images")).unwrap();
    for (name, size) in images {
        image(&drive, name).set_len(*size).unwrap();
    }
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

/// The command, without a place to listen.
pub(crate) fn export(drive: &Drive) -> Command {
    command(drive, "nbd")
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

pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
