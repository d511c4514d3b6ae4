//! Measures what it takes to tell what files share: a base of 64 MiB and clones of it, each with a page of its own.
//!
//! `cargo run --release --example usage_speed [CLONES]`, a thousand without a number.

use std::error::Error;
use std::fs;
use std::sync::Arc;
use std::time::Instant;

use okapi::clock::SystemClock;
use okapi::fs::{Subject, Volume, VolumeConfig};
use okapi::grid::{Grid, GridConfig};
use okapi::vfs::{Caller, CopyRange, Ino, NewName, NewNode, Vfs, WriteAt};

const LEN: u64 = 64 << 20;
static BLOCK: [u8; 64 << 10] = [7; 64 << 10];

fn main() -> Result<(), Box<dyn Error>> {
    let clones = std::env::args()
        .nth(1)
        .map_or(Ok(1000), |clones| clones.parse())?;
    let grid = Grid::new(GridConfig::with_size(8 << 30))?;
    let namespace = grid.create_namespace("drive", None)?;
    let volume = Volume::new(&grid, namespace, Arc::new(SystemClock), VolumeConfig::default())?;
    let base = make(&volume, "base")?;
    for offset in (0..LEN).step_by(BLOCK.len()) {
        volume.write(base, WriteAt::Offset(offset), &BLOCK, false)?;
    }
    for number in 0..clones {
        let clone = make(&volume, &format!("clone{number}"))?;
        let copy = CopyRange {
            source: base,
            source_offset: 0,
            target: clone,
            target_offset: 0,
            len: LEN,
        };
        volume.copy_range(&copy, false)?;
        let page = number * 4096 % LEN;
        volume.write(clone, WriteAt::Offset(page), &BLOCK[..4096], false)?;
    }

    let named = |name: String| Subject::Name {
        dir: Ino::ROOT,
        name: name.into_bytes().into(),
    };
    timed("one file", &volume, &[named("base".into())])?;
    timed("the whole volume", &volume, &[Subject::Tree(Ino::ROOT)])?;
    let each: Vec<_> = (0..clones)
        .map(|number| named(format!("clone{number}")))
        .collect();
    timed("each clone, in one question", &volume, &each)?;
    let started = Instant::now();
    volume.check()?;
    println!("{:<30}{:>10.3} s", "check", started.elapsed().as_secs_f64());
    Ok(())
}

fn make(volume: &Volume, name: &str) -> Result<Ino, Box<dyn Error>> {
    let at = NewName {
        parent: Ino::ROOT,
        name: name.as_bytes(),
        mode: 0o644,
        umask: 0,
    };
    Ok(volume.create(Caller::default(), at, NewNode::Regular)?.ino)
}

fn timed(what: &str, volume: &Volume, subjects: &[Subject]) -> Result<(), Box<dyn Error>> {
    let before = peak_kib()?;
    let started = Instant::now();
    let total = volume.usage(subjects)?.total;
    println!(
        "{what:<30}{:>10.3} s, {:>8} KiB more memory; {} private, {} shared with {}",
        started.elapsed().as_secs_f64(),
        peak_kib()? - before,
        total.private_bytes,
        total.shared_bytes(),
        total.sharing_files,
    );
    Ok(())
}

/// The most memory that the process has held so far.
fn peak_kib() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("no VmHWM")?.parse()?)
}
