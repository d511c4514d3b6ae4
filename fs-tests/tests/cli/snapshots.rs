//! `okapi snapshot`: freeze, list, read, delete.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::Command;

use fs_tests::harness::run;
use fs_tests::sys::Mapping;
use nix::errno::Errno;
use serde_json::Value;

use crate::support::{Detached, fails, okapi, stat, text};

fn snapshot(drive: &Detached, arguments: &[&str]) -> Command {
    let mut command = okapi(&["snapshot"]);
    command.args(arguments).arg("--mount").arg(drive.path());
    command
}

fn list(drive: &Detached) -> Vec<Value> {
    let output = run(&mut snapshot(drive, &["list", "--json"]));
    serde_json::from_slice(&output.stdout).expect("--json prints JSON")
}

#[test]
fn a_snapshot_is_made_read_and_deleted() {
    let drive = Detached::mount(&[]);
    let file = drive.path().join("file");
    fs::write(&file, "old").expect("the drive takes files");
    run(&mut snapshot(&drive, &["create", "before"]));
    fs::write(&file, "new").expect("the drive takes files");

    let snapshots = list(&drive);
    assert_eq!(snapshots.len(), 1);
    assert_eq!(snapshots[0]["name"], "before");
    assert_eq!(snapshots[0]["changed_inodes"], 1);
    assert_eq!(stat(drive.path())["snapshots"], 1);
    let people = text(&run(&mut snapshot(&drive, &["list"])));
    assert!(
        people.starts_with("before  20") && people.contains("1 inodes changed"),
        "{people}"
    );

    let names = fs::read_dir(drive.path()).expect("the root is listed");
    let names: Vec<_> = names.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    assert_eq!(names, ["file"], "the root does not list .okapi");
    let path = snapshots[0]["path"].as_str().expect("a path is text");
    let kept = format!("{path}/file");
    assert_eq!(
        fs::read_to_string(&kept).expect("the snapshot has the file"),
        "old"
    );
    let refused = fs::write(&kept, "x").expect_err("a snapshot is read-only");
    assert_eq!(refused.raw_os_error(), Some(Errno::EROFS as i32));

    run(&mut snapshot(&drive, &["delete", "before"]));
    assert!(list(&drive).is_empty());
    let report = text(&run(okapi(&["check"]).arg(drive.path())));
    assert!(report.contains("0 snapshots"), "{report}");
}

#[test]
fn a_diff_says_what_has_changed() {
    let drive = Detached::mount(&[]);
    fs::write(drive.path().join("changed"), [1; 10_000]).expect("the drive takes files");
    fs::write(drive.path().join("gone"), "x").expect("the drive takes files");
    fs::write(drive.path().join("old name"), "x").expect("the drive takes files");
    run(&mut snapshot(&drive, &["create", "before"]));
    fs::write(drive.path().join("changed"), [2; 5000]).expect("the drive takes files");
    fs::remove_file(drive.path().join("gone")).expect("files can be removed");
    fs::rename(drive.path().join("old name"), drive.path().join("new\nname")).expect("files can be renamed");
    fs::create_dir(drive.path().join("dir")).expect("the drive takes directories");
    let output = text(&run(&mut snapshot(&drive, &["diff", "before"])));
    assert_eq!(
        output,
        "+ dir\n- gone\nR old name -> new\\nname\nM changed 0..10000\n"
    );
    run(&mut snapshot(&drive, &["create", "after"]));
    let output = run(&mut snapshot(&drive, &["diff", "before", "after", "--json"]));
    let differences: Value = serde_json::from_slice(&output.stdout).expect("--json prints JSON");
    assert_eq!(differences[3]["change"], "modified");
    assert_eq!(differences[3]["ranges"][0][1], 10_000);
    assert_eq!(differences[2]["path"], "new\nname");
    fails(
        &mut snapshot(&drive, &["diff", "after", "x"]),
        1,
        &["no snapshot `x`", "hint"],
    );
}

