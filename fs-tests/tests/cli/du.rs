//! `okapi du`: what files take, for themselves and together.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::symlink;
use std::path::Path;

use fs_tests::harness::{Scratch, run};
use fs_tests::sys::Mapping;
use serde_json::Value;

use crate::support::{Detached, fails, okapi, stat, text};

const LEN: usize = 1 << 20;

fn du(paths: &[&Path]) -> Value {
    let output = run(okapi(&["du", "--json"]).args(paths));
    serde_json::from_slice(&output.stdout).expect("--json prints JSON")
}

/// Private and shared bytes, and the number of files that share.
fn figures(usage: &Value) -> (u64, u64, u64) {
    let number = |name: &str| usage[name].as_u64().expect("a figure is a number");
    assert_eq!(
        number("referenced_bytes"),
        number("private_bytes") + number("shared_bytes")
    );
    (
        number("private_bytes"),
        number("shared_bytes"),
        number("sharing_files"),
    )
}

/// A drive with a file of 1 MiB, each block of which is different, and a clone of it with other 4 KiB in its middle.
fn drive_with_a_clone() -> Detached {
    let drive = Detached::mount(&[]);
    let bytes: Vec<u8> = (0..LEN).map(|at| (at >> 12) as u8).collect();
    fs::write(drive.path().join("base"), bytes).expect("the drive takes files");
    fs::create_dir(drive.path().join("dir")).expect("the drive takes directories");
    fs::copy(drive.path().join("base"), drive.path().join("dir/clone")).expect("files can be copied");
    let clone = File::options().write(true).open(drive.path().join("dir/clone"));
    let mut clone = clone.expect("the file is there");
    clone.seek(SeekFrom::Start(4096)).expect("files can be sought in");
    clone.write_all(&[255; 4096]).expect("the drive takes bytes");
    drive
}

#[test]
fn clones_share_all_but_what_was_written_to_them() {
    let drive = drive_with_a_clone();
    let (base, dir) = (drive.path().join("base"), drive.path().join("dir"));
    let report = du(&[&base, &dir.join("clone"), &dir, drive.path()]);
    let paths = report["paths"].as_array().expect("paths are an array");
    assert_eq!(paths[0]["path"], base.to_str().expect("our paths are text"));
    assert_eq!(paths[0]["logical_bytes"], LEN);
    // The base goes on holding the whole block of which the clone has replaced a page.
    let (private, shared, with) = figures(&paths[0]);
    assert_eq!((private + shared, with), (LEN as u64, 1));
    let (own, _, with) = figures(&paths[1]);
    assert_eq!((own, with), (4096, 1));
    assert_eq!(figures(&paths[2]), figures(&paths[1]));
    let held = stat(drive.path())["held_bytes"]
        .as_u64()
        .expect("a number of bytes");
    assert_eq!(figures(&paths[3]), (held, 0, 0));
    assert_eq!(figures(&report["total"]), (held, 0, 0), "the union of all is all");
    let both = du(&[&base, &dir]);
    assert_eq!(figures(&both["total"]), (held, 0, 0));
    assert_eq!(both["total"]["files"], 2);

    fs::remove_file(&base).expect("files can be removed");
    assert_eq!(
        figures(&du(&[&dir])["total"]).1,
        0,
        "a base goes before its clone"
    );
    fs::remove_file(dir.join("clone")).expect("files can be removed");
    let report = text(&run(okapi(&["check"]).arg(drive.path())));
    assert!(report.contains("sound"), "{report}");
    assert_eq!(stat(drive.path())["held_bytes"], 0);
}

