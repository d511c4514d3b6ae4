//! Times common work on okapi and other filesystems against tmpfs: `cargo bench --bench ratios`, as root.
//!
//! What counts is the ratio to tmpfs within a round, never a time. [`options::USAGE`] has the options.

mod chart;
mod contender;
mod inputs;
mod measure;
mod memory;
mod options;
mod report;
mod workload;

use contender::{Contender, RECIPES, YARDSTICK};
use fs_tests::bench::document::Document;
use fs_tests::bench::program::is_installed;
use fs_tests::bench::{Face, interrupt, machine};
use inputs::Inputs;
use measure::Runs;
use options::Options;
use report::Row;
use std::process::ExitCode;
use workload::Workload;

const FACE: Face = Face {
    name: "ratios",
    usage: options::USAGE,
};
/// Names of the marks around the ratios in the document.
const RATIOS: &str = "ratios";
/// Names of the marks around the table of memory.
const MEMORY: &str = "memory";

fn main() -> ExitCode {
    FACE.run(Options::parse, bench)
}

fn bench(options: &Options) -> Result<(), String> {
    let mut document = Document::open(&[RATIOS, MEMORY])?;
    let inputs = Inputs::make(options.sizes);
    let mut missing = Vec::new();
    let contenders = contenders(options, &mut missing)?;
    let workloads = workloads(options, &inputs, &mut missing);
    let wants_memory = options.wants_row(memory::ROW);
    if workloads.is_empty() && !wants_memory {
        return Err("no row that can be measured here has such a name".to_owned());
    }
    let rows = measure(options.rounds, &workloads, &contenders)?;
    if !rows.is_empty() {
        let heading = format!(
            "{}; rounds: {}; median (quartiles).",
            machine::description(),
            options.rounds
        );
        let tables = format!("{heading}\n\n{}", report::tables(&rows, &contenders, &missing));
        println!("{tables}");
        document.replace(RATIOS, &format!("{tables}\n\n{}", chart::LINK))?;
    }
    let names: Vec<_> = contenders
        .iter()
        .skip(1)
        .map(|contender| contender.name)
        .collect();
    drop(contenders);
    if wants_memory {
        let table = memory::table(&inputs);
        println!("\n{table}");
        document.replace(MEMORY, &table)?;
    }
    if options.write_docs {
        document.save()?;
        document.save_drawing(&chart::draw(&rows, &names))?;
    }
    match rows.iter().any(Row::has_failed) {
        true => Err("some runs failed".to_owned()),
        false => Ok(()),
    }
}

/// Mounts what is wanted, and adds what cannot be mounted to `missing`.
fn contenders(options: &Options, missing: &mut Vec<String>) -> Result<Vec<Contender>, String> {
    let mut contenders = Vec::new();
    let wanted = RECIPES
        .iter()
        .filter(|recipe| options.wants_contender(recipe.name));
    for recipe in wanted {
        match recipe.mount() {
            Ok(contender) => contenders.push(contender),
            Err(reason) if recipe.name == YARDSTICK => return Err(reason),
            Err(reason) => missing.push(format!("{}: {reason}", recipe.name)),
        }
    }
    Ok(contenders)
}

/// The workloads that are wanted; adds those whose program is not installed to `missing`.
fn workloads<'a>(options: &Options, inputs: &'a Inputs, missing: &mut Vec<String>) -> Vec<Workload<'a>> {
    let mut workloads = workload::all(inputs);
    workloads.retain(|workload| options.wants_row(&workload.name));
    workloads.retain(|workload| {
        let lacks = workload.needs.filter(|program| !is_installed(program));
        missing.extend(lacks.map(|program| format!("{}: {program} is not installed", workload.name)));
        lacks.is_none()
    });
    workloads
}

/// Every workload on every contender, round by round.
fn measure(rounds: usize, workloads: &[Workload<'_>], contenders: &[Contender]) -> Result<Vec<Row>, String> {
    let mut runs: Vec<_> = workloads.iter().map(|_| Runs::new(contenders)).collect();
    for round in 0..rounds {
        for (workload, runs) in workloads.iter().zip(&mut runs) {
            eprintln!("round {} of {rounds}: {}", round + 1, workload.name);
            runs.play_round(round, workload, contenders);
            interrupt::go_on()?;
        }
    }
    let pairs = workloads.iter().zip(&runs);
    Ok(pairs
        .map(|(workload, runs)| Row::new(workload, contenders, runs))
        .collect())
}
