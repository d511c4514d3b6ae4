//! Measures what defragmentation brings for a clone that was written to all over and whose base is gone, and how long
//! it takes.
//!
//! `cargo run --release --example defrag_speed [WRITES]`, 10,000 without a number.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use okapi::clock::SystemClock;
use okapi::fs::{Subject, Volume, VolumeConfig};
use okapi::grid::{Grid, GridConfig};
use okapi::vfs::{Caller, CopyRange, Ino, NewName, NewNode, Vfs, WriteAt};

const USER: Caller = Caller { uid: 0, gid: 0 };
/// Bytes of the file.
const LEN: u64 = 64 << 20;
const CHUNK: usize = 1 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let writes: u64 = std::env::args()
        .nth(1)
        .map_or(Ok(10_000), |count| count.parse())?;
    let grid = Grid::new(GridConfig::with_size(1 << 30))?;
    let namespace = grid.create_namespace("drive", None)?;
    let volume = Volume::new(&grid, namespace, Arc::new(SystemClock), VolumeConfig::default())?;
    let [base, clone] = ["base", "clone"].map(|name| make(&volume, name));
    let (base, clone) = (base?, clone?);
    fill(&volume, base)?;
    let whole = CopyRange {
        source: base,
        source_offset: 0,
        target: clone,
        target_offset: 0,
        len: LEN,
    };
    volume.copy_range(&whole, false)?;
    let mut random = 1_u64;
    for number in 0..writes {
        // Knuth's generator for 64 bits; its high bits are the better ones.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let place = (random >> 33) % (LEN / 4096) * 4096;
        let page = number.to_le_bytes().repeat(512);
        volume.write(clone, WriteAt::Offset(place), &page, false)?;
    }
    volume.unlink(Ino::ROOT, b"base")?;
    volume.forget(base, 1);
    volume.gather();

    report("shattered", &grid, &volume)?;
    let began = Instant::now();
    let (steps, longest) = defragment(&volume)?;
    let took = began.elapsed();
    volume.gather();
    report("defragmented", &grid, &volume)?;
    println!(
        "{:.1} ms in {steps} steps, the longest {:.1} ms",
        took.as_secs_f64() * 1e3,
        longest.as_secs_f64() * 1e3
    );
    let began = Instant::now();
    let (steps, _) = defragment(&volume)?;
    println!(
        "a second time: {:.2} ms in {steps} steps",
        began.elapsed().as_secs_f64() * 1e3
    );
    volume.check()?;
    Ok(())
}

/// All that there is to do: in how many steps, and how long the longest took.
fn defragment(volume: &Volume) -> Result<(u32, Duration), Box<dyn Error>> {
    let found = volume.scattered(&[Subject::Tree(Ino::ROOT)])?;
    let files: Vec<Ino> = found.scattered.into_iter().map(|(ino, _)| ino).collect();
    let (mut rest, mut offset) = (files.as_slice(), 0);
    let (mut steps, mut longest) = (0, Duration::ZERO);
    while !rest.is_empty() {
        let began = Instant::now();
        let step = volume.defragment(rest, offset);
        longest = longest.max(began.elapsed());
        steps += 1;
        (rest, offset) = (&rest[step.done..], step.offset);
    }
    Ok((steps, longest))
}

fn report(what: &str, grid: &Grid, volume: &Volume) -> Result<(), Box<dyn Error>> {
    let usage = volume.stat().usage;
    println!(
        "{what:<14}{:>8} extents {:>12} held {:>10} metadata {:>12} resident",
        volume.scattered(&[Subject::Tree(Ino::ROOT)])?.extents,
        usage.held_bytes,
        usage.metadata_bytes,
        grid.resident_bytes(),
    );
    Ok(())
}

fn make(volume: &Volume, name: &str) -> okapi::Result<Ino> {
    let at = NewName {
        parent: Ino::ROOT,
        name: name.as_bytes(),
        mode: 0o644,
        umask: 0,
    };
    Ok(volume.create(USER, at, NewNode::Regular)?.ino)
}

/// Bytes that are in no other page.
fn fill(volume: &Volume, ino: Ino) -> okapi::Result<()> {
    for start in (0..LEN).step_by(CHUNK) {
        let words = (start..start + CHUNK as u64).step_by(8);
        let bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        volume.write(ino, WriteAt::Offset(start), &bytes, false)?;
    }
    Ok(())
}
