//! `okapi image diff`.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use fs_tests::harness::{Drive, Place, binary};
use fs_tests::rng::{Rng, from_env_or_time, ops_from_env};
use serde_json::Value;

use crate::support::{drive, fails, image, path, pattern};

fn open(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

/// What the command says: offsets and lengths.
fn differences(drive: &Drive, a: &str, b: &str) -> Vec<(u64, u64)> {
    let report: Value = serde_json::from_str(&image(drive, &["diff", a, b, "--json"])).unwrap();
    let number = |range: &Value, of: &str| range[of].as_u64().unwrap();
    let ranges = report["ranges"].as_array().unwrap();
    ranges
        .iter()
        .map(|range| (number(range, "offset"), number(range, "length")))
        .collect()
}

/// The same by comparing two files, the shorter one followed by zeros.
fn expected(drive: &Drive, a: &str, b: &str) -> Vec<(u64, u64)> {
    let mut bytes = [a, b].map(|name| fs::read(path(drive, name)).unwrap());
    let len = bytes[0].len().max(bytes[1].len());
    bytes.iter_mut().for_each(|bytes| bytes.resize(len, 0));
    let mut found: Vec<(u64, u64)> = Vec::new();
    for start in (0..len).step_by(4096) {
        let end = (start + 4096).min(len);
        if bytes[0][start..end] == bytes[1][start..end] {
            continue;
        }
        let length = (end - start) as u64;
        match found.last_mut().filter(|last| last.0 + last.1 == start as u64) {
            Some(last) => last.1 += length,
            None => found.push((start as u64, length)),
        }
    }
    found
}

#[test]
fn images_differ_where_their_bytes_do_wherever_these_are_held() {
    let drive = drive();
    let bytes = pattern(1, 4 << 20);
    fs::write(path(&drive, "base"), &bytes).unwrap();
    image(&drive, &["clone", "base", "clone"]);
    assert_eq!(differences(&drive, "base", "clone"), []);
    let clone = open(&path(&drive, "clone"));
    clone.write_all_at(b"other", 5000).unwrap();
    clone.write_all_at(&[0; 8192], 1 << 20).unwrap();
    // Equal bytes in memory of their own are no difference.
    clone.write_all_at(&bytes[2 << 20..3 << 20], 2 << 20).unwrap();
    let both = [(4096, 4096), (1 << 20, 8192)];
    assert_eq!(differences(&drive, "base", "clone"), both);
    assert_eq!(differences(&drive, "clone", "base"), both);
    // Nor are zeros behind the end of the shorter one.
    clone.set_len(5 << 20).unwrap();
    assert_eq!(differences(&drive, "base", "clone"), both);
    let table = image(&drive, &["diff", "base", "clone"]);
    assert!(
        table.ends_with("12 KiB of 4.0 MiB and 5.0 MiB differ\n"),
        "{table}"
    );
    assert_eq!(table.lines().count(), 4);
    assert_eq!(
        image(&drive, &["diff", "base", "base"]),
        "0 B of 4.0 MiB differ\n"
    );
}

#[test]
fn what_a_mapping_has_changed_counts() {
    let drive = drive();
    fs::write(path(&drive, "base"), pattern(1, 1 << 20)).unwrap();
    image(&drive, &["clone", "base", "clone"]);
    let file = open(&path(&drive, "clone"));
    let mut mapping = fs_tests::sys::Mapping::new(&file, 0, 1 << 20, true).unwrap();
    mapping.write(8200, b"mapped");
    assert_eq!(differences(&drive, "base", "clone"), [(8192, 4096)]);
}

#[test]
fn random_changes_are_found_like_by_comparing_all_bytes() {
    let mut rng = Rng::new(from_env_or_time("image diff"));
    let drive = drive();
    fs::write(path(&drive, "base"), pattern(1, (1 << 20) + 512)).unwrap();
    image(&drive, &["clone", "base", "clone"]);
    for _ in 0..ops_from_env(30) {
        let name = ["base", "clone"][rng.index(2)];
        let file = open(&path(&drive, name));
        for _ in 0..5 {
            let offset = rng.index(1 << 20) as u64;
            let byte = rng.index(2) as u8;
            let len = 1 + rng.index(20_000);
            file.write_all_at(&vec![byte; len], offset).unwrap();
        }
        if rng.percent(20) {
            file.set_len(rng.index(2 << 20) as u64 / 512 * 512).unwrap();
        }
        if rng.percent(20) {
            image(&drive, &["rm", "clone"]);
            image(&drive, &["clone", "base", "clone"]);
        }
        assert_eq!(
            differences(&drive, "base", "clone"),
            expected(&drive, "base", "clone")
        );
    }
    drive.check();
}

#[test]
fn large_images_are_compared_in_steps() {
    let drive = drive();
    for name in ["a", "b"] {
        let file = File::create(path(&drive, name)).unwrap();
        // More than one step compares, and a hole far beyond.
        for at in 0..80 {
            file.write_all_at(&pattern(at, 1 << 20), u64::from(at) << 20)
                .unwrap();
        }
        file.set_len(1 << 42).unwrap();
    }
    let b = open(&path(&drive, "b"));
    // A range that a step divides, if it ends there.
    b.write_all_at(&[7; 2 << 20], 63 << 20).unwrap();
    b.write_all_at(b"x", 1 << 41).unwrap();
    assert_eq!(
        differences(&drive, "a", "b"),
        [(63 << 20, 2 << 20), (1 << 41, 4096)]
    );
}

#[test]
fn what_cannot_be_compared_is_said_with_a_cure() {
    let drive = drive();
    fs::write(path(&drive, "a"), "bytes").unwrap();
    fails(&drive, &["diff", "a", "b"], 1, &["no image `b`", "hint"]);
    fails(&drive, &["diff", "b", "a"], 1, &["no image `b`", "hint"]);
    fails(&drive, &["diff", "a"], 2, &["<B>"]);
    let elsewhere = fs_tests::harness::Scratch::new();
    let output = Command::new(binary())
        .args(["image", "diff", "a", "a", "--mount"])
        .arg(elsewhere.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(drive.path().exists());
}
