//! Whole programs at work: archives, trees, git, a build, fio and SQLite.

use super::{Measure, Workload, forget};
use crate::inputs::Inputs;
use fs_tests::bench::program::git;
use fs_tests::bench::time;
use fs_tests::harness::run;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// All programs, whether installed or not.
pub(super) fn all(inputs: &Inputs) -> Vec<Workload<'_>> {
    let entries = inputs.tree_entries;
    let unpacked = move |dir: &Path| unpack(inputs, dir);
    let unpacked_cold = move |dir: &Path| {
        unpack(inputs, dir);
        forget(dir);
    };
    let cloned = move |dir: &Path| clone(inputs, dir);
    let nothing = |_: &Path| ();
    vec![
        program("untar", entries, nothing, unpacked),
        program("find, cold", entries, unpacked_cold, find),
        program("tar, cold", entries, unpacked_cold, move |dir| pack(inputs, dir)),
        program("cp -r", entries, unpacked, copy_tree),
        program(
            "grep -r, warm",
            entries,
            move |dir| {
                unpack(inputs, dir);
                // The first reading fills the cache; the second learns what that did to the access times.
                grep(dir);
                grep(dir);
            },
            grep,
        ),
        program("rm -rf", entries, unpacked, remove_tree),
        program("git clone", entries, nothing, cloned).needing("git"),
        program(
            "git status",
            entries,
            move |dir| {
                clone(inputs, dir);
                git_status(dir);
            },
            git_status,
        )
        .needing("git"),
        program("git checkout, gc", entries, cloned, checkout_and_collect).needing("git"),
        program("cargo build", 1, move |dir| copy_crate(inputs, dir), build_crate).needing("cargo"),
        program(
            "sqlite insert",
            inputs.sizes.sqlite_transactions,
            nothing,
            move |dir| insert(inputs, dir),
        )
        .needing("sqlite3"),
        random_mix(inputs).needing("fio"),
    ]
}

fn program<'a>(
    name: &str,
    operations: usize,
    prepare: impl Fn(&Path) + 'a,
    work: impl Fn(&Path) + 'a,
) -> Workload<'a> {
    Workload {
        name: name.to_owned(),
        measure: Measure::Time,
        clients: 1,
        operations,
        needs: None,
        prepare: Box::new(prepare),
        run: Box::new(move |dir| time(|| work(dir))),
    }
}

/// fio takes long to begin, so that its own clock counts.
fn random_mix(inputs: &Inputs) -> Workload<'_> {
    let bytes = inputs.sizes.fio_bytes;
    Workload {
        prepare: Box::new(move |dir| {
            run(fio(dir, bytes).arg("--create_only=1"));
            // fio makes the kernel forget the file that it has made
            std::fs::read(dir.join("mix.0.0")).expect("fio has made its file");
        }),
        run: Box::new(move |dir| fio_runtime(&run(&mut fio(dir, bytes)).stdout)),
        ..program("fio random mix", bytes / 4096, |_| (), |_| ())
    }
}

/// Reads and writes of a page at random places, 70 to 30, in a file of a quarter as many bytes.
fn fio(dir: &Path, bytes: usize) -> Command {
    let mut command = Command::new("fio");
    command
        .args(["--name=mix", "--thread", "--ioengine=psync", "--rw=randrw"])
        .args(["--rwmixread=70", "--bs=4k", "--invalidate=0", "--norandommap"])
        .args(["--output-format=json", "--fallocate=none"])
        .arg(format!("--size={}", bytes / 4))
        .arg(format!("--io_size={bytes}"))
        .arg(format!("--directory={}", dir.display()));
    command
}

fn fio_runtime(report: &[u8]) -> Duration {
    let report: serde_json::Value = serde_json::from_slice(report).expect("fio prints JSON");
    let runtime_ms = |direction: &str| report["jobs"][0][direction]["runtime"].as_u64();
    let longer = runtime_ms("read").max(runtime_ms("write"));
    Duration::from_millis(longer.expect("fio tells the runtime of its job"))
}

pub(crate) fn unpack(inputs: &Inputs, dir: &Path) {
    run(Command::new("tar")
        .arg("-xf")
        .arg(inputs.archive())
        .arg("-C")
        .arg(dir));
}

fn pack(inputs: &Inputs, dir: &Path) {
    // into a real file: tar reads nothing of what goes to /dev/null
    run(Command::new("tar")
        .arg("-cf")
        .arg(inputs.outside())
        .arg("-C")
        .arg(dir)
        .arg("tree"));
}

/// Looks at the attributes of everything.
fn find(dir: &Path) {
    run(Command::new("find")
        .arg(dir.join("tree"))
        .args(["-type", "f", "-size", "+8k"]));
}

fn copy_tree(dir: &Path) {
    run(Command::new("cp")
        .arg("-r")
        .arg(dir.join("tree"))
        .arg(dir.join("copy")));
}

/// The pattern is in a file here and there.
fn grep(dir: &Path) {
    run(Command::new("grep").args(["-rl", "abcd"]).arg(dir.join("tree")));
}

fn remove_tree(dir: &Path) {
    run(Command::new("rm").arg("-rf").arg(dir.join("tree")));
}

fn clone(inputs: &Inputs, dir: &Path) {
    run(git(dir)
        .args(["clone", "-q", "--no-hardlinks"])
        .arg(inputs.repository())
        .arg("clone"));
}

fn git_status(dir: &Path) {
    run(git(&dir.join("clone")).args(["status", "--porcelain"]));
}

fn checkout_and_collect(dir: &Path) {
    let clone = dir.join("clone");
    run(git(&clone).args(["checkout", "-q", "next"]));
    run(git(&clone).args(["gc", "-q"]));
}

fn copy_crate(inputs: &Inputs, dir: &Path) {
    run(Command::new("cp").arg("-r").arg(inputs.crate_dir()).arg(dir));
}

fn build_crate(dir: &Path) {
    run(Command::new("cargo")
        .args(["build", "--quiet", "--offline"])
        .current_dir(dir.join("crate"))
        .env("CARGO_TARGET_DIR", dir.join("target")));
}

fn insert(inputs: &Inputs, dir: &Path) {
    run(Command::new("sqlite3")
        .arg(dir.join("pairs.db"))
        .arg(format!(".read {}", inputs.insert_script().display()))
        .stdin(Stdio::null()));
}
