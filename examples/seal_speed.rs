//! Measures sealing: how fast blocks are hashed and compared, and what it costs a writer that streams meanwhile.
//!
//! `cargo run --release --example seal_speed [MIB]`: files of so many MiB, 256 without a number.

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use okapi::clock::SystemClock;
use okapi::fs::{Dedup, Volume, VolumeConfig};
use okapi::grid::{BlockHash, Grid, GridConfig};
use okapi::vfs::{Caller, Ino, NewName, NewNode, Vfs, WriteAt};

const USER: Caller = Caller { uid: 0, gid: 0 };
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// Pairs of rounds of the foreground's measurement, without and with sealing by turns.
const PAIRS: usize = 15;
/// How long a round lasts.
const ROUND: Duration = Duration::from_millis(1000);

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let mib = std::env::args().nth(1).map_or(Ok(256), |mib| mib.parse())?;
    hashing();
    sealing(mib)?;
    for dedup in [Dedup::Off, Dedup::Inline] {
        inline(mib, dedup)?;
    }
    foreground(mib)
}

/// The parts of the work.
fn hashing() {
    for len in [4 * KIB, 64 * KIB, MIB] {
        let (a, b) = (noise(1, len), noise(1, len));
        let times = 1024 * MIB / len;
        let hash = timed(|| {
            for _ in 0..times {
                black_box(BlockHash::of(black_box(&a)));
            }
        });
        let compare = timed(|| {
            for _ in 0..times {
                black_box(black_box(&a) == black_box(&b));
            }
        });
        println!(
            "{:>4} KiB in the processor's cache: hash {:.2} GB/s, compare {:.1} GB/s",
            len / KIB,
            speed(times * len, hash),
            speed(times * len, compare)
        );
    }
}

/// All of it, for two equal files.
fn sealing(mib: usize) -> Outcome<()> {
    let volume = volume(mib * 3, Dedup::Off)?;
    for name in ["first", "second"] {
        let file = make(&volume, name)?;
        stream(&volume, file, mib, 0)?;
        let started = Instant::now();
        let report = volume.seal_all();
        println!(
            "seal the {name} of two equal files: {:.2} GB/s, {} blocks sealed, {} shared",
            speed(usize::try_from(report.read_bytes)?, started.elapsed()),
            report.sealed_blocks,
            report.shared_blocks
        );
    }
    Ok(())
}

/// Writes of different bytes, and of the same bytes to another file.
fn inline(mib: usize, dedup: Dedup) -> Outcome<()> {
    let volume = volume(mib * 3, dedup)?;
    for name in ["first", "second"] {
        let file = make(&volume, name)?;
        let started = Instant::now();
        stream(&volume, file, mib, 0)?;
        let speed = speed(mib * MIB, started.elapsed());
        println!("{dedup:?}: write the {name} of two equal files: {speed:.2} GB/s");
    }
    Ok(())
}

/// A writer that streams, while a thread of the lowest priority seals other files without rest, and while it does not.
fn foreground(mib: usize) -> Outcome<()> {
    let streamed = volume(mib * 2, Dedup::Off)?;
    let target = make(&streamed, "streamed")?;
    let sealed = volume(mib * 2, Dedup::Off)?;
    let source = make(&sealed, "sealed")?;
    stream(&sealed, source, mib, 0)?;
    stream(&streamed, target, mib, 0)?;
    let mut ratios = Vec::new();
    let mut hashed = Vec::new();
    for _ in 0..PAIRS {
        let alone = stream_for(&streamed, target, mib)?;
        let over = AtomicBool::new(false);
        let bytes = AtomicU64::new(0);
        let beside = thread::scope(|scope| {
            scope.spawn(|| seal_until(&over, &sealed, source, mib, &bytes));
            let beside = stream_for(&streamed, target, mib);
            over.store(true, Ordering::Relaxed);
            beside
        })?;
        ratios.push(beside / alone);
        hashed.push(bytes.load(Ordering::Relaxed) as f64 / ROUND.as_secs_f64() / 1e9);
    }
    println!(
        "streaming beside sealing ({:.2} GB/s), to streaming alone: median {:.2} of {PAIRS} pairs, {:.2} to {:.2}",
        median(&mut hashed),
        median(&mut ratios),
        ratios[0],
        ratios[PAIRS - 1]
    );
    Ok(())
}

/// Seals a file over and over, opening all of its blocks in between.
fn seal_until(over: &AtomicBool, volume: &Volume, file: Ino, mib: usize, bytes: &AtomicU64) {
    // As the drive's own thread does it.
    let _ = rustix::process::setpriority_process(None, 19);
    while !over.load(Ordering::Relaxed) {
        let report = volume.seal_all();
        bytes.fetch_add(report.read_bytes, Ordering::Relaxed);
        for offset in (0..mib * MIB).step_by(64 * KIB) {
            volume
                .write(file, WriteAt::Offset(offset as u64), b"o", false)
                .expect("a block is written in place");
        }
    }
}

/// Streams for a round; GB/s.
fn stream_for(volume: &Volume, file: Ino, mib: usize) -> Outcome<f64> {
    let started = Instant::now();
    let mut written = 0;
    let mut seed = 0;
    while started.elapsed() < ROUND {
        seed += 1;
        stream(volume, file, mib / 8, seed)?;
        written += mib / 8 * MIB;
    }
    Ok(speed(written, started.elapsed()))
}

/// Writes a file from its beginning, in requests of the size that the kernel sends.
fn stream(volume: &Volume, file: Ino, mib: usize, seed: u64) -> Outcome<()> {
    let mut bytes = noise(seed, MIB);
    for at in 0..mib {
        bytes
            .chunks_mut(4 * KIB)
            .for_each(|page| page[..8].copy_from_slice(&at.to_le_bytes()));
        volume.write(file, WriteAt::Offset((at * MIB) as u64), &bytes, false)?;
    }
    Ok(())
}

fn volume(mib: usize, dedup: Dedup) -> Outcome<Arc<Volume>> {
    let grid = Grid::new(GridConfig::with_size(((mib + 64) * MIB) as u64))?;
    let namespace = grid.create_namespace("drive", None)?;
    let config = VolumeConfig {
        dedup,
        ..VolumeConfig::default()
    };
    Ok(Volume::new(&grid, namespace, Arc::new(SystemClock), config)?)
}

fn make(volume: &Volume, name: &str) -> Outcome<Ino> {
    let at = NewName {
        parent: Ino::ROOT,
        name: name.as_bytes(),
        mode: 0o644,
        umask: 0,
    };
    Ok(volume.create(USER, at, NewNode::Regular)?.ino)
}

/// Bytes without a pattern.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

fn timed(work: impl FnOnce()) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}

fn speed(bytes: usize, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64() / 1e9
}

/// The middle one; sorts them.
fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
