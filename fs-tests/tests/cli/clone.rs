//! `okapi clone`: writable copies of snapshots.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use fs_tests::harness::{Scratch, run};

use crate::support::{Detached, fails, okapi, stat};

/// A drive with a snapshot `s` of `tree/dir/file` and a second name of it.
fn drive_with_a_snapshot() -> Detached {
    let drive = Detached::mount(&[]);
    let tree = drive.path().join("tree");
    fs::create_dir_all(tree.join("dir")).expect("the drive takes directories");
    fs::write(tree.join("dir/file"), vec![1; 1 << 20]).expect("the drive takes files");
    fs::hard_link(tree.join("dir/file"), tree.join("second")).expect("the drive takes links");
    run(okapi(&["snapshot", "create", "s", "--mount"]).arg(drive.path()));
    drive
}

fn clone(source: impl AsRef<Path>, directory: impl AsRef<Path>) -> Command {
    let mut command = okapi(&["clone"]);
    command.arg(source.as_ref()).arg(directory.as_ref());
    command
}

fn check(drive: &Detached) {
    run(okapi(&["check"]).arg(drive.path()));
}

#[test]
fn a_clone_is_written_to_and_outlives_its_snapshot() {
    let drive = drive_with_a_snapshot();
    let at = |path: &str| drive.path().join(path);
    assert!(
        !at("clone").exists(),
        "there is none yet, and the kernel remembers that"
    );
    let names = || fs::read_dir(drive.path()).expect("the root is listed").count();
    assert_eq!(names(), 1);
    let held = stat(drive.path())["held_bytes"].clone();
    run(&mut clone("s", at("clone")));
    assert_eq!(stat(drive.path())["held_bytes"], held, "no bytes are copied");
    assert_eq!(names(), 2);
    run(Command::new("diff")
        .arg("-r")
        .arg(at("tree"))
        .arg(at("clone/tree")));

    fs::write(at("clone/tree/second"), "clone").expect("a clone can be written to");
    fs::write(at("tree/dir/file"), "source").expect("so can what it was made of");
    let read = |path: &str| fs::read_to_string(at(path)).expect("the file is there");
    assert_eq!(
        read("clone/tree/dir/file"),
        "clone",
        "both names lead to one file"
    );
    assert_eq!(read("tree/second"), "source");
    assert_eq!(read(".okapi/snapshots/s/tree/second").len(), 1 << 20);
    check(&drive);
    run(&mut clone("s/tree/dir", at("tree/again")));
    run(okapi(&["snapshot", "delete", "s", "--mount"]).arg(drive.path()));
    assert_eq!(read("tree/again/file").len(), 1 << 20);
    check(&drive);
    for path in ["clone", "tree"] {
        fs::remove_dir_all(at(path)).expect("clones can be removed");
    }
    check(&drive);
    assert_eq!(stat(drive.path())["held_bytes"], 0);
}

#[test]
fn a_snapshot_is_named_by_its_path_too() {
    let drive = drive_with_a_snapshot();
    let shown = drive.path().join(".okapi/snapshots/s/tree");
    run(&mut clone(&shown, drive.path().join("one/")));
    run(clone(".", drive.path().join("two")).current_dir(shown.join("dir")));
    run(clone("s/tree//dir/", "three").current_dir(drive.path()));
    for file in ["one/dir/file", "two/file", "three/file"] {
        let metadata = fs::metadata(drive.path().join(file)).expect("the clone has the file");
        assert_eq!(metadata.len(), 1 << 20);
    }
}

#[test]
fn names_that_are_no_text_are_cloned() {
    let drive = drive_with_a_snapshot();
    let odd = std::ffi::OsStr::from_bytes(b"\xff\n");
    fs::create_dir(drive.path().join(odd)).expect("the drive takes any name");
    run(okapi(&["snapshot", "create", "t", "--mount"]).arg(drive.path()));
    run(&mut clone(
        Path::new("t").join(odd),
        drive.path().join("\u{e4}\t"),
    ));
    assert!(drive.path().join("\u{e4}\t").is_dir());
}

#[test]
fn what_cannot_be_cloned_is_said_with_a_cure() {
    let drive = drive_with_a_snapshot();
    let at = |path: &str| drive.path().join(path);
    fails(&mut clone("s", at("tree")), 1, &["tree", "already", "hint"]);
    fails(&mut clone("s", at("no/clone")), 1, &["cannot look at", "no"]);
    fails(&mut clone("t", at("clone")), 1, &["no snapshot `t`", "hint"]);
    fails(&mut clone("s/no", at("clone")), 1, &["no in snapshot `s`"]);
    fails(&mut clone("s/tree/second", at("clone")), 1, &["not a directory"]);
    fails(
        &mut clone(at("tree"), at("clone")),
        1,
        &["not in a snapshot", "hint"],
    );
    fails(
        &mut clone("s", at(".okapi/clone")),
        1,
        &["snapshot cannot be changed"],
    );
    let elsewhere = Scratch::new();
    fails(
        &mut clone("s", elsewhere.path().join("clone")),
        1,
        &["not on an okapi drive", "hint"],
    );
    let other = Detached::mount(&[]);
    fails(
        &mut clone("s", other.path().join("clone")),
        1,
        &["no snapshot `s`", "hint"],
    );
    fails(
        &mut clone(at(".okapi/snapshots/s"), other.path().join("clone")),
        1,
        &["another drive", "hint"],
    );
    assert_eq!(
        fs::read_dir(drive.path()).expect("the root is listed").count(),
        1,
        "nothing was made"
    );
    check(&drive);
}

#[test]
fn a_full_drive_takes_no_part_of_a_clone() {
    const FILES: u32 = 3000;
    let drive = Detached::mount(&["--inodes", "4000"]);
    let tree = drive.path().join("tree");
    fs::create_dir(&tree).expect("the drive takes directories");
    for n in 0..FILES {
        fs::write(tree.join(n.to_string()), "x").expect("there is room for files");
    }
    run(okapi(&["snapshot", "create", "s", "--mount"]).arg(drive.path()));
    let before = stat(drive.path());
    fails(
        &mut clone("s", drive.path().join("clone")),
        1,
        &["cannot make", "all 4000 inodes are in use"],
    );
    let after = stat(drive.path());
    for figure in ["inodes", "held_bytes", "metadata_bytes"] {
        assert_eq!(before[figure], after[figure], "{figure}");
    }
    assert!(!drive.path().join("clone").exists());
    check(&drive);
}
