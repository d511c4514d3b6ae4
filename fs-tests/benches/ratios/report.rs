//! The results as tables in markdown.

use crate::contender::Contender;
use crate::measure::Runs;
use crate::workload::{Measure, Workload};
use fs_tests::bench::report::{Spread, figure, not_measured, table};
use std::collections::BTreeMap;
use std::time::Duration;

/// Requests per operation are told in steps of this, and none below half of it.
const REQUESTS_UNIT: f64 = 0.01;

/// What came of one workload.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) measure: Measure,
    pub(crate) clients: usize,
    /// Of each contender but the yardstick; none where a run failed.
    pub(crate) ratios: Vec<Option<Spread>>,
    /// Of each contender that counts, requests per operation by kind, the most frequent first.
    requests: Vec<Vec<(String, f64)>>,
}

impl Row {
    pub(crate) fn new(workload: &Workload<'_>, contenders: &[Contender], runs: &Runs) -> Self {
        let (yardstick, others) = runs.0.split_first().expect("the yardstick is always measured");
        let ratios = others.iter().map(|runs| {
            let pairs = runs.times.iter().zip(&yardstick.times);
            let ratios = pairs.map(|(time, base)| Some(ratio(workload.measure, (*time)?, (*base)?)));
            Spread::new(ratios.collect::<Option<_>>()?)
        });
        let counted = runs
            .0
            .iter()
            .zip(contenders)
            .filter(|(_, contender)| contender.counts);
        let requests = counted.map(|(runs, _)| {
            let operations = workload.operations * runs.times.len();
            rates(&runs.requests, operations)
        });
        Self {
            name: workload.name.clone(),
            measure: workload.measure,
            clients: workload.clients,
            ratios: ratios.collect(),
            requests: requests.collect(),
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.ratios.iter().any(Option::is_none)
    }
}

/// Requests per operation, the most frequent first.
fn rates(requests: &BTreeMap<String, u64>, operations: usize) -> Vec<(String, f64)> {
    let units = |count: u64| (count as f64 / operations as f64 / REQUESTS_UNIT).round();
    let mut rates: Vec<_> = requests
        .iter()
        .map(|(name, count)| (name.clone(), units(*count) * REQUESTS_UNIT))
        .filter(|(_, rate)| *rate > 0.0)
        .collect();
    rates.sort_by(|a, b| b.1.total_cmp(&a.1));
    rates
}

fn ratio(measure: Measure, time: Duration, base: Duration) -> f64 {
    let slower = time.as_secs_f64() / base.as_secs_f64();
    match measure {
        Measure::Time => slower,
        Measure::Speed => 1.0 / slower,
    }
}

/// All tables, with what is left out and why.
pub(crate) fn tables(rows: &[Row], contenders: &[Contender], missing: &[String]) -> String {
    let names: Vec<_> = contenders
        .iter()
        .skip(1)
        .map(|contender| contender.name)
        .collect();
    let counting = contenders.iter().filter(|contender| contender.counts);
    let counting: Vec<_> = counting.map(|contender| contender.name).collect();
    let mut parts = Vec::new();
    for (measure, meaning) in [
        (Measure::Time, "Time as a multiple of tmpfs's: lower is better."),
        (
            Measure::Speed,
            "Speed as a multiple of tmpfs's: higher is better.",
        ),
    ] {
        let rows = rows.iter().filter(|row| row.measure == measure);
        let lines = rows.map(|row| (row.name.as_str(), row.ratios.iter().map(ratio_cell).collect()));
        parts.extend(table(meaning, &names, lines));
    }
    let lines = rows.iter().map(|row| {
        let cells = row.requests.iter().map(|rates| requests_cell(rates));
        (row.name.as_str(), shorten(cells.collect()))
    });
    parts.extend(table("Requests of the kernel per operation:", &counting, lines));
    parts.extend(not_measured(missing));
    parts.join("\n\n")
}

fn ratio_cell(ratio: &Option<Spread>) -> String {
    ratio
        .as_ref()
        .map_or_else(|| "failed".to_owned(), |ratio| ratio.show(figure))
}

fn requests_cell(rates: &[(String, f64)]) -> String {
    if rates.is_empty() {
        return "none".to_owned();
    }
    let cells: Vec<_> = rates
        .iter()
        .map(|(name, rate)| format!("{name} {rate:.2}"))
        .collect();
    cells.join(", ")
}

/// Says *same* where a cell repeats the one before it.
fn shorten(mut cells: Vec<String>) -> Vec<String> {
    for column in (1..cells.len()).rev() {
        if cells[column] == cells[column - 1] {
            cells[column] = "same".to_owned();
        }
    }
    cells
}
