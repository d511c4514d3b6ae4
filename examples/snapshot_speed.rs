//! Measures snapshots of a volume with many files: how long operations pause, and what the first changes cost.
//!
//! `cargo run --release --example snapshot_speed [FILES]`, a million without a number.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use okapi::clock::SystemClock;
use okapi::fs::{Volume, VolumeConfig};
use okapi::grid::{Grid, GridConfig};
use okapi::vfs::{Caller, Ino, NewName, NewNode, Vfs, WriteAt};

const USER: Caller = Caller { uid: 0, gid: 0 };
const PAGE: [u8; 4096] = [7; 4096];
/// How often what is short is measured.
const ROUNDS: u32 = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    let files = std::env::args()
        .nth(1)
        .map_or(Ok(1_000_000), |files| files.parse())?;
    let volume = volume()?;
    let flat = make(&volume, Ino::ROOT, "flat", NewNode::Directory)?;
    let started = Instant::now();
    let mut inodes = Vec::with_capacity(files);
    for number in 0..files {
        let ino = make(&volume, flat, &format!("file{number}"), NewNode::Regular)?;
        volume.write(ino, WriteAt::Offset(0), b"small", false)?;
        inodes.push(ino);
    }
    report(&format!("make {files} files in one directory"), started.elapsed());
    let metadata = || volume.stat().usage.metadata_bytes;

    creation(&volume)?;
    pauses(&volume, inodes[0])?;

    report_per("write 4 KiB, no snapshot", writes(&volume, inodes[0])?, ROUNDS);
    let before = metadata();
    volume.create_snapshot("s")?;
    let first = timed(|| volume.unlink(flat, b"file1"))?;
    report("first unlink in that directory after a snapshot", first);
    let second = timed(|| volume.unlink(flat, b"file2"))?;
    report("second unlink in it", second);
    println!(
        "{:<60}{:>10} bytes",
        "metadata that these took",
        metadata() - before
    );
    report_per("write 4 KiB, kept already", writes(&volume, inodes[0])?, ROUNDS);

    let each = timed(|| {
        inodes[3..]
            .iter()
            .try_for_each(|ino| volume.write(*ino, WriteAt::Offset(0), b"other", false).map(drop))
    })?;
    report_per(
        "first write to each file after a snapshot",
        each,
        u32::try_from(files - 3)?,
    );
    let again = timed(|| {
        inodes[3..]
            .iter()
            .try_for_each(|ino| volume.write(*ino, WriteAt::Offset(0), b"third", false).map(drop))
    })?;
    report_per("second write to each", again, u32::try_from(files - 3)?);
    report(
        "go back to the snapshot, every file changed",
        timed(|| volume.rollback("s"))?,
    );
    report(
        "delete the snapshot, every file changed",
        timed(|| volume.delete_snapshot("s"))?,
    );
    Ok(())
}

fn volume() -> Result<Arc<Volume>, Box<dyn Error>> {
    let grid = Grid::new(GridConfig::with_size(6 << 30))?;
    let namespace = grid.create_namespace("drive", None)?;
    Ok(Volume::new(
        &grid,
        namespace,
        Arc::new(SystemClock),
        VolumeConfig::default(),
    )?)
}

/// Makes and deletes snapshots, nothing else running.
fn creation(volume: &Volume) -> okapi::Result<()> {
    let mut slowest = Duration::ZERO;
    let started = Instant::now();
    for _ in 0..ROUNDS {
        slowest = slowest.max(timed(|| volume.create_snapshot("empty"))?);
        volume.delete_snapshot("empty")?;
    }
    report_per("create and delete a snapshot", started.elapsed(), ROUNDS);
    report("slowest creation", slowest);
    Ok(())
}

/// How long a writer waits at most, without snapshots and with many.
fn pauses(volume: &Volume, ino: Ino) -> okapi::Result<()> {
    for with in [false, true] {
        let over = AtomicBool::new(false);
        let (slowest, count) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let started = Instant::now();
                    if volume.write(ino, WriteAt::Offset(0), &PAGE, false).is_ok() {
                        let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
                        slowest.fetch_max(nanos, Ordering::Relaxed);
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            let created: okapi::Result<()> = (0..ROUNDS).try_for_each(|_| {
                if with {
                    volume.create_snapshot("pause")?;
                    volume.delete_snapshot("pause")?;
                }
                std::thread::sleep(Duration::from_millis(1));
                Ok(())
            });
            over.store(true, Ordering::Relaxed);
            created
        })?;
        let what = if with {
            "while snapshots come and go"
        } else {
            "alone"
        };
        let each = Duration::from_nanos(slowest.load(Ordering::Relaxed));
        report(
            &format!("slowest of {} writes {what}", count.load(Ordering::Relaxed)),
            each,
        );
    }
    Ok(())
}

fn writes(volume: &Volume, ino: Ino) -> okapi::Result<Duration> {
    timed(|| (0..ROUNDS).try_for_each(|_| volume.write(ino, WriteAt::Offset(0), &PAGE, false).map(drop)))
}

fn make(volume: &Volume, parent: Ino, name: &str, node: NewNode<'_>) -> okapi::Result<Ino> {
    let at = NewName {
        parent,
        name: name.as_bytes(),
        mode: 0o755,
        umask: 0,
    };
    let ino = volume.create(USER, at, node)?.ino;
    volume.forget(ino, 1);
    Ok(ino)
}

fn timed(work: impl FnOnce() -> okapi::Result<()>) -> okapi::Result<Duration> {
    let started = Instant::now();
    work()?;
    Ok(started.elapsed())
}

fn report(what: &str, time: Duration) {
    println!("{what:<60}{:>10.1} us", time.as_secs_f64() * 1e6);
}

fn report_per(what: &str, time: Duration, count: u32) {
    report(what, time / count);
}
