//! `okapi defrag`: what random writes have shattered becomes whole again.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use fs_tests::harness::{Scratch, run};
use serde_json::Value;

use crate::support::{Detached, fails, okapi, stat, text};

const PAGE: usize = 4096;
const PAGES: usize = 1024;

fn defrag(paths: &[&Path]) -> Value {
    let output = run(okapi(&["defrag", "--json"]).args(paths));
    assert!(output.stderr.is_empty(), "there is no bar where nobody looks");
    serde_json::from_slice(&output.stdout).expect("--json prints JSON")
}

fn figure(report: &Value, name: &str) -> u64 {
    report[name].as_u64().expect("a figure is a number")
}

/// A clone in which every second page was written to, without its base.
fn shattered(drive: &Detached, name: &str) -> Vec<u8> {
    let (base, clone) = (drive.path().join("base"), drive.path().join(name));
    let page = |number: usize| (number as u32 + 1).to_le_bytes().repeat(PAGE / 4);
    let mut bytes: Vec<u8> = (0..PAGES).flat_map(page).collect();
    fs::write(&base, &bytes).expect("the drive takes files");
    run(Command::new("cp").arg(&base).arg(&clone));
    let file = File::options().write(true).open(&clone).expect("it is there");
    for step in 0..PAGES / 2 {
        let at = step * 2 * 37 % PAGES * PAGE;
        bytes[at..at + PAGE].fill(step as u8 | 1);
        file.write_all_at(&bytes[at..at + PAGE], at as u64)
            .expect("the drive takes writes");
    }
    fs::remove_file(&base).expect("it is there");
    bytes
}

#[test]
fn what_is_shattered_becomes_whole_and_its_memory_free() {
    let drive = Detached::mount(&["--dedup", "off"]);
    let bytes = shattered(&drive, "clone");
    let whole = bytes.len() as u64;
    let before = figure(&stat(drive.path()), "held_bytes");
    assert!(before > whole * 5 / 4, "{before}");
    let report = defrag(&[drive.path()]);
    assert_eq!(
        (figure(&report, "files"), figure(&report, "extents_after")),
        (1, 64)
    );
    assert!(figure(&report, "extents_before") > 1000, "{report}");
    let after = stat(drive.path());
    assert_eq!(figure(&after, "held_bytes"), whole);
    assert!(figure(&report, "freed_bytes") >= before - whole, "{report}");
    assert!(figure(&after, "resident_bytes") <= whole + (1 << 20), "{after}");
    assert!(fs::read(drive.path().join("clone")).expect("it is there") == bytes);
    let again = defrag(&[drive.path()]);
    assert_eq!(
        (figure(&again, "extents_before"), figure(&again, "extents_after")),
        (64, 64)
    );
    assert_eq!(figure(&again, "freed_bytes"), 0);
    run(okapi(&["check"]).arg(drive.path()));
}

#[test]
fn paths_are_defragmented_alone_and_snapshots_not_at_all() {
    let drive = Detached::mount(&["--dedup", "off"]);
    shattered(&drive, "one");
    shattered(&drive, "two");
    let one = drive.path().join("one");
    let people = text(&run(okapi(&["defrag"]).arg(&one)));
    assert!(people.starts_with("1 files: 64 extents of "), "{people}");
    let report = defrag(&[&drive.path().join("two"), &one]);
    assert_eq!(
        (figure(&report, "files"), figure(&report, "extents_after")),
        (2, 128)
    );
    run(okapi(&["snapshot", "create", "s", "--mount"]).arg(drive.path()));
    let frozen = drive.path().join(".okapi/snapshots/s");
    fails(
        okapi(&["defrag"]).arg(&frozen),
        1,
        &["a snapshot cannot be changed"],
    );
    let elsewhere = Scratch::new();
    fails(
        okapi(&["defrag"]).arg(elsewhere.path()),
        1,
        &["not on an okapi drive"],
    );
    fails(okapi(&["defrag"]).arg(one.join("x")), 1, &["cannot look at"]);
    run(okapi(&["check"]).arg(drive.path()));
}
