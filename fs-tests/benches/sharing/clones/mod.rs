//! Clones of an incompressible image: made, written to and read, by okapi and by its peers.

mod files;
mod overlays;
mod store;

use crate::gauge::{grouped, mebibytes};
use crate::options::Options;
use files::Files;
use fs_tests::bench::machine::{Caches, drop_caches, page_cache};
use fs_tests::bench::report::{Spread, figure, table};
use fs_tests::bench::{interrupt, order, time};
use overlays::Overlays;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;
use store::{Reading, Store};

/// The contenders' names, in the order of the columns.
pub(crate) const STORES: [&str; 5] = [
    files::OKAPI,
    files::XFS,
    overlays::LARGE,
    overlays::SMALL,
    files::TMPFS,
];

/// How much there is to do.
#[derive(Clone, Copy)]
pub(crate) struct Work {
    pub(crate) clones: usize,
    /// Length of the image, whole MiB.
    pub(crate) image_bytes: usize,
}

/// What is measured; each is a line of the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Line {
    CloneByProcesses,
    CloneByOne,
    Write,
    BytesCloned,
    BytesWritten,
    BytesInAll,
    Read,
    ReadCache,
    ReadAgain,
    ReadDirect,
    ReadDirectCache,
}

impl Line {
    const ALL: [Self; 11] = [
        Self::CloneByProcesses,
        Self::CloneByOne,
        Self::Write,
        Self::BytesCloned,
        Self::BytesWritten,
        Self::BytesInAll,
        Self::Read,
        Self::ReadCache,
        Self::ReadAgain,
        Self::ReadDirect,
        Self::ReadDirectCache,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::CloneByProcesses => "cloning, a process for each, ms",
            Self::CloneByOne => "cloning, one process for all, ms",
            Self::Write => "one write of 4 KiB into each, ms",
            Self::BytesCloned => "memory of a clone, bytes",
            Self::BytesWritten => "more after the write, bytes",
            Self::BytesInAll => "image and clones in all, MiB",
            Self::Read => "reading all, GB/s",
            Self::ReadCache => "page cache added by that, MiB",
            Self::ReadAgain => "reading all again, GB/s",
            Self::ReadDirect => "reading all with O_DIRECT, GB/s",
            Self::ReadDirectCache => "page cache added by that, MiB",
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Self::CloneByProcesses | Self::CloneByOne | Self::Write => figure(value),
            Self::BytesCloned | Self::BytesWritten => grouped(value),
            Self::BytesInAll | Self::ReadCache | Self::ReadDirectCache => mebibytes(value),
            Self::Read | Self::ReadAgain | Self::ReadDirect => format!("{value:.2}"),
        }
    }
}

/// What a store came to in a round; what it cannot do is not there.
type Figures = BTreeMap<Line, f64>;

/// The table, below a line about the price of a process.
pub(crate) fn tables(options: &Options, missing: &mut Vec<String>) -> Result<Vec<String>, String> {
    let work = options.work;
    let names = available(options, missing);
    let mut rounds: Vec<Vec<Figures>> = vec![Vec::new(); names.len()];
    let mut starting = Vec::new();
    for round in 0..options.rounds {
        starting.push(milliseconds(time(|| start_processes(work.clones))));
        for which in order(round, names.len()) {
            interrupt::go_on()?;
            eprintln!("round {} of {}: {}", round + 1, options.rounds, names[which]);
            let store = open(names[which], options)?;
            rounds[which].push(measure(&*store, work));
        }
    }
    let starting = Spread::new(starting).expect("there is a round");
    let meaning = format!(
        "{} clones of an image of {} MiB. To start as many processes that do nothing takes {} ms.",
        work.clones,
        work.image_bytes >> 20,
        starting.show(figure)
    );
    let lines = Line::ALL.map(|line| {
        let cells = rounds.iter().map(|rounds| cell(line, rounds));
        (line.title(), cells.collect())
    });
    Ok(table(&meaning, &names, lines.into_iter()).into_iter().collect())
}

/// The stores that are wanted and can be had.
fn available(options: &Options, missing: &mut Vec<String>) -> Vec<&'static str> {
    let mut names = STORES.to_vec();
    names.retain(|name| options.wants_contender(name));
    names.retain(|name| match open(name, options) {
        Ok(_) => true,
        Err(reason) => {
            missing.push(format!("{name}: {reason}"));
            false
        }
    });
    names
}

/// A store with the image in it.
fn open(name: &str, options: &Options) -> Result<Box<dyn Store>, String> {
    Ok(match name {
        overlays::LARGE | overlays::SMALL => Box::new(Overlays::open(name, options.work)?),
        _ => Box::new(Files::open(name, options)?),
    })
}

fn cell(line: Line, rounds: &[Figures]) -> String {
    let values = rounds.iter().filter_map(|figures| figures.get(&line).copied());
    let spread = Spread::new(values.collect());
    spread.map_or_else(String::new, |spread| spread.show(|value| line.show(value)))
}

fn start_processes(count: usize) {
    for _ in 0..count {
        let status = Command::new("true").status().expect("true(1) is there");
        assert!(status.success(), "true(1) succeeds");
    }
}

/// All that is done with a store, from the image alone to clones that were written to and read.
fn measure(store: &dyn Store, work: Work) -> Figures {
    let mut figures = Figures::new();
    let per_clone = |bytes: u64| bytes as f64 / work.clones as f64;

    let empty = store.usage();
    figures.insert(
        Line::CloneByProcesses,
        milliseconds(time(|| store.clone_by_processes())),
    );
    if let Some(clone) = store.one_process() {
        store.remove_clones();
        figures.insert(Line::CloneByOne, milliseconds(time(clone)));
    }
    let cloned = store.usage();
    figures.insert(
        Line::BytesCloned,
        per_clone(cloned.charged.saturating_sub(empty.charged)),
    );

    figures.insert(Line::Write, milliseconds(time(|| store.write_each())));
    let written = store.usage();
    figures.insert(
        Line::BytesWritten,
        per_clone(written.charged.saturating_sub(cloned.charged)),
    );
    figures.insert(Line::BytesInAll, written.in_all as f64);

    let bytes = (work.clones * work.image_bytes) as f64;
    for (reading, rate, cache) in [
        (Reading::Cached, Line::Read, Some(Line::ReadCache)),
        (Reading::Cached, Line::ReadAgain, None),
        (Reading::Direct, Line::ReadDirect, Some(Line::ReadDirectCache)),
    ] {
        if !store.can_read(reading) {
            continue;
        }
        if cache.is_some() {
            drop_caches(Caches::Pages);
        }
        let before = page_cache();
        let took = time(|| store.read_all(reading));
        figures.insert(rate, bytes / took.as_secs_f64() / 1e9);
        figures.extend(cache.map(|line| (line, page_cache().saturating_sub(before) as f64)));
    }
    store.expect_written();
    figures
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
