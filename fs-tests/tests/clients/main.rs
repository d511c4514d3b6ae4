//! Programs that people use, each on tmpfs first, then on an okapi drive, which must be sound afterwards.

mod archives;
mod databases;
mod images;
mod scale;
mod sources;
mod verified;

use fs_tests::harness::{Drive, Place, Tmpfs};
use std::path::Path;
use std::process::Command;

/// Runs `test` on an empty tmpfs and on an empty drive, both of `size`; then the drive must be sound, and go.
fn on_tmpfs_and_okapi(size: &str, test: impl Fn(&Path)) {
    test(Tmpfs::mount(size).path());
    let drive = Drive::mount(&["--size", size]);
    test(drive.path());
    drive.check();
    drive.unmount();
}

/// Runs a bash script in `dir`, ended by its first failing command; returns what it printed to stdout.
fn bash(dir: &Path, script: &str) -> String {
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script]).current_dir(dir);
    command
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env_remove("CARGO_TARGET_DIR");
    let output = command.output().expect("bash is installed");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{} in {}:\n{script}\n--- stdout\n{stdout}\n--- stderr\n{}",
        output.status,
        dir.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    stdout
}
