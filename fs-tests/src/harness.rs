//! Mounts what tests need in fresh directories, and takes it away again, also when a test fails.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::sys::statfs::{FUSE_SUPER_MAGIC, statfs};
use nix::unistd::Pid;
use okapi::serve::fuse::uring_switch;

/// Upper bound for what should take milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// A fresh directory in the system's temporary directory; removed on drop where it is empty by then.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes the directory.
    ///
    /// # Panics
    /// Where that fails.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("okapi-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // not with its contents: a mount that did not go away must not be emptied
        let _ = fs::remove_dir(&self.0);
    }
}

/// A place where a test works: okapi's drive, or the tmpfs that it is compared with.
pub trait Place {
    /// The mounted directory.
    fn path(&self) -> &Path;
    /// What to call it in messages.
    fn name(&self) -> &'static str;
}

/// A tmpfs of its own.
#[derive(Debug)]
pub struct Tmpfs(Scratch);

impl Tmpfs {
    /// Mounts one of that size (as mount(8) takes it).
    ///
    /// # Panics
    /// Where that fails; it needs root.
    pub fn mount(size: &str) -> Self {
        let dir = Scratch::new();
        let options = format!("size={size},nr_inodes=0,mode=0755");
        mount(
            Some("okapi-test"),
            dir.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .unwrap_or_else(|errno| panic!("cannot mount tmpfs (tests run as root): {errno}"));
        Self(dir)
    }
}

impl Place for Tmpfs {
    fn path(&self) -> &Path {
        self.0.path()
    }

    fn name(&self) -> &'static str {
        "tmpfs"
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}

/// A mounted drive, served by a daemon that is our child.
#[derive(Debug)]
pub struct Drive {
    dir: Scratch,
    daemon: Child,
}

impl Drive {
    /// Mounts a drive with these options of `okapi mount`, and the [`transport`] of this test program unless they
    /// name one.
    ///
    /// # Panics
    /// Where that fails.
    pub fn mount(options: &[&str]) -> Self {
        let dir = Scratch::new();
        let daemon = Command::new(binary())
            .args(["mount", "--foreground"])
            .args(transport_unless_in(options))
            .args(options)
            .arg(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", binary().display()));
        let mut drive = Self { dir, daemon };
        drive.wait_until_ready();
        drive
    }

    /// The daemon's process.
    pub fn pid(&self) -> u32 {
        self.daemon.id()
    }

    /// Runs `okapi check` on the drive.
    ///
    /// # Panics
    /// Where it finds something.
    pub fn check(&self) {
        run(&mut self.check_command());
    }

    fn check_command(&self) -> Command {
        let mut command = Command::new(binary());
        command.arg("check").arg(self.path());
        command
    }

    /// What `okapi stat --json` says.
    ///
    /// # Panics
    /// Where it fails or prints no JSON.
    pub fn stat(&self) -> serde_json::Value {
        let output = run(Command::new(binary()).args(["stat", "--json"]).arg(self.path()));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("okapi stat --json: {error}"))
    }

    /// Unmounts, and expects the daemon to end well.
    ///
    /// # Panics
    /// Where it does not.
    pub fn unmount(mut self) {
        self.check();
        run(Command::new(binary()).arg("umount").arg(self.path()));
        let status = wait(&mut self.daemon, PATIENCE).expect("the daemon ends after an unmount");
        assert!(status.success(), "the daemon ended with {status}");
        assert!(!is_fuse(self.path()), "nothing is mounted any more");
    }

    /// The daemon prints one line when the drive and its control socket are ready, none where it fails.
    fn wait_until_ready(&mut self) {
        let stdout = self.daemon.stdout.take().expect("the daemon's stdout is a pipe");
        let mut announcement = String::new();
        let read = BufReader::new(stdout).read_line(&mut announcement);
        if !read.is_ok_and(|len| len > 0) {
            panic!("okapi mount ended with {:?}", self.daemon.wait());
        }
        assert!(is_fuse(self.path()), "mounted as announced: {announcement}");
    }
}

impl Place for Drive {
    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn name(&self) -> &'static str {
        "okapi"
    }
}

