//! `okapi image clone`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fs_tests::harness::{Drive, Place};

use crate::support::{drive, drive_with, fails, held_bytes, image, listing, path, pattern};

#[test]
fn a_clone_shares_its_base_s_memory_and_is_seen_at_once() {
    let drive = drive();
    let bytes = pattern(1, 8 << 20);
    fs::write(path(&drive, "base"), &bytes).unwrap();
    // The kernel has asked for the name, and listed the directory: it remembers both answers.
    assert!(!path(&drive, "clone").exists());
    assert_eq!(listing(&drive), ["base"]);
    let before = held_bytes(&drive);
    assert_eq!(image(&drive, &["clone", "base", "clone"]), "");
    assert_eq!(held_bytes(&drive), before, "no bytes are copied");
    assert_eq!(listing(&drive), ["base", "clone"]);
    assert_eq!(fs::read(path(&drive, "clone")).unwrap(), bytes);

    fs::write(path(&drive, "base"), "other").unwrap();
    assert_eq!(fs::read(path(&drive, "clone")).unwrap(), bytes);
    fs::remove_file(path(&drive, "base")).unwrap();
    assert_eq!(fs::read(path(&drive, "clone")).unwrap(), bytes);
    drive.check();
}

#[test]
fn a_clone_is_owned_like_its_base() {
    let drive = drive();
    fs::write(path(&drive, "base"), "bytes").unwrap();
    std::os::unix::fs::chown(path(&drive, "base"), Some(7), Some(8)).unwrap();
    image(&drive, &["clone", "base", "clone"]);
    let metadata = fs::metadata(path(&drive, "clone")).unwrap();
    let base = fs::metadata(path(&drive, "base")).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (7, 8));
    assert_eq!(metadata.mode(), base.mode());
}

#[test]
fn what_cannot_be_cloned_is_said_with_a_cure() {
    let drive = drive();
    fs::write(path(&drive, "base"), "bytes").unwrap();
    fs::create_dir(path(&drive, "directory")).unwrap();
    let long = "n".repeat(256);
    fails(
        &drive,
        &["clone", "nobody", "a"],
        1,
        &["no image `nobody`", "hint"],
    );
    fails(
        &drive,
        &["clone", "directory", "a"],
        1,
        &["no image `directory`", "hint"],
    );
    fails(
        &drive,
        &["clone", "base", "base"],
        1,
        &["`base`", "already", "hint"],
    );
    fails(
        &drive,
        &["clone", "base", "directory"],
        1,
        &["`directory`", "already", "hint"],
    );
    fails(&drive, &["clone", "base", ""], 1, &["empty", "hint"]);
    fails(&drive, &["clone", "base", "a/b"], 1, &["`a/b`", "slash"]);
    fails(&drive, &["clone", "base", ".a"], 1, &["`.a`", "dot"]);
    fails(&drive, &["clone", "base", "a\nb"], 1, &["`a\\nb`", "control"]);
    fails(
        &drive,
        &["clone", "base", &long],
        1,
        &["256 bytes", "at most 255"],
    );
    fails(&drive, &["clone", "base"], 2, &["<NAME>"]);
    assert_eq!(listing(&drive), ["base", "directory"]);
    fs::remove_dir(path(&drive, "directory")).unwrap();
    fs::remove_file(path(&drive, "base")).unwrap();
    fs::remove_dir(drive.path().join("images")).unwrap();
    fails(&drive, &["clone", "base", "a"], 1, &["no image `base`", "hint"]);
}

#[test]
fn nobody_sees_an_image_that_is_not_whole() {
    let drive = drive();
    const SIZE: u64 = 4 << 20;
    fs::write(path(&drive, "base"), pattern(1, SIZE as usize)).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let look = || {
            let mut seen = 0u64;
            while !done.load(Ordering::Acquire) {
                for name in listing(&drive) {
                    if name.starts_with('.') {
                        continue;
                    }
                    // It may be removed in between.
                    if let Ok(metadata) = fs::metadata(path(&drive, &name)) {
                        assert_eq!(metadata.len(), SIZE, "{name}");
                        seen += u64::from(name != "base");
                    }
                }
            }
            seen
        };
        let looking = scope.spawn(look);
        for round in 0..30 {
            image(&drive, &["clone", "base", &format!("clone-{round}")]);
            if round % 2 == 0 {
                image(&drive, &["rm", &format!("clone-{round}")]);
            }
        }
        done.store(true, Ordering::Release);
        assert!(looking.join().unwrap() > 0, "clones were seen");
    });
    assert_eq!(listing(&drive).len(), 1 + 15);
    assert!(listing(&drive).iter().all(|name| !name.starts_with('.')));
    drive.check();
}

#[test]
fn a_full_drive_takes_no_part_of_a_clone() {
    let drive = drive_with(&["--size", "64M", "--dedup", "off", "--inodes", "3"]);
    fs::write(path(&drive, "base"), pattern(1, 1 << 20)).unwrap();
    let before = drive.stat();
    fails(
        &drive,
        &["clone", "base", "a"],
        1,
        &["cannot make `a`", "3 inodes", "hint: remove"],
    );
    assert_eq!(listing(&drive), ["base"]);
    assert_eq!(drive.stat()["metadata_bytes"], before["metadata_bytes"]);
}

#[test]
fn a_drive_that_refuses_changes_refuses_these_too() {
    let drive = Drive::mount(&["--read-only"]);
    for arguments in [
        &["clone", "base", "a"][..],
        &["rm", "base"],
        &["commit", "base"],
        &["rebase", "base", "a"],
        &["resize", "base", "1G"],
    ] {
        fails(&drive, arguments, 1, &["read-only", "hint"]);
    }
    assert_eq!(image(&drive, &["check"]), "0 images: sound\n");
}
