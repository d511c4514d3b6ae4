//! Memory of real trees of files, and of a second copy of each, on tmpfs and on okapi.

mod inputs;

use crate::gauge::{Memory, mebibytes};
use crate::options::Options;
use fs_tests::bench::machine::{Caches, drop_caches, meminfo, used_bytes};
use fs_tests::bench::report::{Spread, table};
use fs_tests::bench::{interrupt, order};
use fs_tests::harness::{Drive, Place, Tmpfs, run};
use inputs::{Tree, trees};
use std::path::Path;
use std::process::Command;

/// Bound on what a tree and its copies may take.
const SIZE: &str = "8G";

/// What is stored, one after the other.
const STEPS: [Step; 3] = [
    Step {
        name: "one copy",
        store: |tree, dir| unpack(tree, &dir.join("first")),
    },
    Step {
        name: "a second by cp -a",
        store: |_, dir| {
            run(Command::new("cp")
                .arg("-a")
                .arg(dir.join("first"))
                .arg(dir.join("second")));
        },
    },
    Step {
        name: "one more by tar",
        store: |tree, dir| unpack(tree, &dir.join("third")),
    },
];

struct Step {
    name: &'static str,
    store: fn(&Tree, &Path),
}

/// What a step adds, in bytes.
#[derive(Clone, Copy)]
enum Added {
    Tmpfs { used: u64, slab: u64 },
    Okapi(Memory),
    Lz4(Memory),
    Zstd(Memory),
}

const GROUNDS: [fn(&Tree, &Options) -> Vec<Added>; 4] = [
    on_tmpfs,
    |tree, options| on_okapi(tree, &options.drive(SIZE), Added::Okapi),
    |tree, options| on_okapi(tree, &compressing(options, "lz4"), Added::Lz4),
    |tree, options| on_okapi(tree, &compressing(options, "zstd"), Added::Zstd),
];

/// A table of what each step adds, and one of that against tmpfs.
pub(crate) fn tables(options: &Options, missing: &mut Vec<String>) -> Result<Vec<String>, String> {
    let trees = trees(missing);
    let mut added = vec![Vec::new(); trees.len()];
    for round in 0..options.rounds {
        for (tree, added) in trees.iter().zip(&mut added) {
            for which in order(round, GROUNDS.len()) {
                interrupt::go_on()?;
                eprintln!("round {} of {}: {}", round + 1, options.rounds, tree.name);
                added.push(GROUNDS[which](tree, options));
            }
        }
    }
    let results: Vec<_> = trees
        .iter()
        .zip(&added)
        .flat_map(|(tree, added)| (0..STEPS.len()).map(move |step| Outcome::new(tree, step, added)))
        .collect();
    let sizes = results.iter().map(|outcome| {
        let cells = SIZES.map(|column| outcome.cell(column.value, mebibytes));
        (outcome.name.as_str(), cells.to_vec())
    });
    let shares = results.iter().map(|outcome| {
        let cells = SHARES.map(|column| outcome.cell(column.value, |share| format!("{share:.3}")));
        (outcome.name.as_str(), cells.to_vec())
    });
    let sizes = table(
        "What is added to memory, in MiB.",
        &SIZES.map(|column| column.title),
        sizes,
    );
    let shares = table(
        "The same, as parts of other figures.",
        &SHARES.map(|column| column.title),
        shares,
    );
    Ok(sizes.into_iter().chain(shares).collect())
}

/// A step with a tree: what it added in each round.
struct Outcome {
    name: String,
    rounds: Vec<Round>,
}

/// What a step with a tree added to both filesystems, in bytes.
struct Round {
    files: u64,
    tmpfs_used: u64,
    tmpfs_slab: u64,
    okapi: Memory,
    lz4: Memory,
    zstd: Memory,
}

struct Column {
    title: &'static str,
    value: fn(&Round) -> f64,
}

