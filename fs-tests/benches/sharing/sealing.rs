//! What sealing costs the writer in front of it: a stream into files, with each mode of `--dedup`.

use crate::options::Options;
use fs_tests::bench::report::{Spread, figure, table};
use fs_tests::bench::stream::Stream;
use fs_tests::bench::{interrupt, order, time};
use fs_tests::harness::{Drive, Place, binary, run};
use std::fs::OpenOptions;
use std::process::Command;

/// The modes, that without sealing first.
const MODES: [&str; 3] = ["off", "idle", "inline"];
/// Files that the stream is cut into.
const FILES: usize = 4;
const PASSES: [&str; 2] = ["new files", "the same files again"];

/// Seconds that a mode took.
struct Times {
    passes: [f64; PASSES.len()],
    /// For sealing everything at the end, by `okapi dedup`.
    sealing: f64,
}

/// A table of speeds as parts of the speed without sealing.
pub(crate) fn tables(options: &Options, missing: &mut Vec<String>) -> Result<Vec<String>, String> {
    if !knows_dedup() {
        missing.push("speed of writing with sealing: this okapi does not know `--dedup`".to_owned());
        return Ok(Vec::new());
    }
    let mut rounds: [Vec<Times>; MODES.len()] = Default::default();
    for round in 0..options.rounds {
        for which in order(round, MODES.len()) {
            interrupt::go_on()?;
            eprintln!(
                "round {} of {}: --dedup {}",
                round + 1,
                options.rounds,
                MODES[which]
            );
            rounds[which].push(write(MODES[which], options.stream_bytes));
        }
    }
    let lines = PASSES.iter().enumerate().map(|(pass, name)| {
        let speed = rounds[0]
            .iter()
            .map(|times| gigabytes(options.stream_bytes, times.passes[pass]));
        let mut cells = vec![spread(speed.collect())];
        cells.extend(rounds[1..].iter().map(|sealed| {
            let pairs = sealed.iter().zip(&rounds[0]);
            spread(
                pairs
                    .map(|(sealed, off)| off.passes[pass] / sealed.passes[pass])
                    .collect(),
            )
        }));
        (*name, cells)
    });
    // without a mode that seals, all is left to the end
    let sealing = rounds[0]
        .iter()
        .map(|times| gigabytes(options.stream_bytes, times.sealing));
    let meaning = format!(
        "Writing {} MiB in calls of 1 MiB through the page cache: GB/s without sealing, and with it as a part of that. \
         `okapi dedup` then seals all of it at {} GB/s.",
        options.stream_bytes >> 20,
        spread(sealing.collect())
    );
    let columns = ["off, GB/s", "idle", "inline"];
    Ok(table(&meaning, &columns, lines).into_iter().collect())
}

fn spread(values: Vec<f64>) -> String {
    Spread::new(values).expect("there is a round").show(figure)
}

fn gigabytes(bytes: usize, seconds: f64) -> f64 {
    bytes as f64 / seconds / 1e9
}

fn knows_dedup() -> bool {
    let help = run(Command::new(binary()).args(["mount", "--help"])).stdout;
    String::from_utf8_lossy(&help).contains("--dedup")
}

/// Writes files twice on a fresh drive, and has it seal what is not sealed by then.
fn write(mode: &str, stream_bytes: usize) -> Times {
    let drive = Drive::mount(&["--size", "8G", "--dedup", mode]);
    let mut stream = Stream::new(3);
    let passes = PASSES.map(|_| {
        let took = time(|| {
            for number in 0..FILES {
                let mut options = OpenOptions::new();
                options.write(true).create(true).truncate(false);
                let file = options.open(drive.path().join(format!("file{number}")));
                let file = file.expect("a drive takes a file");
                stream
                    .write(&file, stream_bytes / FILES)
                    .expect("the stream fits");
            }
        });
        took.as_secs_f64()
    });
    let sealing = time(|| {
        run(Command::new(binary()).arg("dedup").arg(drive.path()));
    });
    Times {
        passes,
        sealing: sealing.as_secs_f64(),
    }
}
