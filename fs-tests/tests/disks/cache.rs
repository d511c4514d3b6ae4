//! The page cache beside writes that go past it, as those of virtual machines do.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::{Duration, Instant};

use fs_tests::harness::{Drive, Place};

const PAGE: u64 = 4096;
/// Pages of the file.
const PAGES: u64 = 4000;

fn reads(drive: &Drive) -> u64 {
    drive.stat()["requests"]["read"].as_u64().unwrap_or(0)
}

/// Whether the kernel asks for a page that is read through the cache.
fn is_asked_for(drive: &Drive, file: &File, page: u64) -> bool {
    let before = reads(drive);
    let mut bytes = [0; PAGE as usize];
    file.read_exact_at(&mut bytes, page * PAGE).unwrap();
    assert_eq!(bytes, [1; PAGE as usize], "page {page}");
    reads(drive) > before
}

#[test]
fn pages_that_are_in_the_way_of_direct_writes_go() {
    let drive = Drive::mount(&["--size", "64M"]);
    let path = drive.path().join("disk");
    fs::write(&path, vec![1; (PAGES * PAGE) as usize]).unwrap();
    let cached = File::open(&path).unwrap();
    assert!(
        !is_asked_for(&drive, &cached, PAGES - 1),
        "writing leaves pages behind"
    );
    let direct = File::options()
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(&path)
        .unwrap();
    let page = vec![2; PAGE as usize];
    for number in 0..100 {
        direct.write_all_at(&page, number * PAGE).unwrap();
    }
    // What the kernel reads ahead is there again: each look goes further back.
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut looks = (200..PAGES - 600).rev().step_by(600);
    while !is_asked_for(&drive, &cached, looks.next().expect("the pages go soon")) {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(200));
    }
    drive.check();
}
