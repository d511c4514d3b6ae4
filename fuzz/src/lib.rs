//! What fuzz targets share: the files that a target begins with, and a walk over a disk that checks what it is told.
//!
//! A target is one file in `src/bin`, found by its name. Its `init` hands [`seeds`] the inputs to begin with.

use std::path::Path;

use okapi::image::format::Disk;

pub mod nbd;
pub mod small;

/// Runs over a disk that are followed from each end of it: what is behind them is much the same.
const RUNS_MAX: usize = 200;
/// Bytes that are read at a place.
const SAMPLE: u64 = 1536;

/// Writes the inputs that a target begins with into the directory that `OKAPI_FUZZ_SEEDS` names, and ends the process;
/// without the variable it does nothing.
///
/// # Panics
/// Where they cannot be written.
pub fn seeds(inputs: impl FnOnce() -> Vec<Vec<u8>>) {
    let Some(directory) = std::env::var_os("OKAPI_FUZZ_SEEDS") else {
        return;
    };
    for (number, input) in inputs().iter().enumerate() {
        let path = Path::new(&directory).join(format!("seed-{number}"));
        std::fs::write(&path, input).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    std::process::exit(0);
}

/// Follows the runs of a disk and reads at their ends. Errors end it; what is no error must be true.
///
/// # Panics
/// Where a run is empty or leaves the disk, zeros are none, or bytes differ when they are read again.
pub fn walk(disk: &mut dyn Disk) {
    let size = disk.size();
    for start in [0, size / 2, size.saturating_sub(64 << 10)] {
        let mut at = start;
        for _ in 0..RUNS_MAX {
            if at >= size {
                break;
            }
            let Ok(run) = disk.run(at) else {
                break;
            };
            assert!(
                run.end > at && run.end <= size,
                "a run is not empty, and lies on the disk"
            );
            for place in [at, run.end.saturating_sub(SAMPLE).max(at)] {
                sample(disk, place, run.end, run.is_zero);
            }
            at = run.end;
        }
    }
}

fn sample(disk: &mut dyn Disk, at: u64, end: u64, is_zero: bool) {
    let len = SAMPLE.min(end - at) as usize;
    let (mut whole, mut halves) = (vec![1; len], vec![2; len]);
    let middle = len / 2;
    let first = disk.read(at, &mut whole);
    let second = disk.read(at, &mut halves[..middle]);
    let third = disk.read(at + middle as u64, &mut halves[middle..]);
    if first.is_ok() {
        let parts = second.and(third);
        assert!(parts.is_ok(), "what can be read can be read in parts: {parts:?}");
        assert!(whole == halves, "bytes are the same each time");
        assert!(!is_zero || whole.iter().all(|byte| *byte == 0), "zeros are zeros");
    }
}