#[test]
fn people_get_a_line_for_each_path_and_a_total() {
    let drive = drive_with_a_clone();
    let output = text(&run(okapi(&["du", "base", "dir"]).current_dir(drive.path())));
    let lines: Vec<Vec<&str>> = output
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0],
        ["logical", "referenced", "private", "shared", "with", "path"]
    );
    assert_eq!((lines[1].first(), lines[1].last()), (Some(&"1.0"), Some(&"base")));
    assert_eq!(lines[2].last(), Some(&"dir"));
    assert_eq!((lines[3].last(), lines.len()), (Some(&"total"), 4), "{output}");
    let output = text(&run(okapi(&["du"]).current_dir(drive.path())));
    assert_eq!(output.lines().count(), 2, "one path needs no total: {output}");
    assert!(output.trim_end().ends_with("  ."), "{output}");
}

#[test]
fn a_snapshot_shares_with_the_present_what_has_not_changed() {
    let drive = drive_with_a_clone();
    run(okapi(&["snapshot", "create", "s", "--mount"]).arg(drive.path()));
    let base = drive.path().join("base");
    let kept = drive.path().join(".okapi/snapshots/s");
    assert_eq!(figures(&du(&[&base])["total"]).0, 0, "the snapshot has it too");
    fs::remove_file(&base).expect("files can be removed");
    let output = run(okapi(&["snapshot", "list", "--json", "--mount"]).arg(drive.path()));
    let listed: Value = serde_json::from_slice(&output.stdout).expect("--json prints JSON");
    let (private, shared, _) = figures(&du(&[&kept])["total"]);
    assert_eq!(listed[0]["private_bytes"], private);
    assert!(shared > 0, "the clone is as it was");
    let both = du(&[&kept, drive.path()]);
    assert_eq!(figures(&both["total"]).1, 0);
    assert_eq!(
        figures(&du(&[&kept.join("base")])["total"]).2,
        1,
        "the clone, as it is and was"
    );
}

#[test]
fn links_and_what_programs_have_mapped_are_counted_rightly() {
    let drive = Detached::mount(&[]);
    let path = drive.path().join("file");
    let file = File::options()
        .create_new(true)
        .read(true)
        .write(true)
        .open(&path);
    let file = file.expect("the drive takes files");
    file.set_len(LEN as u64).expect("files can be made longer");
    let mut bytes = Mapping::new(&file, 0, LEN, true).expect("files can be mapped");
    bytes.write(0, &[7; LEN]);
    assert_eq!(figures(&du(&[&path])["total"]), (LEN as u64, 0, 0));
    let link = drive.path().join("hard");
    fs::hard_link(&path, &link).expect("the drive takes links");
    assert_eq!(figures(&du(&[&path])["total"]), (0, LEN as u64, 1));
    assert_eq!(figures(&du(&[&link, &path])["total"]), (LEN as u64, 0, 0));
    symlink("file", drive.path().join("soft")).expect("the drive takes symlinks");
    assert_eq!(figures(&du(&[&drive.path().join("soft")])["total"]), (0, 0, 0));
}

#[test]
fn several_drives_are_counted_together() {
    let (one, two) = (Detached::mount(&[]), Detached::mount(&[]));
    for drive in [&one, &two] {
        fs::write(drive.path().join("file"), vec![7; LEN]).expect("the drive takes files");
    }
    let report = du(&[one.path(), &two.path().join("file"), &one.path().join("file")]);
    assert_eq!(figures(&report["total"]), (2 * LEN as u64, 0, 0));
    assert_eq!(report["total"]["files"], 2);
    for usage in report["paths"].as_array().expect("paths are an array") {
        assert_eq!(figures(usage), (LEN as u64, 0, 0));
    }
}

#[test]
fn what_is_on_no_drive_is_refused_with_a_cure() {
    let drive = Detached::mount(&[]);
    let elsewhere = Scratch::new();
    fails(
        okapi(&["du"]).arg(drive.path()).arg(elsewhere.path()),
        1,
        &[
            elsewhere.path().to_str().expect("our paths are text"),
            "not on an okapi drive",
            "hint",
        ],
    );
    fails(
        okapi(&["du"]).arg(drive.path().join("nothing")),
        1,
        &["nothing", "No such file"],
    );
}
