//! What the benchmarks have in common: how they begin and end, what they mount, how they tell what came of it.

pub mod document;
pub mod interrupt;
pub mod machine;
pub mod mounted;
pub mod options;
pub mod program;
pub mod report;
pub mod stream;

use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What a benchmark is to the shell: its name, and how it is used.
pub struct Face {
    /// What its messages begin with.
    pub name: &'static str,
    /// Shown where the command line is wrong.
    pub usage: &'static str,
}

impl Face {
    /// Takes the command line apart and runs the benchmark: 0, or 2 for a wrong command line, or 1 for a failure.
    pub fn run<O>(
        &self,
        parse: impl FnOnce(&mut dyn Iterator<Item = String>) -> Result<O, String>,
        bench: impl FnOnce(&O) -> Result<(), String>,
    ) -> ExitCode {
        interrupt::hold_back(self.name);
        let options = match parse(&mut std::env::args().skip(1)) {
            Ok(options) => options,
            Err(message) => {
                eprintln!("{}: {message}\n\n{}", self.name, self.usage);
                return ExitCode::from(2);
            }
        };
        match bench(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(message) => {
                eprintln!("{}: {message}", self.name);
                ExitCode::FAILURE
            }
        }
    }
}

/// How long something takes.
pub fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// Numbers below `count` in turning order, there and back, so that none always follows the same other one.
pub fn order(round: usize, count: usize) -> Vec<usize> {
    let mut order: Vec<_> = (0..count).collect();
    order.rotate_left(round / 2 % count);
    if round % 2 == 1 {
        order.reverse();
    }
    order
}
