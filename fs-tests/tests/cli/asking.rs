//! `okapi stat` and `okapi check`: what a drive holds, what it was asked, whether it is sound.

use std::fs;

use fs_tests::harness::run;

use crate::support::{Detached, okapi, stat, text};

#[test]
fn stat_counts_bytes_and_requests() {
    let drive = Detached::mount(&[]);
    fs::write(drive.path().join("file"), vec![7; 1 << 20]).expect("the drive takes files");
    let stat = stat(drive.path());
    assert_eq!(
        stat["mountpoint"],
        drive.path().to_str().expect("our paths are text")
    );
    assert_eq!(
        (&stat["inodes"], &stat["logical_bytes"]),
        (&2.into(), &(1 << 20).into())
    );
    let bytes = |name: &str| stat[name].as_u64().expect("a number of bytes");
    assert!(bytes("held_bytes") >= 1 << 20 && bytes("resident_bytes") >= 1 << 20);
    assert_eq!(
        bytes("free_bytes"),
        bytes("size_bytes") - bytes("held_bytes") - bytes("metadata_bytes")
    );
    assert!(
        stat["requests"]["write"]
            .as_u64()
            .is_some_and(|writes| writes >= 1)
    );

    let human = text(&run(okapi(&["stat"]).arg(drive.path())));
    for word in [
        "64.0 MiB",
        "stored",
        "held",
        "shared",
        "free",
        "resident",
        "inodes",
        "requests",
        "namespace",
    ] {
        assert!(human.contains(word), "no {word} in {human}");
    }
}

#[test]
fn check_finds_a_drive_sound() {
    let drive = Detached::mount(&[]);
    fs::create_dir(drive.path().join("directory")).expect("the drive takes directories");
    fs::write(drive.path().join("directory/file"), vec![7; 100_000]).expect("the drive takes files");
    let report = text(&run(okapi(&["check"]).arg(drive.path())));
    assert!(
        report.contains("sound: 3 inodes (2 directories, 1 files), 2 names"),
        "{report}"
    );
}
