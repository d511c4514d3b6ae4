//! Plays random operations on a volume through `Vfs` and on the reference model, and compares all that can be seen.
//!
//! A failure prints the seed (`OKAPI_SEED` replays it) and the shortest list of operations that still fails.

#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use fs_tests::model::{Answer, Features, Generator, Model, Op, Outcome, Times};
use fs_tests::rng::{from_env_or_time, ops_from_env};
use fs_tests::shrink::shrink;
use fs_tests::vfs_driver::VfsDriver;
use nix::errno::Errno;
use okapi::clock::ManualClock;
use okapi::fs::{Volume, VolumeConfig};
use okapi::grid::{Grid, GridConfig, Usage};
use okapi::vfs::{Ino, Vfs};

/// One run: how the volume is made, and how often its whole state is compared.
#[derive(Clone, Copy, Debug)]
struct Setup {
    block_size: u32,
    size_bytes: u64,
    inodes_max: Option<u64>,
    compare_every: u64,
    features: Features,
}

const ROOMY: Setup = Setup {
    block_size: 64 << 10,
    size_bytes: 1 << 30,
    inodes_max: None,
    compare_every: 2000,
    features: Features {
        mmap: false,
        raw: true,
        inodes: 100,
        pages: 1500,
    },
};

const TINY: Setup = Setup {
    size_bytes: 1 << 20,
    compare_every: 200,
    features: Features {
        inodes: 60,
        pages: 100_000,
        ..ROOMY.features
    },
    ..ROOMY
};

/// A volume, and what it used when it was empty.
struct Bench {
    grid: Arc<Grid>,
    volume: Arc<Volume>,
    empty: Usage,
    setup: Setup,
    /// Operations that were refused for want of space or inodes, or done in part.
    refused: Cell<u64>,
}

impl Bench {
    fn new(setup: Setup) -> Self {
        let grid = Grid::new(GridConfig {
            size_bytes: setup.size_bytes,
            block_size: setup.block_size,
        })
        .unwrap();
        let namespace = grid.create_namespace("drive", None).unwrap();
        let config = VolumeConfig {
            inodes_max: setup.inodes_max,
            root_mode: 0o755,
            uid: 0,
            gid: 0,
        };
        let volume = Volume::new(&grid, namespace, Arc::new(ManualClock::new()), config).unwrap();
        let empty = grid.usage();
        Self {
            grid,
            volume,
            empty,
            setup,
            refused: Cell::new(0),
        }
    }

    fn compare(&self, model: &Model, driver: &VfsDriver<'_>) -> Result<(), String> {
        let dump = driver.dump().map_err(|errno| format!("dump: {errno}"))?;
        model.compare(&dump, Times::Ordered)?;
        self.volume
            .check()
            .map_err(|error| format!("volume check: {error}"))?;
        self.grid
            .check()
            .map_err(|error| format!("grid check: {error}"))?;
        match (self.volume.stat().inodes, model.inode_count() as u64) {
            (counted, right) if counted == right => Ok(()),
            (counted, right) => Err(format!("{counted} inodes, in the model {right}")),
        }
    }

    /// Whether so little is left that `op` may be refused: blocks in the middle of a change need room twice.
    fn may_be_full(&self, op: &Op) -> bool {
        let stat = self.volume.statfs();
        let wanted = match op {
            Op::Fallocate { span, .. } => span.len,
            Op::SetXattr { len, .. } => u64::from(*len),
            _ => op.bytes_to_write().unwrap_or(4096),
        };
        stat.inodes_free == 0 || stat.free_bytes < 2 * wanted + 6 * u64::from(self.setup.block_size)
    }

    /// Plays one operation on both and compares the answers.
    fn step(&self, op: &Op, model: &mut Model, driver: &mut VfsDriver<'_>) -> Result<(), String> {
        let outcome = driver.play(op);
        if outcome == Err(Errno::ENOSPC) && self.may_be_full(op) {
            // nothing may have changed
            self.refused.set(self.refused.get() + 1);
            return self.compare(model, driver);
        }
        let played = match shortened(op, &outcome) {
            Some(short) if self.may_be_full(op) => {
                self.refused.set(self.refused.get() + 1);
                short
            }
            _ => op.clone(),
        };
        let expected = model.apply(&played);
        match expected.allows(&outcome) {
            true => Ok(()),
            false => Err(format!(
                "answers {outcome:?}, right is {:?} {:?}",
                expected.first, expected.others
            )),
        }
    }

    /// Removes every name, gives every look-up back, and expects the memory of the empty volume.
    fn clear(&self, driver: &mut VfsDriver<'_>) -> Result<(), String> {
        driver.close_all();
        let dump = driver.dump().map_err(|errno| format!("dump: {errno}"))?;
        let paths: BTreeMap<_, _> = dump.names.iter().filter(|(path, _)| !path.is_empty()).collect();
        for (path, ino) in paths.into_iter().rev() {
            let slash = path
                .iter()
                .rposition(|byte| *byte == b'/')
                .expect("a path below the root has a slash");
            let parent = Ino(dump.names[&path[..slash]]);
            let name = &path[slash + 1..];
            let removed = match dump.nodes[ino].attr.format {
                libc::S_IFDIR => self.volume.rmdir(parent, name),
                _ => self.volume.unlink(parent, name),
            };
            removed.map_err(|error| format!("removing {}: {error}", path.escape_ascii()))?;
        }
        driver
            .remove_xattrs_of_root()
            .map_err(|errno| format!("the root's attributes: {errno}"))?;
        self.volume
            .check()
            .map_err(|error| format!("check after all is gone: {error}"))?;
        self.grid
            .check()
            .map_err(|error| format!("grid check after all is gone: {error}"))?;
        let left = self.grid.usage();
        match left == self.empty {
            true => Ok(()),
            false => Err(format!(
                "{left:?} is used when all is gone, {:?} before",
                self.empty
            )),
        }
    }
}

