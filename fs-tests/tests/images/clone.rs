//! `okapi image clone`.

use std::fs;
use std::os::unix::fs::MetadataExt;

use fs_tests::harness::Place;

use crate::support::{drive, fails, held_bytes, image, listing, path, pattern};

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
