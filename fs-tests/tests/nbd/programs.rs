//! The programs that judge an NBD server: nbdinfo, nbdcopy, qemu-img, qemu-io.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use fs_tests::harness::{Drive, Place, Scratch, run};
use fs_tests::rng::{Rng, from_env_or_time, ops_from_env};
use serde_json::Value;

use crate::support::{Export, drive_with, held_bytes, image, pattern};

const SIZE: u64 = 64 << 20;

fn program(name: &str, arguments: &[&str]) -> String {
    let output = run(Command::new(name).args(arguments));
    String::from_utf8(output.stdout).unwrap()
}

/// A file beside the drive, with an image's like.
fn raw_file(dir: &Path, bytes: impl Fn(&fs::File)) -> String {
    let path = dir.join("raw");
    let file = fs::File::create(&path).unwrap();
    file.set_len(SIZE).unwrap();
    bytes(&file);
    path.to_str().unwrap().to_owned()
}

/// A drive with data in three places of its image.
fn sparse_drive() -> Drive {
    let drive = drive_with(&[("disk", SIZE)]);
    scatter(&image(&drive, "disk"));
    drive
}

fn scatter(file: &fs::File) {
    use std::os::unix::fs::FileExt;
    for (n, offset) in [0, 10 << 20, SIZE - (1 << 20)].into_iter().enumerate() {
        file.write_all_at(&pattern(n as u8 + 1, 1 << 20), offset).unwrap();
    }
}

#[test]
fn nbdinfo_shows_what_an_export_can_do_and_where_data_is() {
    let drive = sparse_drive();
    let export = Export::start(&drive);
    let info: Value =
        serde_json::from_str(&program("nbdinfo", &["--json", "--list", &export.address])).unwrap();
    assert_eq!(info["protocol"], "newstyle-fixed");
    let disk = &info["exports"][0];
    assert_eq!(
        (&disk["export-name"], &disk["export-size"]),
        (&"disk".into(), &SIZE.into())
    );
    for can in [
        "can_fast_zero",
        "can_flush",
        "can_fua",
        "can_multi_conn",
        "can_trim",
        "can_zero",
        "can_df",
    ] {
        assert_eq!(disk[can], true, "{can}");
    }
    assert_eq!(disk["is_read_only"], false);
    assert_eq!(
        (
            &disk["block_size_minimum"],
            &disk["block_size_preferred"],
            &disk["block_size_maximum"]
        ),
        (&1.into(), &4096.into(), &(32 << 20).into())
    );
    let map: Value =
        serde_json::from_str(&program("nbdinfo", &["--map", "--json", &export.uri("disk")])).unwrap();
    let runs: Vec<_> = map
        .as_array()
        .unwrap()
        .iter()
        .map(|run| {
            (
                run["offset"].as_u64().unwrap(),
                run["length"].as_u64().unwrap(),
                run["type"].as_u64().unwrap(),
            )
        })
        .collect();
    let mib = 1 << 20;
    assert_eq!(
        runs,
        [
            (0, mib, 0),
            (mib, 9 * mib, 3),
            (10 * mib, mib, 0),
            (11 * mib, 52 * mib, 3),
            (63 * mib, mib, 0)
        ]
    );
}

#[test]
fn nbdcopy_carries_an_image_out_and_in_and_leaves_holes() {
    let drive = sparse_drive();
    image(&drive, "copy").set_len(SIZE).unwrap();
    let export = Export::start(&drive);
    let dir = Scratch::new();
    let raw = raw_file(dir.path(), |_| {});
    let held = held_bytes(&drive);
    program("nbdcopy", &[&export.uri("disk"), &raw]);
    let original = fs::read(drive.path().join("images/disk")).unwrap();
    assert!(fs::read(&raw).unwrap() == original);
    program("nbdcopy", &["--destination-is-zero", &raw, &export.uri("copy")]);
    assert!(fs::read(drive.path().join("images/copy")).unwrap() == original);
    assert_eq!(held_bytes(&drive), 2 * held, "holes stayed holes");
    fs::remove_file(raw).unwrap();
}

#[test]
fn qemu_img_maps_converts_and_compares() {
    let drive = sparse_drive();
    image(&drive, "copy").set_len(SIZE).unwrap();
    let export = Export::start(&drive);
    let dir = Scratch::new();
    let raw = raw_file(dir.path(), scatter);
    let disk = export.uri("disk");
    program("qemu-img", &["compare", "-f", "raw", "-F", "raw", &disk, &raw]);
    let map: Value = serde_json::from_str(&program(
        "qemu-img",
        &["map", "--output=json", "-f", "raw", &disk],
    ))
    .unwrap();
    let data: u64 = map
        .as_array()
        .unwrap()
        .iter()
        .filter(|run| run["data"] == true)
        .map(|run| run["length"].as_u64().unwrap())
        .sum();
    assert_eq!(data, 3 << 20);
    let qcow2 = dir.path().join("image.qcow2");
    let qcow2 = qcow2.to_str().unwrap();
    program("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", &disk, qcow2]);
    let copy = export.uri("copy");
    program(
        "qemu-img",
        &["convert", "-n", "-f", "qcow2", "-O", "raw", qcow2, &copy],
    );
    program(
        "qemu-img",
        &["compare", "-s", "-f", "raw", "-F", "raw", &copy, &raw],
    );
    program(
        "qemu-img",
        &["bench", "-c", "2000", "-d", "16", "-f", "raw", "-w", &copy],
    );
    for file in [&raw, qcow2] {
        fs::remove_file(file).unwrap();
    }
}

#[test]
fn qemu_io_changes_an_image_and_a_raw_file_alike() {
    let mut rng = Rng::new(from_env_or_time("qemu-io"));
    let drive = sparse_drive();
    let export = Export::start(&drive);
    let dir = Scratch::new();
    let raw = raw_file(dir.path(), scatter);
    let ops = ops_from_env(2000);
    let script = (0..ops).fold(String::new(), |mut script, _| {
        let (command, unit) = rng.pick(&[
            ("write -P 85", 512),
            ("write -P 170", 4096),
            ("writev -P 7", 65_536),
            ("write -f -P 9", 1),
            ("write -z", 512),
            ("write -z -u", 4096),
            ("discard", 4096),
            ("read -q", 512),
            ("aio_write -q -P 33", 4096),
        ]);
        let len = unit * (1 + rng.below(8));
        let offset = rng.below((SIZE - len) / unit) * unit;
        writeln!(script, "{command} {offset} {len}").unwrap();
        if command.starts_with("aio") {
            script.push_str("aio_flush\n");
        }
        script
    });
    for target in [&export.uri("disk"), &raw] {
        // The raw file is told to take discarded bytes as zeros too, which a file's are.
        let mut qemu_io = Command::new("qemu-io");
        qemu_io.args(["-f", "raw", "-d", "unmap", target]);
        let output = feed(&mut qemu_io, &script);
        assert!(!output.contains("failed"), "{output}");
    }
    program(
        "qemu-img",
        &["compare", "-f", "raw", "-F", "raw", &export.uri("disk"), &raw],
    );
    fs::remove_file(raw).unwrap();
    drop(export);
    drive.check();
}

/// Runs a program with text on its stdin; returns what it printed.
fn feed(command: &mut Command, text: &str) -> String {
    use std::io::{Read, Write};
    use std::process::Stdio;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let text = text.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let mut output = String::new();
    stdout.read_to_string(&mut output).unwrap();
    writer.join().unwrap().unwrap();
    assert!(child.wait().unwrap().success(), "{output}");
    output
}
