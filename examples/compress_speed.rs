//! Prints what compression saves on real files, and what it costs: `cargo run --release --example compress_speed DIR...`.
//!
//! The files below each directory are stored as a volume stores them. Memory stands beside what tmpfs takes for the
//! same files: whole pages. Of several rounds the fastest counts, because other programs only make one slower.

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use okapi::extent::Content;
use okapi::grid::{Codec, Grid, GridConfig, Namespace, Press};
use okapi::limits::BLOCK_SIZE_DEFAULT;
use okapi::range::ByteRange;

type Error = Box<dyn std::error::Error>;

const PAGE: u64 = 4096;
const ROUNDS: usize = 5;
/// Reads of single pages in a round.
const READS: u64 = 50_000;

fn main() -> Result<(), Error> {
    let directories: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if directories.is_empty() {
        return Err("name a directory with files to compress".into());
    }
    for directory in &directories {
        let mut files = Vec::new();
        collect(directory, &mut files)?;
        println!("{}", directory.display());
        for codec in [Codec::Lz4, Codec::Zstd] {
            Bench::new(&files)?.run(codec)?;
        }
    }
    Ok(())
}

/// Reads all files below a directory.
fn collect(directory: &Path, files: &mut Vec<Vec<u8>>) -> Result<(), Error> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(fs::read(entry.path())?);
        }
    }
    Ok(())
}

struct Bench {
    grid: Arc<Grid>,
    space: Arc<Namespace>,
    contents: Vec<Content>,
    bytes: u64,
    tmpfs_bytes: u64,
}

impl Bench {
    fn new(files: &[Vec<u8>]) -> Result<Self, Error> {
        let bytes: u64 = files.iter().map(|file| file.len() as u64).sum();
        let grid = Grid::new(GridConfig {
            size_bytes: 2 * bytes + (256 << 20),
            block_size: BLOCK_SIZE_DEFAULT,
        })?;
        let space = grid.create_namespace("files", None)?;
        let store = |file: &Vec<u8>| {
            let mut content = Content::new();
            content.write(&space, 0, file).map(|_| content)
        };
        let contents = files.iter().map(store).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            grid,
            space,
            contents,
            bytes,
            tmpfs_bytes: files
                .iter()
                .map(|file| (file.len() as u64).next_multiple_of(PAGE))
                .sum(),
        })
    }

    fn run(&self, codec: Codec) -> Result<(), Error> {
        println!(
            "  {} files, {:.1} MB; tmpfs takes {:.1} MB",
            self.contents.len(),
            mega(self.bytes),
            mega(self.tmpfs_bytes)
        );
        self.print_held("plain");
        self.read("plain");
        let started = Instant::now();
        let packed = self.compress(codec);
        let seconds = started.elapsed().as_secs_f64();
        println!("  {codec:?}: compressing {:.0} MB/s", mega(packed) / seconds);
        self.print_held("compressed");
        self.read("compressed");
        self.grid.check()?;
        Ok(())
    }

    fn print_held(&self, what: &str) {
        let usage = self.space.usage();
        let of_tmpfs = |bytes: u64| bytes as f64 / self.tmpfs_bytes as f64;
        println!(
            "  {what}: {:.1} MB held, {:.2} of tmpfs; {:.2} with the bookkeeping of blocks; {} of {} blocks compressed",
            mega(usage.held_bytes),
            of_tmpfs(usage.held_bytes),
            of_tmpfs(usage.held_bytes + usage.metadata_bytes),
            usage.compressed_blocks,
            usage.blocks
        );
    }

    /// Compresses all that it pays for; how many bytes were tried.
    fn compress(&self, codec: Codec) -> u64 {
        let mut press = Press::new(codec);
        for content in &self.contents {
            let mut rest = ByteRange {
                start: 0,
                end: content.len(),
            };
            while let Some(block) = content.next_compressible(rest) {
                rest.start = block.end();
                if let Some(packed) = block.pack(&mut press) {
                    content.compress(packed, &press);
                }
            }
        }
        self.bytes
    }

    fn read(&self, what: &str) {
        let (order, random) = (self.pages_in_order(), self.pages_at_random());
        let longest = self.contents.iter().map(Content::len).max().unwrap_or(0);
        let mut out = vec![7; longest as usize];
        println!(
            "  {what}: files read whole {:.2} GB/s, in pages {:.2} GB/s; a page at random {:.2} us",
            self.bytes as f64 / nanos(|| self.read_whole(&mut out)),
            self.bytes as f64 / nanos(|| self.read_pages(&order)),
            nanos(|| self.read_pages(&random)) / 1e3 / READS as f64
        );
    }

    fn read_whole(&self, out: &mut [u8]) {
        for content in &self.contents {
            black_box(content.plan(0, content.len() as usize).copy_to(out));
        }
    }

    fn read_pages(&self, pages: &[(usize, u64)]) {
        let mut out = [0; PAGE as usize];
        for &(file, offset) in pages {
            black_box(self.contents[file].plan(offset, out.len()).copy_to(&mut out));
        }
    }

    fn pages_in_order(&self) -> Vec<(usize, u64)> {
        let files = self.contents.iter().enumerate();
        let pages = files.flat_map(|(file, content)| {
            let pages = (0..content.len()).step_by(PAGE as usize);
            pages.map(move |offset| (file, offset))
        });
        pages.collect()
    }

    fn pages_at_random(&self) -> Vec<(usize, u64)> {
        let all = self.pages_in_order();
        let mut random = 1_u64;
        let next = |_| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            all[(random >> 32) as usize % all.len()]
        };
        (0..READS).map(next).collect()
    }
}

fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// The fastest of several rounds.
fn nanos(mut work: impl FnMut()) -> f64 {
    let mut round = |_| {
        let started = Instant::now();
        work();
        started.elapsed().as_nanos() as f64
    };
    (0..ROUNDS).map(&mut round).fold(f64::INFINITY, f64::min)
}
