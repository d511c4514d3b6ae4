//! Drives that hold files compressed which were left alone.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use fs_tests::harness::{Scratch, run};
use serde_json::Value;

use crate::support::{Detached, eventually, fails, okapi, stat, text};

const COMPRESSING: [&str; 4] = ["--dedup", "off", "--compress", "lz4"];

fn figure(stat: &Value, name: &str) -> u64 {
    stat[name].as_u64().expect("a figure is a number")
}

/// Lines that differ, and compress well.
fn lines(count: usize) -> String {
    (0..count)
        .map(|line| format!("line {line} of a file that is held compressed\n"))
        .collect()
}

#[test]
fn files_that_were_left_alone_are_compressed_and_stay_what_they_are() {
    let drive = Detached::mount(&COMPRESSING);
    let file = drive.path().join("file");
    let expected = lines(20_000);
    fs::write(&file, &expected).unwrap();
    let blocks = expected.len().div_ceil(64 << 10) as u64;
    eventually("the drive compresses by itself", || {
        figure(&stat(drive.path()), "compressed_blocks") == blocks
    });
    let after = stat(drive.path());
    let (plain, held) = (
        figure(&after, "compressed_bytes"),
        figure(&after, "compressed_held_bytes"),
    );
    assert!(held < plain / 2 && plain >= expected.len() as u64, "{after}");
    assert_eq!(figure(&after, "held_bytes"), held);
    assert_eq!(
        figure(&after, "shared_bytes"),
        0,
        "what is compressed is not shared"
    );
    assert!(after["ratio"].as_f64().expect("a ratio is a number") > 2.0);

    fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    assert!(fs::read_to_string(&file).unwrap() == expected);
    File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .write_all_at(b"LINE", 100_000)
        .unwrap();
    let mut changed = expected.into_bytes();
    changed[100_000..100_004].copy_from_slice(b"LINE");
    fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    assert!(fs::read(&file).unwrap() == changed);
    let said = text(&run(okapi(&["stat"]).arg(drive.path())));
    assert!(said.contains("compressed"), "{said}");
    run(okapi(&["check"]).arg(drive.path()));
    drive.unmount();
}

#[test]
fn a_file_of_random_bytes_and_a_drive_that_was_not_asked_stay_plain() {
    let drive = Detached::mount(&["-o", "compress=zstd"]);
    run(std::process::Command::new("dd")
        .args(["if=/dev/urandom", "bs=1M", "count=2", "status=none"])
        .arg(format!("of={}", drive.path().join("random").display())));
    let done = text(&run(okapi(&["dedup"]).arg(drive.path())));
    assert!(!done.contains("compression"), "{done}");
    assert_eq!(figure(&stat(drive.path()), "compressed_blocks"), 0);
    fs::write(drive.path().join("lines"), lines(5000)).unwrap();
    let done = text(&run(okapi(&["dedup"]).arg(drive.path())));
    assert!(done.contains("freed by compression"), "{done}");
    assert!(figure(&stat(drive.path()), "compressed_blocks") > 0);
    run(okapi(&["check"]).arg(drive.path()));

    let plain = Detached::mount(&[]);
    fs::write(plain.path().join("lines"), lines(5000)).unwrap();
    run(okapi(&["dedup"]).arg(plain.path()));
    assert_eq!(figure(&stat(plain.path()), "compressed_blocks"), 0);
}

#[test]
fn another_way_to_compress_is_refused() {
    let dir = Scratch::new();
    for arguments in [["--compress", "gzip"], ["-o", "compress=on"]] {
        fails(
            okapi(&["mount"]).args(arguments).arg(dir.path()),
            2,
            &["compression is off, lz4 or zstd"],
        );
    }
}
