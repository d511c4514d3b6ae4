//! Plays steps until they end, and shortens a list of them that fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use fs_tests::model::{Generator, Model};
use fs_tests::rng::{Rng, from_env_or_time, ops_from_env};
use fs_tests::shrink::shrink;
use fs_tests::vfs_driver::VfsDriver;

use crate::bench::Bench;
use crate::snapshots::{Shelf, Step};
use crate::{ROOMY, Setup, TINY};

/// Plays what `next` hands out until it ends, and logs it.
fn play(
    setup: Setup,
    log: &mut Vec<Step>,
    next: &mut dyn FnMut(&Model, &Shelf) -> Option<Step>,
) -> Result<(), String> {
    let bench = Bench::new(setup);
    let mut driver = VfsDriver::new(&*bench.volume);
    let mut model = Model::default();
    let mut shelf = Shelf::default();
    model.punches_may_keep_memory = setup.size_bytes == TINY.size_bytes;
    let (mut count, mut shared, mut merged) = (0, 0, 0);
    while let Some(step) = next(&model, &shelf) {
        log.push(step.clone());
        match &step {
            Step::Op(op) => bench.step(op, &mut model, &mut driver),
            Step::Snapshot(deed) => shelf.play(*deed, &bench, &mut model, &driver),
        }
        .map_err(|error| format!("{step:?}: {error}"))?;
        count += 1;
        if setup.seal_every > 0 && count % setup.seal_every == 0 {
            merged += bench.defragment();
            shared += bench.volume.seal_all().shared_blocks;
        }
        if count % setup.compare_every == 0 {
            bench
                .compare(&model, &driver)
                .and_then(|()| shelf.compare(&bench))
                .map_err(|error| format!("after {step:?}: {error}"))?;
        }
    }
    bench.compare(&model, &driver)?;
    println!(
        "{count} operations, {} of them refused for want of room; {shared} blocks shared, {merged} extents merged; {shelf}",
        bench.refused.get()
    );
    if (setup.size_bytes < ROOMY.size_bytes || setup.inodes_max.is_some())
        && count > 20_000
        && bench.refused.get() == 0
    {
        return Err("nothing was refused: the run shows nothing about a full volume".into());
    }
    if setup.seal_every > 0 && count > 20_000 && shared == 0 {
        return Err("no equal blocks were found: the run shows nothing about sharing them".into());
    }
    if setup.seal_every > 0 && count > 20_000 && setup.block_size > 4096 && merged == 0 {
        return Err("no extents were merged: the run shows nothing about defragmentation".into());
    }
    shelf.clear(&bench)?;
    bench.clear(&mut driver)
}

/// As [`play`], with a panic as an error like others.
fn play_caught(
    setup: Setup,
    log: &mut Vec<Step>,
    next: &mut dyn FnMut(&Model, &Shelf) -> Option<Step>,
) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| play(setup, log, next))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(format!(
            "panic: {}",
            text.unwrap_or_else(|| "without a text".into())
        ))
    })
}

fn replay(setup: Setup, steps: &[Step]) -> Result<(), String> {
    let mut steps = steps.iter().cloned();
    play_caught(setup, &mut Vec::new(), &mut |_, _| steps.next())
}

/// A longer run is cut into pieces, each on a volume of its own: all steps of a piece are kept, to be shortened.
const PIECE_OPS: u64 = 1_000_000;

/// Plays random steps; a failure is shortened and shown.
pub(crate) fn run(name: &str, setup: Setup, ops: u64) {
    let ops = ops_from_env(ops);
    let first = from_env_or_time(name);
    for (piece, begin) in (0..ops).step_by(PIECE_OPS as usize).enumerate() {
        let seed = first.wrapping_add(piece as u64);
        let piece_ops = PIECE_OPS.min(ops - begin);
        let began = Instant::now();
        run_piece(name, setup, seed, piece_ops);
        let rate = piece_ops as f64 / began.elapsed().as_secs_f64();
        println!("{name}: seed {seed}, {rate:.0} operations a second");
    }
}

fn run_piece(name: &str, setup: Setup, seed: u64, ops: u64) {
    let mut generator = Generator::new(seed, setup.features);
    let mut rng = Rng::new(!seed);
    let mut log = Vec::new();
    let mut left = ops;
    let mut next = |model: &Model, shelf: &Shelf| {
        left = left.checked_sub(1)?;
        let deed = shelf.next(setup.snapshots_max, &mut rng);
        Some(deed.map_or_else(|| Step::Op(generator.next(model)), Step::Snapshot))
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
    let short = shrink(&log, Duration::from_secs(20), |steps| {
        replay(setup, steps).is_err_and(|other| same(&other))
    });
    let end = replay(setup, &short).err().unwrap_or_default();
    short.iter().for_each(|step| println!("    {step:?}"));
    panic!(
        "{name} (OKAPI_SEED={seed} OKAPI_OPS={ops}): {error}\nshortened to {} operations: {end}",
        short.len()
    );
}
