//! The check of a whole grid: reads all bytes, counts everything again and compares.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::budget::{Pool, Usage};
use super::class::Class;
use super::namespace::Namespace;
use super::sealing;
use crate::limits::{BLOCK_COST, SEAL_COST};
use crate::{Error, ErrorKind, Result};

/// Times that a grid is counted which others are changing, and how long to wait in between.
const ATTEMPTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(2);

/// Verifies that blocks have their bytes, and sealed ones those of their hash. Others may work meanwhile.
///
/// # Errors
/// `Corrupt`, naming the namespace.
pub(super) fn check_bytes(namespaces: &[Arc<Namespace>]) -> Result<()> {
    namespaces.iter().try_for_each(|namespace| {
        sealing::check(namespace)?;
        let mut broken = None;
        namespace.home.each_block(|pin| {
            if !pin.memory().is_whole(namespace.account()) {
                broken = Some(pin.memory().survey().len);
            }
        });
        match broken {
            None => Ok(()),
            Some(len) => {
                let rule = format!("a block of {len} bytes is not in its memory");
                Err(corrupt(namespace.name(), &rule))
            }
        }
    })
}

/// Verifies the arena, and every namespace's figures against its blocks.
///
/// Nothing stops the others: an operation that is under way has changed one figure and not yet the next. So a
/// difference counts only where the figures held still from the first count to the last.
///
/// # Errors
/// `Corrupt`, naming the first rule that is broken; `Busy` where the figures never held still.
pub(super) fn check_figures(pool: &Pool, namespaces: impl Fn() -> Vec<Arc<Namespace>>) -> Result<()> {
    let mut before = None;
    let mut moved = false;
    let mut broken = Ok(());
    for _ in 0..ATTEMPTS {
        let namespaces = namespaces();
        broken = count(pool, &namespaces);
        if broken.is_ok() {
            return Ok(());
        }
        let figures = Some(figures(pool, &namespaces));
        moved |= before.is_some() && before != figures;
        before = figures;
        thread::sleep(PAUSE);
    }
    broken.map_err(|error| {
        if moved {
            Error::new(
                ErrorKind::Busy,
                "the grid is in use: check it again when it is quiet",
            )
            .with_source(error)
        } else {
            error
        }
    })
}

fn figures(pool: &Pool, namespaces: &[Arc<Namespace>]) -> (u64, Vec<Usage>) {
    let usages = namespaces.iter().map(|namespace| namespace.usage());
    (pool.used_bytes(), usages.collect())
}

fn count(pool: &Pool, namespaces: &[Arc<Namespace>]) -> Result<()> {
    let mut slots = Vec::new();
    let mut used = 0;
    let mut metadata = 0;
    for namespace in namespaces {
        count_namespace(namespace, &mut slots)?;
        used += namespace.account().used_bytes();
        metadata += namespace.usage().metadata_bytes;
    }
    equal("grid", "charged bytes", pool.used_bytes(), used)?;
    equal("grid", "metadata bytes", pool.heap.charged_bytes(), metadata)?;
    pool.arena.check(&slots)
}

/// Compares a namespace's figures to its blocks, and adds their slots.
fn count_namespace(namespace: &Namespace, slots: &mut Vec<(Class, u64)>) -> Result<()> {
    let account = namespace.account();
    let mut counted = Usage::default();
    let mut broken = None;
    if !namespace.home.is_index_sound() {
        return Err(corrupt(namespace.name(), "the index map and its order differ"));
    }
    let dead = namespace.home.each_block(|pin| {
        let found = pin.memory().survey();
        let (len, room) = (found.len, found.slot.map_or(0, |(class, _)| class.bytes()));
        if len > namespace.block_size() {
            broken = Some(format!("a block has {len} bytes"));
        }
        counted.blocks += 1;
        counted.sealed_blocks += u64::from(sealing::is_sealed(&pin));
        counted.stored_bytes += u64::from(len);
        counted.held_bytes += u64::from(room);
        counted.compressed_blocks += found.compressed.blocks;
        counted.compressed_plain_bytes += found.compressed.plain_bytes;
        counted.compressed_held_bytes += found.compressed.held_bytes;
        slots.extend(found.slot);
    });
    let name = namespace.name();
    if let Some(rule) = broken {
        return Err(corrupt(name, &rule));
    }
    let usage = namespace.usage();
    equal(name, "dead entries", dead as u64, 0)?;
    equal(name, "blocks", usage.blocks, counted.blocks)?;
    equal(name, "sealed blocks", usage.sealed_blocks, counted.sealed_blocks)?;
    equal(
        name,
        "seals",
        namespace.home.seals.len() as u64,
        counted.sealed_blocks,
    )?;
    equal(name, "stored bytes", usage.stored_bytes, counted.stored_bytes)?;
    equal(name, "held bytes", usage.held_bytes, counted.held_bytes)?;
    equal_compressed(name, &usage, &counted)?;
    let blocks = counted.blocks * BLOCK_COST + counted.sealed_blocks * SEAL_COST;
    let metadata = blocks + account.external_bytes() + account.node_bytes();
    let charged = counted.held_bytes + metadata;
    equal(name, "charged bytes", account.used_bytes(), charged)
}

fn equal_compressed(whose: &str, figures: &Usage, counted: &Usage) -> Result<()> {
    let of = |usage: &Usage| {
        [
            ("compressed blocks", usage.compressed_blocks),
            ("memory of compressed blocks", usage.compressed_held_bytes),
            (
                "memory of compressed blocks if they were plain",
                usage.compressed_plain_bytes,
            ),
        ]
    };
    of(figures)
        .into_iter()
        .zip(of(counted))
        .try_for_each(|((what, figure), (_, counted))| equal(whose, what, figure, counted))
}

fn equal(whose: &str, what: &str, figure: u64, counted: u64) -> Result<()> {
    if figure == counted {
        Ok(())
    } else {
        Err(corrupt(
            whose,
            &format!("{what} are {figure} by the figures, {counted} by count"),
        ))
    }
}

fn corrupt(whose: &str, rule: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("{whose}: {rule}"))
}
