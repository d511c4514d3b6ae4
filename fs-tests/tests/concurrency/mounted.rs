//! All workloads at once on one mounted drive: threads of this process, and other processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fs_tests::harness::{Drive, Place, Tmpfs};
use fs_tests::rng::seconds_from_env;

use crate::race::{Race, Round};
use crate::trees::{Churn, Cuts, Maps, Moves, Records, Scan, walk};

/// Other processes that work on the tree.
const PROCESSES: u64 = 2;
const TREE: &str = "OKAPI_TEST_TREE";
const NUMBER: &str = "OKAPI_TEST_NUMBER";

fn time() -> Duration {
    seconds_from_env(20)
}

fn prepare(top: &Path) {
    Moves::prepare(top);
    Maps::prepare(top);
    Scan::prepare(top);
}

/// The jobs of one process. `number` keeps its records and its part of the mapped file apart.
fn race(top: &Path, number: u64) -> Race {
    let top = top.to_path_buf();
    let own = |make: &dyn Fn(&PathBuf) -> Round| make(&top);
    Race::new("mounted")
        .with("records", 2, |thread| {
            own(&|top| {
                let mut records = Records::new(top, number * 10 + thread);
                Box::new(move |rng| records.round(rng))
            })
        })
        .with("moves", 2, |_| {
            own(&|top| {
                let mut moves = Moves::new(top);
                Box::new(move |rng| moves.round(rng))
            })
        })
        .with("churn", 2, |_| {
            own(&|top| {
                let mut churn = Churn::new(top);
                Box::new(move |rng| churn.round(rng))
            })
        })
        .with("cuts", 1, |_| {
            own(&|top| {
                let mut cuts = Cuts::new(top);
                Box::new(move |rng| cuts.round(rng))
            })
        })
        .with("maps", 2, |thread| {
            own(&|top| {
                let mut maps = Maps::new(top, (number * 2 + thread) as usize);
                Box::new(move |rng| maps.round(rng))
            })
        })
        .with("scan", 1, |_| {
            own(&|top| {
                let mut scan = Scan::new(top);
                Box::new(move |rng| scan.round(rng))
            })
        })
        .with("changes", 1, |_| {
            own(&|top| {
                let mut scan = Scan::new(top);
                Box::new(move |rng| scan.change(rng))
            })
        })
}

fn verify(top: &Path) {
    Moves::verify(top);
    let counts = Records::verify(top);
    assert_eq!(
        counts.len() as u64,
        2 * (PROCESSES + 1),
        "every writer has written: {counts:?}"
    );
    walk(top);
}

/// Runs threads here and processes beside them on one tree, and verifies it.
fn run(place: &dyn Place, time: Duration) {
    let top = place.path().join("tree");
    fs::create_dir(&top).unwrap();
    prepare(&top);
    let program = std::env::current_exe().unwrap();
    let mut others: Vec<_> = (1..=PROCESSES)
        .map(|number| {
            Command::new(&program)
                .args([
                    "--exact",
                    "mounted::a_process_of_the_race",
                    "--ignored",
                    "--nocapture",
                ])
                .env(TREE, &top)
                .env(NUMBER, number.to_string())
                .env("OKAPI_SECONDS", time.as_secs().max(1).to_string())
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    let rounds = race(&top, 0).run(time);
    for other in &mut others {
        let status = other.wait().unwrap();
        assert!(status.success(), "another process failed with {status}");
    }
    println!("{}: {rounds} rounds in this process", place.name());
    verify(&top);
}

#[test]
#[ignore = "started by the other tests, as a process of its own"]
fn a_process_of_the_race() {
    let (Ok(top), Ok(number)) = (std::env::var(TREE), std::env::var(NUMBER)) else {
        return;
    };
    race(Path::new(&top), number.parse().unwrap()).run(time());
}

#[test]
fn the_workloads_themselves_are_right_on_tmpfs() {
    run(&Tmpfs::mount("1G"), Duration::from_secs(1));
}

#[test]
fn threads_and_processes_share_a_drive() {
    let drive = Drive::mount(&["--size", "1G"]);
    run(&drive, time());
    drive.check();
    // all memory comes back when all names are gone; FUSE forgets a little later
    fs::remove_dir_all(drive.path().join("tree")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let stat = drive.stat();
        if stat["inodes"] == 1 {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "inodes stay when all names are gone: {stat}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    drive.check();
    drive.unmount();
}
