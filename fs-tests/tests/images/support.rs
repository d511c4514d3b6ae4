//! A drive with images, and the command under test.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use fs_tests::harness::{Drive, Place, Scratch, binary, run};
use fs_tests::sys::set_xattr;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Mounts a drive with an empty directory of images. Equal blocks stay apart, so that memory can be counted.
pub(crate) fn drive() -> Drive {
    drive_with(&["--size", "512M", "--dedup", "off"])
}

/// Mounts a drive with these options and an empty directory of images.
pub(crate) fn drive_with(options: &[&str]) -> Drive {
    let drive = Drive::mount(options);
    fs::create_dir(drive.path().join("images")).unwrap();
    drive
}

/// Where an image is.
pub(crate) fn path(drive: &Drive, name: &str) -> PathBuf {
    drive.path().join("images").join(name)
}

/// `okapi image` for a drive.
pub(crate) fn command(drive: &Drive, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command
        .arg("image")
        .args(arguments)
        .arg("--mount")
        .arg(drive.path())
        .stdin(Stdio::null());
    command
}

/// Runs `okapi image`, which must succeed; returns what it prints.
#[track_caller]
pub(crate) fn image(drive: &Drive, arguments: &[&str]) -> String {
    let output = run(&mut command(drive, arguments));
    assert!(output.stderr.is_empty(), "no complaint");
    String::from_utf8(output.stdout).unwrap()
}

/// Expects `okapi image` to fail with this code, and its complaint, of one line and hints, to have these words.
#[track_caller]
pub(crate) fn fails(drive: &Drive, arguments: &[&str], code: i32, words: &[&str]) {
    let output = command(drive, arguments).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {complaint}");
    for word in words {
        assert!(
            complaint.contains(word),
            "{arguments:?}: no {word:?} in: {complaint}"
        );
    }
    assert!(output.stdout.is_empty(), "a failure prints nothing to stdout");
    if code == 1 {
        let mut lines = complaint.lines();
        assert!(lines.next().is_some_and(|line| line.starts_with("okapi: ")));
        assert!(lines.all(|line| line.starts_with("hint: ")), "{complaint}");
    }
}

/// Names in the directory of images, as a listing shows them.
pub(crate) fn listing(drive: &Drive) -> Vec<String> {
    let entries = fs::read_dir(drive.path().join("images")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Memory that the blocks of a drive take.
pub(crate) fn held_bytes(drive: &Drive) -> u64 {
    drive.stat()["held_bytes"].as_u64().unwrap()
}

/// Bytes of which no page is like another.
pub(crate) fn pattern(seed: u8, len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| (at / 4096).wrapping_mul(167) as u8 ^ (at % 251) as u8 ^ seed)
        .collect()
}

/// Makes an image say that it was cloned from another, as any program can.
pub(crate) fn set_base(drive: &Drive, name: &str, base: &str) {
    set_xattr(&path(drive, name), true, c"user.okapi.base", base.as_bytes(), 0).unwrap();
}

/// A running `okapi export nbd`, listening in a fresh directory.
pub(crate) struct Export {
    command: Child,
    directory: Scratch,
}

impl Export {
    pub(crate) fn start(drive: &Drive) -> Self {
        let directory = Scratch::new();
        let mut command = Command::new(binary())
            .args(["export", "nbd", "--mount"])
            .arg(drive.path())
            .arg("--unix")
            .arg(directory.path().join("s"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        let stdout = command.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut address).unwrap();
        assert!(address.ends_with('\n'), "the export has failed");
        Self { command, directory }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("s")
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        if let Ok(None) = self.command.try_wait() {
            let _ = kill(Pid::from_raw(self.command.id().cast_signed()), Signal::SIGTERM);
            let _ = self.command.wait();
        }
    }
}
