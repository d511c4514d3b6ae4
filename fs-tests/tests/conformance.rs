//! Judges written by others: pjdfstest's POSIX rules and fsx's random operations, on tmpfs first, then on okapi.

use fs_tests::harness::{Drive, Place, Tmpfs, transport};
use fs_tests::rng;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

/// What Linux filesystems offer beyond POSIX's minimum, and two users that every Debian has.
const PJDFSTEST_CONFIG: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
stat_st_birthtime = {}
utime_now = {}
utimensat = {}

[settings]
naptime = 0.02
allow_remount = false

[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;

/// Every operation that fsx has on Linux. It knows no FALLOC_FL_ZERO_RANGE: the model tests play that one.
/// fsx 0.3.2 never unmaps what it maps to read, so mapread is rare enough for a million operations to stay below
/// the kernel's limit of 65,530 mappings in one process; nor does it know that posix_fallocate refuses zero bytes.
const FSX_CONFIG: &str = "
flen = 1048576

[opsize]
min = 1

[weights]
close_open = 1
read = 10
write = 10
mapread = 2
mapwrite = 10
invalidate = 1
truncate = 5
fsync = 1
fdatasync = 1
posix_fallocate = 3
punch_hole = 5
sendfile = 3
posix_fadvise = 1
copy_file_range = 5
";

/// How one test of pjdfstest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Skipped,
    Failed,
}

/// What pjdfstest said about each of its tests, by name.
type Verdicts = BTreeMap<String, Verdict>;

#[test]
fn pjdfstest_passes_what_passes_on_tmpfs() {
    let expected = pjdfstest(Tmpfs::mount("1G").path());
    let drive = Drive::mount(&["--size", "1G", "--allow-other"]);
    let found = pjdfstest(drive.path());
    drive.check();

    println!("pjdfstest on tmpfs: {}", summary(&expected));
    println!("pjdfstest on okapi: {}", summary(&found));
    assert!(
        !expected.values().any(|verdict| *verdict == Verdict::Failed),
        "tmpfs itself fails"
    );
    let lost: Vec<_> = expected
        .iter()
        .filter(|&(name, verdict)| *verdict == Verdict::Passed && found.get(name) != Some(verdict))
        .map(|(name, _)| name.as_str())
        .collect();
    assert!(
        lost.is_empty(),
        "{} tests pass on tmpfs but not on okapi: {}",
        lost.len(),
        lost.join(", ")
    );
}

#[test]
fn fsx_reads_back_every_byte() {
    let first_seed = rng::from_env_or_time("fsx");
    // by way of the classic device only what a second transport could break
    let operations = rng::ops_from_env(if transport() == "classic" { 10_000 } else { 50_000 });
    let drive = Drive::mount(&["--size", "256M"]);
    for seed in (0..3).map(|n| first_seed.wrapping_add(n)) {
        fsx(Tmpfs::mount("256M").path(), seed, operations.min(10_000));
        fsx(drive.path(), seed, operations);
    }
    drive.check();
}

/// Runs the whole of pjdfstest below `dir`.
fn pjdfstest(dir: &Path) -> Verdicts {
    assert!(
        nix::unistd::geteuid().is_root(),
        "pjdfstest changes users: run the tests as root"
    );
    let elsewhere = Tmpfs::mount("16M");
    let config = elsewhere.path().join("config.toml");
    std::fs::write(&config, PJDFSTEST_CONFIG).expect("an empty tmpfs takes a file");
    let mut command = Command::new("pjdfstest");
    command.arg("--configuration-file").arg(&config);
    command
        .arg("--secondary-fs")
        .arg(elsewhere.path())
        .arg("--path")
        .arg(dir);
    let report = String::from_utf8_lossy(&output_of(&mut command).stdout).into_owned();

    assert!(
        report.contains("\nSummary: "),
        "pjdfstest did not finish:\n{report}"
    );
    let verdicts: Verdicts = report.lines().filter_map(verdict).collect();
    if verdicts.values().any(|verdict| *verdict == Verdict::Failed) {
        println!("pjdfstest on {}:\n{report}", dir.display());
    }
    verdicts
}

/// Reads a line `name verdict` of pjdfstest's report. Lines that explain a verdict are indented.
fn verdict(line: &str) -> Option<(String, Verdict)> {
    let (name, word) = line.split_once(' ')?;
    let verdict = match word.trim() {
        "ok" => Verdict::Passed,
        "skipped" => Verdict::Skipped,
        "FAILED" => Verdict::Failed,
        _ => return None,
    };
    name.contains("::").then(|| (name.to_owned(), verdict))
}

fn summary(verdicts: &Verdicts) -> String {
    let count = |wanted| verdicts.values().filter(|verdict| **verdict == wanted).count();
    format!(
        "{} passed, {} skipped, {} failed",
        count(Verdict::Passed),
        count(Verdict::Skipped),
        count(Verdict::Failed)
    )
}

/// Plays `operations` random operations on one file in `dir`; fsx compares every byte that it reads.
fn fsx(dir: &Path, seed: u64, operations: u64) {
    println!(
        "fsx: {operations} operations from seed {seed} in {}",
        dir.display()
    );
    let elsewhere = Tmpfs::mount("16M");
    let config = elsewhere.path().join("fsx.toml");
    std::fs::write(&config, FSX_CONFIG).expect("an empty tmpfs takes a file");
    let mut command = Command::new("fsx");
    command
        .arg("-q")
        .arg("-f")
        .arg(&config)
        .arg("-P")
        .arg(elsewhere.path());
    command.args(["-S", &seed.to_string(), "-N", &operations.to_string()]);
    let output = output_of(command.arg(dir.join("fsx")));
    assert!(
        output.status.success(),
        "fsx failed with seed {seed} on {}:\n{}{}",
        dir.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs a tool that scripts/setup installs.
fn output_of(command: &mut Command) -> Output {
    match command.env("NO_COLOR", "1").output() {
        Ok(output) => output,
        Err(err) => panic!("{}: {err}: run scripts/setup", command.get_program().display()),
    }
}