/// The operation as it was done where only a part of the bytes fitted.
fn shortened(op: &Op, outcome: &Outcome) -> Option<Op> {
    let asked = op.bytes_to_write()?;
    match outcome {
        Ok(Answer::Count(done)) if *done > 0 && *done < asked => Some(op.shortened(*done)),
        _ => None,
    }
}

/// Plays what `next` hands out until it ends, and logs it.
fn play(setup: Setup, log: &mut Vec<Op>, next: &mut dyn FnMut(&Model) -> Option<Op>) -> Result<(), String> {
    let bench = Bench::new(setup);
    let mut driver = VfsDriver::new(&*bench.volume);
    let mut model = Model::default();
    model.punches_may_keep_memory = setup.size_bytes == TINY.size_bytes;
    let mut count = 0;
    while let Some(op) = next(&model) {
        log.push(op.clone());
        bench
            .step(&op, &mut model, &mut driver)
            .map_err(|error| format!("{op:?}: {error}"))?;
        count += 1;
        if count % setup.compare_every == 0 {
            bench
                .compare(&model, &driver)
                .map_err(|error| format!("after {op:?}: {error}"))?;
        }
    }
    bench.compare(&model, &driver)?;
    println!(
        "{count} operations, {} of them refused for want of room",
        bench.refused.get()
    );
    if (setup.size_bytes < ROOMY.size_bytes || setup.inodes_max.is_some())
        && count > 20_000
        && bench.refused.get() == 0
    {
        return Err("nothing was refused: the run shows nothing about a full volume".into());
    }
    bench.clear(&mut driver)
}

/// As [`play`], with a panic as an error like others.
fn play_caught(
    setup: Setup,
    log: &mut Vec<Op>,
    next: &mut dyn FnMut(&Model) -> Option<Op>,
) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| play(setup, log, next))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(format!(
            "panic: {}",
            text.unwrap_or_else(|| "without a text".into())
        ))
    })
}

fn replay(setup: Setup, ops: &[Op]) -> Result<(), String> {
    let mut ops = ops.iter().cloned();
    play_caught(setup, &mut Vec::new(), &mut |_| ops.next())
}

fn run(name: &str, setup: Setup, ops: u64) {
    let seed = from_env_or_time(name);
    let mut generator = Generator::new(seed, setup.features);
    let mut log = Vec::new();
    let mut left = ops_from_env(ops);
    let mut next = |model: &Model| {
        left = left.checked_sub(1)?;
        Some(generator.next(model))
    };
    let Err(error) = play_caught(setup, &mut log, &mut next) else {
        return;
    };
    println!("operation {}: {error}", log.len());
    // what was found late may have happened long before
    let setup = Setup {
        compare_every: if log.len() < 30_000 {
            1
        } else {
            setup.compare_every
        },
        ..setup
    };
    let error = replay(setup, &log).err().unwrap_or(error);
    let class = |error: &str| error.split(' ').take(2).map(str::to_owned).collect::<Vec<_>>();
    let same = |other: &str| class(other) == class(&error);
    let short = shrink(&log, Duration::from_secs(20), |ops| {
        replay(setup, ops).is_err_and(|other| same(&other))
    });
    let end = replay(setup, &short).err().unwrap_or_default();
    short.iter().for_each(|op| println!("    {op:?}"));
    panic!(
        "{name} (OKAPI_SEED={seed}): {error}\nshortened to {} operations: {end}",
        short.len()
    );
}

#[test]
fn a_volume_of_64k_blocks_answers_as_the_model() {
    run("64k blocks", ROOMY, 300_000);
}

#[test]
fn a_volume_of_64k_blocks_answers_as_the_model_on_another_seed() {
    run("64k blocks again", ROOMY, 300_000);
}

#[test]
fn a_volume_of_4k_blocks_answers_as_the_model() {
    let setup = Setup {
        block_size: 4 << 10,
        ..ROOMY
    };
    run("4k blocks", setup, 200_000);
}

#[test]
fn a_volume_of_1m_blocks_answers_as_the_model() {
    let setup = Setup {
        block_size: 1 << 20,
        ..ROOMY
    };
    run("1m blocks", setup, 100_000);
}

#[test]
fn what_a_full_volume_refuses_changes_nothing() {
    let setup = Setup {
        block_size: 4 << 10,
        ..TINY
    };
    run("full, 4k blocks", setup, 30_000);
}

#[test]
fn what_a_full_volume_of_64k_blocks_refuses_changes_nothing() {
    run("full, 64k blocks", TINY, 30_000);
}

#[test]
fn a_volume_without_free_inodes_refuses_new_ones_and_changes_nothing() {
    let setup = Setup {
        inodes_max: Some(30),
        compare_every: 500,
        ..ROOMY
    };
    run("few inodes", setup, 25_000);
}
