//! The results as tables in markdown.

use crate::contender::Contender;
use crate::measure::Runs;
use crate::workload::{Measure, Workload};
use std::collections::BTreeMap;
use std::fmt;
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

/// Median and quartiles of the ratios of all rounds.
pub(crate) struct Spread {
    first: f64,
    pub(crate) median: f64,
    third: f64,
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

impl Spread {
    fn new(mut ratios: Vec<f64>) -> Option<Self> {
        ratios.sort_by(f64::total_cmp);
        let last = ratios.len().checked_sub(1)?;
        let [first, median, third] = [1, 2, 3].map(|quarter| {
            let (below, above) = (last * quarter / 4, (last * quarter).div_ceil(4));
            let part = (last * quarter % 4) as f64 / 4.0;
            ratios[below] + (ratios[above] - ratios[below]) * part
        });
        Some(Self { first, median, third })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, median, third] = [self.first, self.median, self.third].map(figure);
        write!(f, "{median} ({first} to {third})")
    }
}

/// A ratio with as many digits as mean something.
pub(crate) fn figure(ratio: f64) -> String {
    match ratio {
        ..1.0 => format!("{ratio:.2}"),
        ..10.0 => format!("{ratio:.1}"),
        _ => format!("{ratio:.0}"),
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
    if !missing.is_empty() {
        parts.push(format!("Not measured:\n\n- {}", missing.join("\n- ")));
    }
    parts.join("\n\n")
}

/// A table below a line that says what its cells mean; none where it would be empty.
fn table<'a>(
    meaning: &str,
    columns: &[&str],
    lines: impl Iterator<Item = (&'a str, Vec<String>)>,
) -> Option<String> {
    let lines: Vec<_> = lines
        .map(|(name, cells)| format!("| {name} | {} |", cells.join(" | ")))
        .collect();
    let rule = " --- |".repeat(columns.len());
    (!columns.is_empty() && !lines.is_empty()).then(|| {
        format!(
            "{meaning}\n\n| | {} |\n| --- |{rule}\n{}",
            columns.join(" | "),
            lines.join("\n")
        )
    })
}

fn ratio_cell(ratio: &Option<Spread>) -> String {
    ratio
        .as_ref()
        .map_or_else(|| "failed".to_owned(), Spread::to_string)
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