#[test]
fn a_snapshot_has_what_was_written_through_a_mapping() {
    const LEN: usize = 1 << 20;
    let drive = Detached::mount(&[]);
    let path = drive.path().join("file");
    let mut file = File::options()
        .create_new(true)
        .read(true)
        .write(true)
        .open(&path)
        .expect("the drive takes files");
    file.write_all(&vec![0; LEN]).expect("the drive takes bytes");
    let mut bytes = Mapping::new(&file, 0, LEN, true).expect("files can be mapped");
    for round in 1..=5 {
        bytes.write(0, &[round; LEN]);
        let name = format!("round{round}");
        run(&mut snapshot(&drive, &["create", &name]));
        let kept = fs::read(drive.path().join(".okapi/snapshots").join(&name).join("file"));
        assert!(
            kept.expect("the snapshot has the file")
                .iter()
                .all(|byte| *byte == round),
            "round {round}"
        );
    }
}

#[test]
fn the_kernel_learns_of_snapshots_that_come_and_go() {
    let drive = Detached::mount(&[]);
    let place = drive.path().join(".okapi/snapshots/later");
    for round in 0..3 {
        assert!(
            !place.exists(),
            "round {round}: there is none yet, and the kernel remembers that"
        );
        run(&mut snapshot(&drive, &["create", "later"]));
        assert!(place.is_dir(), "round {round}");
        run(&mut snapshot(&drive, &["delete", "later"]));
    }
}

#[test]
fn going_back_shows_what_was_there_to_programs_that_have_seen_other_things() {
    let drive = Detached::mount(&[]);
    let at = |name: &str| drive.path().join(name);
    let read = |name: &str| fs::read_to_string(at(name)).ok();
    fs::write(at("changed"), "old").expect("the drive takes files");
    fs::write(at("removed"), "old").expect("the drive takes files");
    fs::create_dir(at("dir")).expect("the drive takes directories");
    fs::write(at("dir/below"), "old").expect("the drive takes files");
    run(&mut snapshot(&drive, &["create", "before"]));
    fs::write(at("changed"), "new and longer").expect("the drive takes bytes");
    fs::remove_file(at("removed")).expect("files can be removed");
    fs::write(at("made"), "new").expect("the drive takes files");
    fs::rename(at("dir"), at("moved")).expect("directories can be renamed");
    fs::write(at("moved/below"), "new").expect("the drive takes bytes");
    let mut open = File::open(at("changed")).expect("the file is there");
    // The kernel has seen all of it, and remembers.
    assert_eq!(read("changed").as_deref(), Some("new and longer"));
    assert_eq!(read("made").as_deref(), Some("new"));
    assert!(!at("removed").exists() && !at("dir").exists() && at("moved/below").exists());
    assert_eq!(fs::read_dir(drive.path()).expect("the root is listed").count(), 3);

    run(&mut snapshot(&drive, &["rollback", "before"]));
    assert_eq!(read("changed").as_deref(), Some("old"));
    assert_eq!(read("removed").as_deref(), Some("old"));
    assert_eq!(read("dir/below").as_deref(), Some("old"));
    assert!(!at("made").exists() && !at("moved").exists());
    assert_eq!(fs::metadata(at("changed")).expect("the file is there").len(), 3);
    let names = fs::read_dir(drive.path()).expect("the root is listed");
    let mut names: Vec<_> = names.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    names.sort();
    assert_eq!(names, ["changed", "dir", "removed"]);
    let mut bytes = String::new();
    open.read_to_string(&mut bytes)
        .expect("a file that is open can be read");
    assert_eq!(bytes, "old", "by a handle from before, too");
    run(okapi(&["check"]).arg(drive.path()));
}

#[test]
fn what_cannot_be_done_is_said_with_a_cure() {
    let drive = Detached::mount(&[]);
    run(&mut snapshot(&drive, &["create", "one"]));
    fails(
        &mut snapshot(&drive, &["create", "one"]),
        1,
        &["`one`", "already", "hint"],
    );
    fails(&mut snapshot(&drive, &["create", "a/b"]), 1, &["`a/b`", "hint"]);
    fails(
        &mut snapshot(&drive, &["delete", "two"]),
        1,
        &["no snapshot `two`", "hint"],
    );
    fails(
        &mut snapshot(&drive, &["rollback", "two"]),
        1,
        &["no snapshot `two`"],
    );
    fails(&mut snapshot(&drive, &["delete"]), 2, &["Usage"]);
}