/// Unmounts, after a check of every structure: a test has passed only if its drive is sound.
impl Drop for Drive {
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.daemon.try_wait() {
            // one that was killed has left its mount
            let _ = umount2(self.dir.path(), MntFlags::MNT_DETACH);
            return;
        }
        let is_in_order = !std::thread::panicking() && is_fuse(self.path());
        let verdict = is_in_order.then(|| self.check_command().output());
        // in a test that failed files may still be open: then the mount goes when they do
        let clean = umount2(self.dir.path(), MntFlags::empty());
        if clean.is_err() {
            let _ = umount2(self.dir.path(), MntFlags::MNT_DETACH);
        }
        if wait(&mut self.daemon, Duration::from_secs(5)).is_none() {
            let pid = Pid::from_raw(self.daemon.id().cast_signed());
            let _ = kill(pid, Signal::SIGKILL);
            let _ = self.daemon.wait();
        }
        if let Some(verdict) = verdict {
            let output = verdict.expect("the program is there");
            let found = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{found}");
        }
    }
}

/// The transport over which this test program tests, as `--transport` takes it: `OKAPI_TRANSPORT` where set, `classic`
/// in the test program of that name, else `uring`.
///
/// # Panics
/// Where io_uring is to be used, is off, and cannot be switched on.
pub fn transport() -> &'static str {
    static TRANSPORT: OnceLock<String> = OnceLock::new();
    TRANSPORT.get_or_init(|| {
        let asked = std::env::var("OKAPI_TRANSPORT").unwrap_or_else(|_unset| default_transport().into());
        if asked == "uring" {
            switch_uring_on();
        }
        asked
    })
}

/// What adds [`transport`] to options that name none. io_uring is on then, where it is used.
///
/// # Panics
/// As [`transport`].
pub fn transport_unless_in(options: &[&str]) -> Vec<&'static str> {
    if !options.iter().any(|option| option.contains("transport")) {
        return vec!["--transport", transport()];
    }
    if options.contains(&"uring") {
        switch_uring_on();
    }
    Vec::new()
}

/// cargo names the program of `tests/classic` `classic-` and a hash.
fn default_transport() -> &'static str {
    let program = std::env::current_exe().expect("a running test has a path");
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    match name.starts_with("classic-") {
        true => "classic",
        false => "uring",
    }
}

/// The kernel's switch is off by default; only root can turn it, and no test turns it back.
fn switch_uring_on() {
    if uring_switch() == Some(true) {
        return;
    }
    let output = Command::new(binary())
        .args(["doctor", "--enable-uring"])
        .output()
        .unwrap_or_else(|error| panic!("cannot run {}: {error}", binary().display()));
    assert!(
        output.status.success(),
        "the tests mount with --transport uring, and it cannot be switched on (as root, from Linux 6.14 on); \
         OKAPI_TRANSPORT=classic tests the classic device alone\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn is_fuse(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.filesystem_type() == FUSE_SUPER_MAGIC)
}

fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + patience;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The program under test: `OKAPI_BIN` where set, else built in the profile and target directory of this test.
///
/// # Panics
/// Where it cannot be built.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| std::env::var_os("OKAPI_BIN").map_or_else(build_binary, PathBuf::from))
}

/// cargo builds no binaries of other packages for a test, so that is done here; it costs nothing where it is built.
fn build_binary() -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("a test lies in target/PROFILE/deps");
    let target = profile
        .parent()
        .expect("a profile's directory lies in the target directory");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .args([
            "build",
            "--quiet",
            // with the features of `cargo test --workspace`: what that has compiled is not compiled again
            "--workspace",
            "--bin",
            "okapi",
            "--target-dir",
        ])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.ends_with("release") {
        build.arg("--release");
    }
    run(&mut build);
    profile.join("okapi")
}

/// Runs a program that must succeed.
///
/// # Panics
/// Where it does not, with all that it printed.
pub fn run(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cannot run {:?}: {error}", command.get_program()));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Memory of a process in bytes, shared pages counted by their share (PSS).
///
/// # Panics
/// Where the process is gone.
pub fn pss_bytes(pid: u32) -> u64 {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.expect("smaps_rollup has a line `Pss: N kB`") << 10
}
