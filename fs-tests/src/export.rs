//! Running exports of a drive's images.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Drive, Place, Scratch, binary};

/// A running `okapi export`; it ends with this.
#[derive(Debug)]
pub struct Export {
    command: Child,
    /// What the command has printed: where clients connect.
    pub address: String,
    directory: Scratch,
}

impl Export {
    /// All images as network block devices, on a socket in a fresh directory.
    ///
    /// # Panics
    /// Where that fails, as below.
    pub fn start(drive: &Drive) -> Self {
        Self::with(drive, &[])
    }

    /// As [`Export::start`], with more options.
    pub fn with(drive: &Drive, options: &[&str]) -> Self {
        let place = (!options.contains(&"--tcp")).then_some("--unix");
        Self::run(command(drive, "nbd").args(options), place)
    }

    /// One image as a disk of virtual machines, on a socket in a fresh directory, with more options.
    pub fn vhost(drive: &Drive, image: &str, options: &[&str]) -> Self {
        let mut command = command(drive, "vhost-user-blk");
        Self::run(command.arg(image).args(options), Some("--socket"))
    }

    /// Ends it, and starts one for that image at the same socket.
    pub fn replace_by_vhost(mut self, drive: &Drive, image: &str) -> Self {
        let directory = std::mem::take(&mut self.directory);
        assert!(self.stop().success());
        let mut command = command(drive, "vhost-user-blk");
        Self::run_in(directory, command.arg(image), Some("--socket"))
    }

    fn run(command: &mut Command, place: Option<&str>) -> Self {
        Self::run_in(Scratch::new(), command, place)
    }

    fn run_in(directory: Scratch, command: &mut Command, place: Option<&str>) -> Self {
        if let Some(option) = place {
            command.arg(option).arg(directory.path().join("s"));
        }
        let mut command = command.spawn().expect("the command can be started");
        let stdout = command.stdout.take().expect("its output is a pipe");
        let mut address = String::new();
        let read = BufReader::new(stdout).read_line(&mut address);
        assert!(read.is_ok() && address.ends_with('\n'), "the export has failed");
        Self {
            command,
            address: address.trim_end().to_owned(),
            directory,
        }
    }

    /// The socket, where it listens on one in its directory.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    /// The NBD address of an image.
    pub fn uri(&self, name: &str) -> String {
        self.address.replacen(":///", &format!(":///{name}"), 1)
    }

    /// Ends it by a signal.
    ///
    /// # Panics
    /// Where it has ended already.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.command.wait().expect("a child can be waited for")
    }

    /// Waits for its own end.
    ///
    /// # Panics
    /// Where it was waited for already.
    pub fn wait(mut self) -> ExitStatus {
        self.command.wait().expect("a child can be waited for")
    }

    /// Sends a signal to the command.
    ///
    /// # Panics
    /// Where it has ended already.
    pub fn signal(&mut self, signal: Signal) {
        kill(Pid::from_raw(self.command.id().cast_signed()), signal).expect("the command runs");
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

/// `okapi export KIND` for a drive, without a place to listen.
pub fn command(drive: &Drive, kind: &str) -> Command {
    let mut command = Command::new(binary());
    command
        .args(["export", kind, "--mount"])
        .arg(drive.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}
