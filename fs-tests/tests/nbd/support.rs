//! A drive with images, and an export of them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use fs_tests::harness::{Drive, Place, Scratch, binary};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Mounts a drive with an image for each name and size. Equal blocks stay apart, so that memory can be counted.
pub(crate) fn drive_with(images: &[(&str, u64)]) -> Drive {
    drive_of(&["--size", "512M", "--dedup", "off"], images)
}

/// Mounts a drive with these options, and an image for each name and size.
pub(crate) fn drive_of(options: &[&str], images: &[(&str, u64)]) -> Drive {
    let drive = Drive::mount(options);
    fs::create_dir(drive.path().join("images")).unwrap();
    for (name, size) in images {
        image(&drive, name).set_len(*size).unwrap();
    }
    drive
}

/// Makes an image, or opens it.
pub(crate) fn image(drive: &Drive, name: &str) -> File {
    let path = drive.path().join("images").join(name);
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .unwrap()
}

/// A running `okapi export nbd`.
pub(crate) struct Export {
    command: Child,
    pub(crate) address: String,
    directory: Scratch,
}

impl Export {
    /// Listens in a fresh directory.
    pub(crate) fn start(drive: &Drive) -> Self {
        Self::with(drive, &[])
    }

    /// Listens in a fresh directory, with more options.
    pub(crate) fn with(drive: &Drive, options: &[&str]) -> Self {
        let directory = Scratch::new();
        let mut command = export(drive);
        if !options.contains(&"--tcp") {
            command.arg("--unix").arg(directory.path().join("s"));
        }
        let mut command = command.args(options).spawn().unwrap();
        let mut address = String::new();
        let stdout = command.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut address).unwrap();
        assert!(address.ends_with('\n'), "the export has failed");
        let address = address.trim_end().to_owned();
        Self {
            command,
            address,
            directory,
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    /// The address of an image.
    pub(crate) fn uri(&self, name: &str) -> String {
        self.address.replacen(":///", &format!(":///{name}"), 1)
    }

    /// Ends it by a signal.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.command.wait().unwrap()
    }

    /// Waits for its own end.
    pub(crate) fn wait(mut self) -> ExitStatus {
        self.command.wait().unwrap()
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        kill(Pid::from_raw(self.command.id().cast_signed()), signal).unwrap();
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        if let Ok(None) = self.command.try_wait() {
            self.signal(Signal::SIGTERM);
            let _ = self.command.wait();
        }
    }
}

/// The command, without a place to listen.
pub(crate) fn export(drive: &Drive) -> Command {
    let mut command = Command::new(binary());
    command
        .args(["export", "nbd", "--mount"])
        .arg(drive.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Memory that the blocks of a drive take.
pub(crate) fn held_bytes(drive: &Drive) -> u64 {
    drive.stat()["held_bytes"].as_u64().unwrap()
}

/// Bytes that differ everywhere.
pub(crate) fn pattern(seed: u8, len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| seed.wrapping_add((at % 251) as u8) | 1)
        .collect()
}

pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
