//! Times common work on okapi against tmpfs: `cargo bench -p fs-tests [-- [--rounds N] [WORKLOAD...]]`, as root.
//!
//! Every round runs a workload on all contenders, one straight after the other and in turning order, so that what
//! else the machine does hits them alike. What counts is the ratio to tmpfs within a round, never a time.

mod contender;
mod memory;
mod report;
mod workload;

use contender::Contender;
use fs_tests::harness::{Place, Tmpfs, run};
use report::Row;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use workload::Workload;

const ROUNDS_DEFAULT: usize = 9;

struct Arguments {
    rounds: usize,
    /// Parts of names of the workloads to run; all where empty.
    wanted: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = match arguments(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("ratios: {message}");
            return ExitCode::from(2);
        }
    };
    let inputs = Tmpfs::mount("1G");
    let tree = workload::make_tree(inputs.path());
    let contenders = Contender::all();
    println!("{}", report::heading(arguments.rounds, &contenders));
    for workload in workload::all(&tree) {
        if arguments.wants(workload.name) {
            println!("{}", measure(&workload, &contenders, arguments.rounds));
        }
    }
    drop(contenders);
    if arguments.wants("memory") {
        println!("\n{}", memory::table(&tree));
    }
    ExitCode::SUCCESS
}

fn arguments(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments {
        rounds: ROUNDS_DEFAULT,
        wanted: Vec::new(),
    };
    while let Some(word) = words.next() {
        match word.as_str() {
            // What cargo adds.
            "--bench" => {}
            "--rounds" => {
                let number = words.next().unwrap_or_default();
                arguments.rounds = number
                    .parse()
                    .ok()
                    .filter(|rounds| *rounds > 0)
                    .ok_or_else(|| format!("--rounds takes a number from 1 on, not '{number}'"))?;
            }
            _ if word.starts_with('-') => return Err(format!("unknown option '{word}'")),
            _ => arguments.wanted.push(word),
        }
    }
    Ok(arguments)
}

impl Arguments {
    fn wants(&self, name: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|part| name.contains(part.as_str()))
    }
}

/// Runs a workload on each contender in each round.
fn measure(workload: &Workload<'_>, contenders: &[Contender], rounds: usize) -> Row {
    let mut times = vec![Vec::with_capacity(rounds); contenders.len()];
    let mut requests = BTreeMap::new();
    for round in 0..rounds {
        for turn in 0..contenders.len() {
            let which = (round + turn) % contenders.len();
            let contender = &contenders[which];
            let dir = contender.path().join("work");
            std::fs::create_dir(&dir).expect("an empty mount takes a directory");
            (workload.prepare)(&dir);
            let before = contender.requests();
            times[which].push(time(|| (workload.run)(&dir)));
            for (name, count) in contender.requests() {
                *requests.entry(name.clone()).or_default() += count - before.get(&name).unwrap_or(&0);
            }
            run(Command::new("rm").arg("-rf").arg(&dir));
        }
    }
    Row::new(workload, &times, requests)
}

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// The text of a file of /proc or the like.
fn text_of(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}
