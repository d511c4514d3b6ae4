//! `okapi grid`: blocks and records beside the files, and the blocks of the files.

use std::fs;
use std::io::Write;
use std::process::{Output, Stdio};

use fs_tests::harness::run;

use crate::support::{Detached, fails, okapi, text};

fn put(drive: &Detached, arguments: &[&str], bytes: &[u8]) -> Output {
    let mut child = okapi(&["grid", "put", "--mount"])
        .arg(drive.path())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    // A program that refuses does not read; it says why.
    let _ = stdin.write_all(bytes);
    drop(stdin);
    child.wait_with_output().expect("the program ends")
}

fn get(drive: &Detached, arguments: &[&str]) -> Vec<u8> {
    run(okapi(&["grid", "get", "--mount"])
        .arg(drive.path())
        .args(arguments))
    .stdout
}

fn keys(drive: &Detached, arguments: &[&str]) -> String {
    text(&run(okapi(&["grid", "keys", "--mount"])
        .arg(drive.path())
        .args(arguments)))
}

#[test]
fn blocks_are_put_and_got_and_deleted() {
    let drive = Detached::mount(&[]);
    assert_eq!(get_failure(&drive, &["7"]), "there is no namespace `grid`");
    assert!(put(&drive, &["7"], b"hello\n").status.success());
    assert!(put(&drive, &["0xffffffffffff"], b"last").status.success());
    assert_eq!(get(&drive, &["7"]), b"hello\n");
    assert_eq!(get(&drive, &["7", "--offset", "1", "--len", "3"]), b"ell");
    assert_eq!(get(&drive, &["8"]), b"");
    assert_eq!(keys(&drive, &[]), "7\t6\n281474976710655\t4\n");
    assert_eq!(keys(&drive, &["--from", "8"]), "281474976710655\t4\n");
    assert_eq!(keys(&drive, &["--max", "1"]), "7\t6\n");

    assert!(put(&drive, &["7", "--offset", "8"], b"!").status.success());
    assert_eq!(get(&drive, &["7"]), b"hello\n\0\0!");
    assert!(put(&drive, &["7"], b"short").status.success());
    assert_eq!(get(&drive, &["7"]), b"short");
    assert!(put(&drive, &["7"], b"").status.success());
    run(okapi(&["grid", "rm", "0xffffffffffff", "--mount"]).arg(drive.path()));
    assert_eq!(keys(&drive, &[]), "");
    run(okapi(&["check"]).arg(drive.path()));
}

fn get_failure(drive: &Detached, arguments: &[&str]) -> String {
    let complaint = fails(
        okapi(&["grid", "get", "--mount"])
            .arg(drive.path())
            .args(arguments),
        1,
        &[],
    );
    let line = complaint.lines().next().unwrap_or_default();
    line.trim_start_matches("okapi: ").to_owned()
}

#[test]
fn records_are_longer_than_blocks() {
    let drive = Detached::mount(&["--block-size", "4K"]);
    let record: Vec<u8> = (0..100_000_u32).map(|number| (number % 251) as u8).collect();
    let refused = put(&drive, &["5"], &record);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        put(&drive, &["5", "--record", "--namespace", "records"], &record)
            .status
            .success()
    );
    assert_eq!(get(&drive, &["5", "--record", "--namespace", "records"]), record);
    assert!(keys(&drive, &["--namespace", "records"]).lines().count() >= 25);
    run(okapi(&["grid", "rm", "5", "--record", "--namespace", "records", "--mount"]).arg(drive.path()));
    assert_eq!(keys(&drive, &["--namespace", "records"]), "");
}

#[test]
fn the_blocks_of_files_can_be_read_and_not_written() {
    let drive = Detached::mount(&[]);
    fs::write(drive.path().join("file"), "the bytes of the file").expect("the drive takes files");
    let listed = keys(&drive, &["--namespace", "drive"]);
    let (index, len) = listed
        .trim_end()
        .split_once('\t')
        .expect("the file has one block");
    assert_eq!(len, "21");
    assert_eq!(
        get(&drive, &[index, "--namespace", "drive"]),
        b"the bytes of the file"
    );
    let refused = put(&drive, &["12345", "--namespace", "drive"], b"x");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("belong to files"));
    fails(
        okapi(&["grid", "rm", index, "--namespace", "drive", "--mount"]).arg(drive.path()),
        1,
        &["belong to files"],
    );
}

#[test]
fn a_closed_pipe_is_silent() {
    let drive = Detached::mount(&[]);
    assert!(
        put(&drive, &["1", "--record"], &vec![7; 4 << 20])
            .status
            .success()
    );
    let mut child = okapi(&["grid", "get", "--record", "1", "--mount"])
        .arg(drive.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("the program ends");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
