//! The results as a table in markdown.

use crate::contender::Contender;
use crate::text_of;
use crate::workload::Workload;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A workload's line in the table.
pub(crate) struct Row {
    name: &'static str,
    /// Of each contender but tmpfs, its ratios to tmpfs by round, ascending.
    ratios: Vec<Vec<f64>>,
    /// Requests per operation, by kind.
    requests: Vec<(String, f64)>,
}

impl Row {
    /// Makes a line of the times by contender and round, tmpfs first, and the requests of all rounds.
    pub(crate) fn new(
        workload: &Workload<'_>,
        times: &[Vec<Duration>],
        requests: BTreeMap<String, u64>,
    ) -> Self {
        let (tmpfs, others) = times.split_first().expect("tmpfs is always measured");
        let ratios = others.iter().map(|times| {
            let mut ratios: Vec<_> = times
                .iter()
                .zip(tmpfs)
                .map(|(time, base)| time.as_secs_f64() / base.as_secs_f64())
                .collect();
            ratios.sort_by(f64::total_cmp);
            ratios
        });
        let operations = (workload.operations * tmpfs.len()) as f64;
        let mut requests: Vec<_> = requests
            .into_iter()
            .map(|(name, count)| (name, count as f64 / operations))
            .collect();
        requests.retain(|(_, per_operation)| *per_operation >= 0.01);
        requests.sort_by(|a, b| b.1.total_cmp(&a.1));
        Self {
            name: workload.name,
            ratios: ratios.collect(),
            requests,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| {} |", self.name)?;
        for ratios in &self.ratios {
            let [first, median, third] = [1, 2, 3].map(|quarter| ratios[(ratios.len() - 1) * quarter / 4]);
            write!(f, " {median:.2} ({first:.2} to {third:.2}) |")?;
        }
        let requests: Vec<_> = self
            .requests
            .iter()
            .map(|(name, per_operation)| format!("{name} {per_operation:.2}"))
            .collect();
        write!(f, " {} |", requests.join(", "))
    }
}

/// The machine, and the head of the table.
pub(crate) fn heading(rounds: usize, contenders: &[Contender]) -> String {
    let kernel = text_of("/proc/sys/kernel/osrelease");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let others: Vec<_> = contenders.iter().skip(1).map(Contender::name).collect();
    format!(
        "Linux {}, {cores} cores, {rounds} rounds: time as a multiple of tmpfs's, median (quartiles).\n\n\
         | workload | {} | requests per operation |\n| --- |{} --- |",
        kernel.trim(),
        others.join(" | "),
        " --- |".repeat(others.len()),
    )
}
