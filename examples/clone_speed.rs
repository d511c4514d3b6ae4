//! Measures clones of one file: how long they take, what they cost, and what they cost once a page of each was written.
//!
//! `cargo run --release --example clone_speed [CLONES]`, 254 without a number.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use okapi::clock::SystemClock;
use okapi::fs::{Volume, VolumeConfig};
use okapi::grid::{Grid, GridConfig};
use okapi::vfs::{Caller, CopyRange, Ino, NewName, NewNode, Vfs, WriteAt};

const USER: Caller = Caller { uid: 0, gid: 0 };
/// Bytes of the file.
const BASE_LEN: u64 = 64 << 20;
const CHUNK: usize = 1 << 20;
/// Where each clone differs: in the middle of a block.
const PLACE: u64 = (20 << 20) + 4096;
/// A step that comes everywhere.
const SCATTER: u64 = 41_234_567;

fn main() -> Result<(), Box<dyn Error>> {
    let count = std::env::args().nth(1).map_or(Ok(254), |count| count.parse())?;
    let grid = Grid::new(GridConfig::with_size(1 << 30))?;
    let namespace = grid.create_namespace("drive", None)?;
    let volume = Volume::new(&grid, namespace, Arc::new(SystemClock), VolumeConfig::default())?;
    let base = make(&volume, "base")?;
    fill(&volume, base)?;

    let before = charged(&volume);
    let (inodes, each) = timed(count, |number| make(&volume, &format!("clone{number}")))?;
    let made = charged(&volume) - before;
    report("make an empty file", each, made / count);

    let before = charged(&volume);
    let (_, each) = timed(count, |number| copy(&volume, base, inodes[number]))?;
    report("copy 64 MiB to it", each, (charged(&volume) - before) / count);
    println!(
        "{:<44}{:>10.2} ms",
        "all of these copies",
        each.as_secs_f64() * 1e3 * count as f64
    );

    let before = charged(&volume);
    let (_, each) = timed(count, |number| {
        let page = [u8::try_from(number % 256).unwrap_or(0); 4096];
        volume
            .write(inodes[number], WriteAt::Offset(PLACE), &page, false)
            .map(drop)
    })?;
    report("write 4 KiB to it", each, (charged(&volume) - before) / count);

    for writes in [16, 256, 1024] {
        let clone = make(&volume, &format!("scattered{writes}"))?;
        copy(&volume, base, clone)?;
        let before = charged(&volume);
        let (_, each) = timed(writes, |number| {
            let place = number as u64 * SCATTER % BASE_LEN;
            let page = WriteAt::Offset(place / 4096 * 4096);
            volume.write(clone, page, &[7; 4096], false).map(drop)
        })?;
        let bytes = (charged(&volume) - before) / writes;
        report(&format!("write 4 KiB to one of {writes} places"), each, bytes);
    }

    let (_, each) = timed(8, |_| read(&volume, base))?;
    report_speed("read the base", each);
    let (_, each) = timed(8, |number| read(&volume, inodes[number]))?;
    report_speed("read a clone that was written to", each);
    let mut source = base;
    for number in 0..100 {
        let next = make(&volume, &format!("generation{number}"))?;
        copy(&volume, source, next)?;
        volume.write(
            next,
            WriteAt::Offset(number * (64 << 10) + 4096),
            &[7; 4096],
            false,
        )?;
        source = next;
    }
    let (_, each) = timed(8, |_| read(&volume, source))?;
    report_speed("read a clone of a clone, a hundred deep", each);
    volume.check()?;
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

/// Bytes that repeat nowhere.
fn fill(volume: &Volume, ino: Ino) -> okapi::Result<()> {
    let mut state = 1_u64;
    for offset in (0..BASE_LEN).step_by(CHUNK) {
        let words = (0..CHUNK / 8).flat_map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            state.to_le_bytes()
        });
        let chunk: Vec<u8> = words.collect();
        volume.write(ino, WriteAt::Offset(offset), &chunk, false)?;
    }
    Ok(())
}

fn copy(volume: &Volume, source: Ino, target: Ino) -> okapi::Result<()> {
    let copy = CopyRange {
        source,
        source_offset: 0,
        target,
        target_offset: 0,
        len: BASE_LEN,
    };
    let copied = volume.copy_range(&copy, false)?;
    assert_eq!(copied, BASE_LEN, "there is room for all clones");
    Ok(())
}

fn read(volume: &Volume, ino: Ino) -> okapi::Result<()> {
    let mut buffer = vec![0; 128 << 10];
    for offset in (0..BASE_LEN).step_by(buffer.len()) {
        volume.read(ino, offset, &mut buffer)?;
    }
    Ok(())
}

fn charged(volume: &Volume) -> u64 {
    let usage = volume.stat().usage;
    usage.held_bytes + usage.metadata_bytes
}

/// Does something so many times; what came of each, and how long one took.
fn timed<T>(
    count: u64,
    mut work: impl FnMut(usize) -> okapi::Result<T>,
) -> okapi::Result<(Vec<T>, Duration)> {
    let started = Instant::now();
    let done: okapi::Result<Vec<T>> = (0..count).map(|number| work(number as usize)).collect();
    Ok((done?, started.elapsed().div_f64(count as f64)))
}

fn report(what: &str, each: Duration, bytes: u64) {
    println!("{what:<44}{:>10.2} us{bytes:>10} bytes", each.as_secs_f64() * 1e6);
}

fn report_speed(what: &str, each: Duration) {
    println!(
        "{what:<44}{:>10.2} GB/s",
        BASE_LEN as f64 / each.as_secs_f64() / 1e9
    );
}
