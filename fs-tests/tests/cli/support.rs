//! Drives served by a program of their own, and what to look at from outside.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use fs_tests::harness::{Scratch, binary, run, transport_unless_in};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// A drive mounted by `okapi mount` without `--foreground`: served by a program that left the terminal.
pub(crate) struct Detached {
    pub(crate) dir: Scratch,
    pub(crate) pid: i32,
}

impl Detached {
    pub(crate) fn mount(options: &[&str]) -> Self {
        Self::mount_on(Scratch::new(), options)
    }

    pub(crate) fn mount_on(dir: Scratch, options: &[&str]) -> Self {
        run(okapi(&["mount", "--size", "64M"])
            .args(transport_unless_in(options))
            .args(options)
            .arg(dir.path()));
        let pid = served_by(dir.path());
        Self { dir, pid }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid), signal).expect("the program runs");
    }

    pub(crate) fn is_running(&self) -> bool {
        is_running(self.pid)
    }

    pub(crate) fn unmount(&self) {
        run(okapi(&["umount"]).arg(self.path()));
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        if is_mounted(self.path()) {
            let _ = okapi(&["umount", "--lazy"]).arg(self.path()).output();
        }
    }
}

pub(crate) fn okapi(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).stdin(Stdio::null());
    command
}

pub(crate) fn stat(mountpoint: &Path) -> Value {
    let output = run(okapi(&["stat", "--json"]).arg(mountpoint));
    serde_json::from_slice(&output.stdout).expect("--json prints JSON")
}

pub(crate) fn served_by(mountpoint: &Path) -> i32 {
    let pid = stat(mountpoint)["pid"].as_i64().expect("a drive has a program");
    i32::try_from(pid).expect("process numbers have 32 bits")
}

/// A process that has ended counts as gone, whether its parent has noticed or not.
pub(crate) fn is_running(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().starts_with(" Z"))
}

pub(crate) fn mount_line(mountpoint: &Path) -> Option<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    let path = mountpoint.to_str().expect("our paths are text");
    table
        .lines()
        .find(|line| line.split(' ').nth(4) == Some(path))
        .map(str::to_owned)
}

pub(crate) fn is_mounted(mountpoint: &Path) -> bool {
    mount_line(mountpoint).is_some()
}

/// The control socket of a drive that root has mounted.
pub(crate) struct Socket {
    pub(crate) path: PathBuf,
    identity: (u64, i64, i64),
}

impl Socket {
    pub(crate) fn of(mountpoint: &Path) -> Self {
        let line = mount_line(mountpoint).expect("the drive is mounted");
        let device = line.split(' ').nth(2).expect("a mount has a device number");
        let path = PathBuf::from(format!("/run/okapi/{device}.sock"));
        let identity = identity(&path).expect("the drive has a socket");
        Self { path, identity }
    }

    /// Whether it is gone; one of the same name may be that of a drive mounted since.
    pub(crate) fn is_gone(&self) -> bool {
        identity(&self.path) != Some(self.identity)
    }
}

fn identity(path: &Path) -> Option<(u64, i64, i64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
}

#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Expects a command to fail with this code, and its complaint, of one line and perhaps a hint, to have these words.
#[track_caller]
pub(crate) fn fails(command: &mut Command, code: i32, words: &[&str]) -> String {
    let output = command.output().expect("the program runs");
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{command:?}: {complaint}");
    for word in words {
        assert!(
            complaint.contains(word),
            "{command:?}: no {word:?} in: {complaint}"
        );
    }
    assert!(output.stdout.is_empty(), "a failure prints nothing to stdout");
    if complaint.starts_with("okapi: ") {
        let mut lines = complaint.lines().skip(1);
        assert!(
            lines.all(|line| line.starts_with("hint: ")),
            "one line and hints: {complaint}"
        );
    }
    complaint
}

pub(crate) fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("the output is text")
}
