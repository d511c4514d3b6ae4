//! `okapi dedup` and `--dedup`: equal blocks are held once, and nobody sees it but in the figures.

use std::fs;
use std::path::Path;
use std::process::Command;

use fs_tests::harness::run;
use serde_json::Value;

use crate::support::{Detached, eventually, fails, okapi, stat, text};

/// Bytes of whole blocks, no two of them equal.
fn image(blocks: usize) -> Vec<u8> {
    let block = |number: usize| (0..64 << 10).map(move |at: usize| (at / 7 + number * 31) as u8 | 1);
    (0..blocks).flat_map(block).collect()
}

fn dedup(drive: &Detached) -> Value {
    let output = run(okapi(&["dedup", "--json"]).arg(drive.path()));
    serde_json::from_slice(&output.stdout).expect("--json prints JSON")
}

fn held(drive: &Detached) -> u64 {
    figure(&stat(drive.path()), "held_bytes")
}

fn figure(report: &Value, name: &str) -> u64 {
    report[name].as_u64().expect("a figure is a number")
}

fn assert_equal(a: &Path, b: &Path) {
    run(Command::new("cmp").arg(a).arg(b));
}

#[test]
fn equal_files_are_held_once() {
    let drive = Detached::mount(&["--dedup", "off"]);
    let (a, b) = (drive.path().join("a"), drive.path().join("b"));
    let bytes = image(20);
    for file in [&a, &b] {
        fs::write(file, &bytes).expect("the drive takes files");
    }
    let alone = bytes.len() as u64;
    assert_eq!(held(&drive), 2 * alone);
    let report = dedup(&drive);
    assert_eq!(figure(&report, "read_bytes"), 2 * alone);
    assert_eq!(figure(&report, "shared_bytes"), alone);
    let after = stat(drive.path());
    assert_eq!(figure(&after, "held_bytes"), alone);
    assert_eq!(figure(&after, "logical_bytes"), 2 * alone);
    assert_eq!(figure(&after, "shared_bytes"), alone);
    assert_eq!(
        (&after["ratio"], figure(&after, "unsealed_inodes")),
        (&Value::from(2.0), 0)
    );
    let people = text(&run(okapi(&["stat"]).arg(drive.path())));
    assert!(people.contains("2.00   of stored to held"), "{people}");
    assert_equal(&a, &b);

    let mut other = bytes.clone();
    other[100_000] = 0;
    fs::write(&b, &other).expect("the drive takes files");
    assert!(fs::read(&a).expect("it is there") == bytes);
    assert!(fs::read(&b).expect("it is there") == other);
    let people = text(&run(okapi(&["dedup"]).arg(drive.path())));
    assert!(people.contains("freed that others hold"), "{people}");
    assert_eq!(held(&drive), alone + (64 << 10));
    run(okapi(&["check"]).arg(drive.path()));
    fs::remove_file(&a).expect("it is there");
    assert!(fs::read(&b).expect("it is there") == other);
    run(okapi(&["check"]).arg(drive.path()));
}

#[test]
fn what_is_written_back_to_a_clone_is_dropped() {
    let drive = Detached::mount(&["--dedup", "off"]);
    let (base, clone) = (drive.path().join("base"), drive.path().join("clone"));
    let mut bytes = image(20);
    fs::write(&base, &bytes).expect("the drive takes files");
    run(Command::new("cp").arg(&base).arg(&clone));
    dedup(&drive);
    let alone = held(&drive);
    bytes[5 << 16] = 0;
    let source = drive.dir.path().with_extension("source");
    fs::write(&source, &bytes).expect("a scratch directory has a writable parent");
    // Over the bytes that are there, all of them, as `qemu-img convert -n` and dd do.
    run(Command::new("dd")
        .args(["bs=1M", "conv=notrunc", "status=none"])
        .arg(format!("if={}", source.display()))
        .arg(format!("of={}", clone.display())));
    assert_eq!(held(&drive), 2 * alone);
    dedup(&drive);
    assert_eq!(
        held(&drive),
        alone + (64 << 10),
        "all but one block are the base's"
    );
    assert_equal(&source, &clone);
    fs::remove_file(&source).expect("it was made here");
    run(okapi(&["check"]).arg(drive.path()));
}

#[test]
fn zeros_take_no_memory() {
    let drive = Detached::mount(&["--dedup", "off"]);
    let file = drive.path().join("zeros");
    fs::write(&file, vec![0; 1 << 20]).expect("the drive takes files");
    let blocks = || std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&file).expect("it is there"));
    assert_eq!(blocks(), 2048);
    assert_eq!(figure(&dedup(&drive), "zero_bytes"), 1 << 20);
    assert_eq!((held(&drive), blocks()), (0, 0), "the kernel has asked again");
    assert!(
        fs::read(&file)
            .expect("it is there")
            .iter()
            .all(|byte| *byte == 0)
    );
}

#[test]
fn a_drive_looks_for_equal_blocks_by_itself() {
    for options in [&["--dedup", "idle"][..], &["-o", "dedup=inline"], &[]] {
        let drive = Detached::mount(options);
        let bytes = image(3);
        for name in ["a", "b"] {
            fs::write(drive.path().join(name), &bytes[..150_000]).expect("the drive takes files");
        }
        eventually("equal files are held once", || {
            let report = stat(drive.path());
            figure(&report, "unsealed_inodes") == 0
                && figure(&report, "logical_bytes") == 2 * figure(&report, "held_bytes")
        });
        assert_equal(&drive.path().join("a"), &drive.path().join("b"));
        drive.unmount();
        eventually("its program ends", || !drive.is_running());
    }
    let nowhere = ["mount", "--dedup", "sometimes", "/nowhere"];
    fails(&mut okapi(&nowhere), 2, &["off, idle or inline"]);
}
