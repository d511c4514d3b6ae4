//! Times images as disks beside a raw file on tmpfs and other servers of disks: `cargo bench --bench disks`, as root.
//!
//! What counts is the ratio to the raw file within a round, never a time. [`options::USAGE`] has the options.

mod client;
mod contender;
mod options;

use std::process::ExitCode;

use client::{CLIENTS, Client, WORK, Work};
use contender::{Contender, RECIPES, YARDSTICK};
use fs_tests::bench::document::Document;
use fs_tests::bench::report::{Spread, not_measured, table};
use fs_tests::bench::{Face, interrupt, machine, order};
use options::Options;

const FACE: Face = Face {
    name: "disks",
    usage: options::USAGE,
};
/// Name of the marks around the table in the document.
const SECTION: &str = "disks";

fn main() -> ExitCode {
    FACE.run(Options::parse, bench)
}

fn bench(options: &Options) -> Result<(), String> {
    let mut document = Document::open(&[SECTION])?;
    let mut missing = Vec::new();
    let contenders = open(options, &mut missing)?;
    let rows: Vec<Row> = CLIENTS
        .iter()
        .flat_map(|client| WORK.iter().map(|work| Row::new(client, work, contenders.len())))
        .collect();
    let rows = measure(options, rows, &contenders)?;
    let text = describe(options, &rows, &contenders, &missing);
    println!("{text}\n");
    document.replace(SECTION, &text)?;
    match options.write_docs {
        true => document.save(),
        false => Ok(()),
    }
}

/// The yardstick, and those that are wanted and can be had.
fn open(options: &Options, missing: &mut Vec<String>) -> Result<Vec<Contender>, String> {
    let mut contenders = Vec::new();
    for recipe in RECIPES
        .iter()
        .filter(|recipe| options.wants_contender(recipe.name))
    {
        match recipe.open(options) {
            Ok(contender) => contenders.push(contender),
            Err(reason) if recipe.name == YARDSTICK => return Err(reason),
            Err(reason) => missing.push(format!("{}: {reason}", recipe.name)),
        }
    }
    Ok(contenders)
}

/// A line of the table: what a client does, and how fast that was.
struct Row {
    client: &'static Client,
    work: &'static Work,
    /// Of each contender, the yardstick first: requests per second, by round.
    rates: Vec<Vec<f64>>,
}

impl Row {
    fn new(client: &'static Client, work: &'static Work, contenders: usize) -> Self {
        Self {
            client,
            work,
            rates: vec![Vec::new(); contenders],
        }
    }

    fn name(&self) -> String {
        format!("{}, {}", self.client.name, self.work.name)
    }

    /// As parts of the yardstick's in the same round.
    fn cells(&self) -> Vec<String> {
        let (yardstick, others) = self.rates.split_first().expect("the yardstick is always there");
        others
            .iter()
            .map(|rates| {
                let ratios = rates.iter().zip(yardstick).map(|(rate, base)| rate / base);
                let spread = Spread::new(ratios.collect()).expect("there is a round");
                spread.show(|ratio| format!("{ratio:.2}"))
            })
            .collect()
    }
}

/// Each row runs on all contenders, one straight after the other, so that what else the machine does hits them alike.
fn measure(options: &Options, mut rows: Vec<Row>, contenders: &[Contender]) -> Result<Vec<Row>, String> {
    for round in 0..options.rounds {
        for row in &mut rows {
            eprintln!("round {} of {}: {}", round + 1, options.rounds, row.name());
            for which in order(round, contenders.len()) {
                interrupt::go_on()?;
                let rate = row.client.run(row.work, &contenders[which].target, options)?;
                row.rates[which].push(rate);
            }
        }
    }
    Ok(rows)
}

fn describe(options: &Options, rows: &[Row], contenders: &[Contender], missing: &[String]) -> String {
    let names: Vec<_> = contenders[1..].iter().map(|contender| contender.name).collect();
    let lines: Vec<_> = rows.iter().map(|row| (row.name(), row.cells())).collect();
    let meaning = "Speed as a multiple of the raw file's: higher is better.";
    let lines = lines.iter().map(|(name, cells)| (name.as_str(), cells.clone()));
    let mut parts = vec![format!("{}; {}.", machine::description(), options.describe())];
    parts.extend(table(meaning, &names, lines));
    parts.extend(not_measured(missing));
    parts.join("\n\n")
}
