//! Programs that a benchmark runs, which may not be there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs a program.
///
/// # Errors
/// Its complaint in one line where it fails or is not there.
pub fn succeed(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|err| match err.kind() {
        std::io::ErrorKind::NotFound => format!("{program} is not installed"),
        _ => format!("{program}: {err}"),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let first = complaint.lines().find(|line| !line.trim().is_empty());
    Err(first.map_or_else(|| format!("{program}: {}", output.status), str::to_owned))
}

/// Whether a program is there; it must know `--version`.
pub fn is_installed(program: &str) -> bool {
    let mut command = Command::new(program);
    command
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok()
}

/// cargo's target directory.
///
/// # Panics
/// Where the program does not lie in one.
pub fn target_dir() -> PathBuf {
    let bench = std::env::current_exe().expect("a running program has a path");
    let target = bench
        .ancestors()
        .nth(3)
        .expect("a bench lies in target/release/deps");
    target.to_path_buf()
}

/// git in a directory, without the user's settings.
pub fn git(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .arg("-C")
        .arg(dir)
        .args(["-c", "user.name=a", "-c", "user.email=a@example.org"])
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .stdout(Stdio::null());
    command
}
