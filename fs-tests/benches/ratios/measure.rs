//! Runs a workload on every contender, and keeps what came of it.

use crate::contender::Contender;
use crate::workload::Workload;
use fs_tests::bench::{interrupt, order};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Of one workload: the runs of each contender, the yardstick first.
pub(crate) struct Runs(pub(crate) Vec<ContenderRuns>);

/// Of one workload on one contender.
#[derive(Clone, Default)]
pub(crate) struct ContenderRuns {
    /// By round; none where the run failed.
    pub(crate) times: Vec<Option<Duration>>,
    /// Requests of all rounds, by kind.
    pub(crate) requests: BTreeMap<String, u64>,
}

impl Runs {
    pub(crate) fn new(contenders: &[Contender]) -> Self {
        Self(vec![ContenderRuns::default(); contenders.len()])
    }

    /// One run on each contender, one straight after the other, so that what else the machine does hits them alike.
    pub(crate) fn play_round(&mut self, round: usize, workload: &Workload<'_>, contenders: &[Contender]) {
        for which in order(round, contenders.len()) {
            if interrupt::asked() {
                return;
            }
            let (contender, runs) = (&contenders[which], &mut self.0[which]);
            let dir = contender.path().join("work");
            let outcome = catch_unwind(AssertUnwindSafe(|| runs.run(workload, contender, &dir)));
            if outcome.is_err() {
                eprintln!("ratios: {} failed on {}", workload.name, contender.name);
            }
            runs.times.push(outcome.ok());
            // where that fails, the next run tells
            let _ = Command::new("rm").arg("-rf").arg(&dir).status();
        }
    }
}

impl ContenderRuns {
    fn run(&mut self, workload: &Workload<'_>, contender: &Contender, dir: &Path) -> Duration {
        std::fs::create_dir(dir).expect("an empty mount takes a directory");
        (workload.prepare)(dir);
        let before = contender.requests();
        let time = (workload.run)(dir);
        for (name, count) in contender.requests() {
            *self.requests.entry(name.clone()).or_default() += count - before.get(&name).unwrap_or(&0);
        }
        time
    }
}