const SIZES: [Column; 7] = [
    column("in the files", |round| round.files as f64),
    column("tmpfs, df", |round| round.tmpfs_used as f64),
    column("tmpfs, kernel's slabs", |round| round.tmpfs_slab as f64),
    column("okapi, held", |round| round.okapi.held as f64),
    column("okapi, metadata", |round| round.okapi.metadata as f64),
    column("okapi, held and metadata", |round| round.okapi.charged() as f64),
    column("okapi, process", |round| round.okapi.pss as f64),
];

const SHARES: [Column; 6] = [
    column("okapi's held and metadata of tmpfs's df", |round| {
        round.okapi.charged() as f64 / round.tmpfs_used as f64
    }),
    column("with --compress lz4", |round| {
        round.lz4.charged() as f64 / round.tmpfs_used as f64
    }),
    column("with --compress zstd", |round| {
        round.zstd.charged() as f64 / round.tmpfs_used as f64
    }),
    column("okapi's process of tmpfs's df and slabs", |round| {
        round.okapi.pss as f64 / (round.tmpfs_used + round.tmpfs_slab) as f64
    }),
    column("okapi's held of the bytes in the files", |round| {
        round.okapi.held as f64 / round.files as f64
    }),
    column("tmpfs's df of the bytes in the files", |round| {
        round.tmpfs_used as f64 / round.files as f64
    }),
];

const fn column(title: &'static str, value: fn(&Round) -> f64) -> Column {
    Column { title, value }
}

impl Outcome {
    /// Of all that the rounds added by all steps, takes what one step did.
    fn new(tree: &Tree, step: usize, added: &[Vec<Added>]) -> Self {
        let rounds = added.chunks_exact(GROUNDS.len()).map(|grounds| {
            let mut round = Round {
                files: tree.bytes,
                tmpfs_used: 0,
                tmpfs_slab: 0,
                okapi: Memory::default(),
                lz4: Memory::default(),
                zstd: Memory::default(),
            };
            for steps in grounds {
                match steps[step] {
                    Added::Tmpfs { used, slab } => (round.tmpfs_used, round.tmpfs_slab) = (used, slab),
                    Added::Okapi(memory) => round.okapi = memory,
                    Added::Lz4(memory) => round.lz4 = memory,
                    Added::Zstd(memory) => round.zstd = memory,
                }
            }
            round
        });
        Self {
            name: match step {
                0 => format!("{} ({} inodes), {}", tree.name, tree.inodes, STEPS[0].name),
                _ => format!("{}, {}", tree.name, STEPS[step].name),
            },
            rounds: rounds.collect(),
        }
    }

    fn cell(&self, value: fn(&Round) -> f64, show: impl Fn(f64) -> String) -> String {
        let spread = Spread::new(self.rounds.iter().map(value).collect());
        spread.expect("there is a round").show(show)
    }
}

fn unpack(tree: &Tree, dir: &Path) {
    std::fs::create_dir(dir).expect("a mount takes a directory");
    run(Command::new("tar")
        .arg("-xf")
        .arg(&tree.archive)
        .arg("-C")
        .arg(dir));
}

fn on_tmpfs(tree: &Tree, _: &Options) -> Vec<Added> {
    let tmpfs = Tmpfs::mount(SIZE);
    let measure = || {
        drop_caches(Caches::Names);
        (used_bytes(tmpfs.path()), meminfo("Slab"))
    };
    let mut before = measure();
    let steps = STEPS.iter().map(|step| {
        (step.store)(tree, tmpfs.path());
        let after = measure();
        let added = Added::Tmpfs {
            used: after.0 - before.0,
            slab: after.1.saturating_sub(before.1),
        };
        before = after;
        added
    });
    steps.collect()
}

fn compressing(options: &Options, codec: &str) -> Drive {
    options.drive_with(SIZE, &["--compress", codec])
}

fn on_okapi(tree: &Tree, drive: &Drive, added: fn(Memory) -> Added) -> Vec<Added> {
    let mut before = Memory::at_rest(drive);
    let steps = STEPS.iter().map(|step| {
        (step.store)(tree, drive.path());
        let after = Memory::at_rest(drive);
        let added = added(after.since(&before));
        before = after;
        added
    });
    steps.collect()
}
