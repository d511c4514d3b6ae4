//! Prints how fast the grid is on this machine: `cargo run --release --example grid_speed`.

use std::hint::black_box;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use okapi::Result;
use okapi::grid::{BlockIndex, Grid, GridConfig, Namespace, Slice};

const BLOCK: u32 = 64 << 10;
const BLOCKS: u64 = 4096;

fn main() -> Result<()> {
    let grid = Grid::new(GridConfig {
        size_bytes: 2 << 30,
        block_size: BLOCK,
    })?;
    let space = grid.create_namespace("speed", None)?;
    let data = vec![7; BLOCK as usize];

    bandwidth("new_block 64K, cold pages", || fill(&space, &data))?;
    bandwidth("new_block 64K, warm pages", || fill(&space, &data))?;
    put_all(&space, &data)?;
    bandwidth("put 64K over kept blocks", || put_all(&space, &data))?;
    rate("copy 4K at random in 16 MiB", 4_000_000, |n| copy_random(256, n))?;
    rate("get 4K at random in 16 MiB", 4_000_000, |n| {
        get_random(&space, 256, n)
    })?;
    rate("copy 4K at random in 256 MiB", 2_000_000, |n| {
        copy_random(BLOCKS, n)
    })?;
    rate("get 4K at random in 256 MiB", 2_000_000, |n| {
        get_random(&space, BLOCKS, n)
    })?;
    rate("new_block 100 bytes and drop", 4_000_000, |n| {
        churn(&space, &data[..100], n)
    })?;
    rate("new_block 4K and drop", 2_000_000, |n| {
        churn(&space, &data[..4096], n)
    })?;
    rate("write 4K in place", 4_000_000, |n| {
        write_in_place(&space, &data[..4096], n)
    })?;
    bandwidth("append 4K to 64K blocks", || append(&space, &data[..4096]))?;
    rate("new_block 100 bytes, keep", 1_000_000, |n| {
        keep(&space, &data[..100], n)
    })?;
    for threads in [2, 4] {
        let label = format!("new_block 4K and drop, {threads} threads");
        rate(&label, 2_000_000, |n| {
            parallel(threads, || churn(&space, &data[..4096], n / threads))
        })?;
        let label = format!("get 4K at random, {threads} threads");
        rate(&label, 4_000_000, |n| {
            parallel(threads, || get_random(&space, 256, n / threads))
        })?;
    }
    let started = Instant::now();
    grid.check()?;
    println!(
        "{:<36} {:>10.1} ms for {} blocks",
        "check",
        started.elapsed().as_secs_f64() * 1e3,
        space.usage().blocks
    );
    Ok(())
}

fn fill(space: &Arc<Namespace>, data: &[u8]) -> Result<()> {
    let blocks: Result<Vec<_>> = (0..BLOCKS).map(|_| space.new_block(0, data)).collect();
    blocks.map(drop)
}

fn put_all(space: &Arc<Namespace>, data: &[u8]) -> Result<()> {
    (0..BLOCKS).try_for_each(|n| space.put(&[(place(n)?, 0, data)]))
}

/// What the memory itself allows: the yardstick for `get_random`.
fn copy_random(blocks: u64, count: u64) -> Result<()> {
    let memory = vec![7_u8; blocks as usize * BLOCK as usize];
    let mut out = vec![0_u8; 4096];
    for (block, slice) in places(blocks, count) {
        let start = block as usize * BLOCK as usize + slice.offset as usize;
        out.copy_from_slice(&memory[start..start + 4096]);
        black_box(&out);
    }
    Ok(())
}

fn get_random(space: &Namespace, blocks: u64, count: u64) -> Result<()> {
    let mut out = vec![0_u8; 4096];
    for (block, slice) in places(blocks, count) {
        space.get(&[(place(block)?, slice)], &mut |_, bytes| {
            out.copy_from_slice(bytes)
        });
        black_box(&out);
    }
    Ok(())
}

/// Pages at random in so many blocks.
fn places(blocks: u64, count: u64) -> impl Iterator<Item = (u64, Slice)> {
    let mut random = 1_u64;
    (0..count).map(move |_| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let slice = Slice {
            offset: (random >> 60) as u32 * 4096,
            len: 4096,
        };
        ((random >> 32) % blocks, slice)
    })
}

fn churn(space: &Arc<Namespace>, data: &[u8], count: u64) -> Result<()> {
    (0..count).try_for_each(|_| space.new_block(0, data).map(drop))
}

fn write_in_place(space: &Arc<Namespace>, data: &[u8], count: u64) -> Result<()> {
    let block = space.new_block(BLOCK, &[])?;
    (0..count).try_for_each(|n| block.write((n % 16) as u32 * 4096, data))
}

fn append(space: &Arc<Namespace>, data: &[u8]) -> Result<()> {
    for _ in 0..BLOCKS {
        let block = space.new_block(0, data)?;
        (1..16).try_for_each(|n| block.write(n * 4096, data))?;
    }
    Ok(())
}

fn keep(space: &Arc<Namespace>, data: &[u8], count: u64) -> Result<()> {
    let blocks: Result<Vec<_>> = (0..count).map(|_| space.new_block(0, data)).collect();
    blocks.map(drop)
}

fn place(n: u64) -> Result<BlockIndex> {
    BlockIndex::new((1 << 40) + n)
}

fn parallel(threads: u64, work: impl Fn() -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(&work)).collect();
        running
            .into_iter()
            .try_for_each(|thread| thread.join().expect("no work here panics"))
    })
}

fn bandwidth(what: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let started = Instant::now();
    work()?;
    let gigabytes = (BLOCKS * u64::from(BLOCK)) as f64 / 1e9;
    println!(
        "{what:<36} {:>10.2} GB/s",
        gigabytes / started.elapsed().as_secs_f64()
    );
    Ok(())
}

fn rate(what: &str, count: u64, work: impl FnOnce(u64) -> Result<()>) -> Result<()> {
    let started = Instant::now();
    work(count)?;
    let nanos = started.elapsed().as_nanos() as f64 / count as f64;
    println!("{what:<36} {nanos:>10.0} ns = {:.2} million/s", 1e3 / nanos);
    Ok(())
}
