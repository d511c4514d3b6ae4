//! Prints how fast the grid is on this machine: `cargo run --release --example grid_speed`.
//!
//! A line stands beside what the memory allows: the same bytes, copied in the same pattern without the grid. Both are
//! measured in turn. Time is that of a thread on its processor, so that other programs disturb little; `busy` is its
//! share of the time from the first thread's start to the last one's end. Of many short rounds the busiest count, and
//! of those the median: threads meet only while all of them run. `waits` are the times that a thread gave up its
//! processor in a million operations, which is what it does when it finds a lock taken.

use std::fs;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Instant;

use okapi::Result;
use okapi::grid::{BlockIndex, Grid, GridConfig, Namespace, Slice};

const BLOCK: u64 = 64 << 10;
const PAGE: u64 = 4 << 10;
/// Blocks in 256 MiB, and in what a processor's cache holds.
const ALL: u64 = 4096;
const FEW: u64 = 256;
/// How often each line is measured.
const ROUNDS: usize = 40;
/// One in so many rounds counts: the busiest.
const CHOICE: usize = 5;

fn main() -> Result<()> {
    let grid = Grid::new(GridConfig {
        size_bytes: 2 << 30,
        block_size: BLOCK as u32,
    })?;
    let space = grid.create_namespace("speed", None)?;
    let bench = Bench::new(space)?;
    println!(
        "{:<36} {:>7} {:>9} {:>7} {:>9} {:>5} {:>6}",
        "per thread", "threads", "million/s", "GB/s", "of memory", "busy", "waits"
    );
    bench.first_touch(&grid);
    for threads in [1, 2, 4] {
        bench.gets(threads);
        bench.puts(threads);
        bench.blocks(threads);
        bench.shared_lines(threads);
    }
    let started = Instant::now();
    grid.check()?;
    println!(
        "check of {} blocks: {:.1} ms",
        bench.space.usage().blocks,
        started.elapsed().as_secs_f64() * 1e3
    );
    Ok(())
}

/// Blocks kept at `ALL` indexes, and as many bytes of plain memory.
struct Bench {
    space: Arc<Namespace>,
    memory: Plain,
    data: Plain,
}

/// Memory that begins with a page, as blocks do.
struct Plain {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Plain {
    fn new(len: u64) -> Self {
        let len = len as usize;
        let memory = vec![7; len + PAGE as usize];
        let start = memory.as_ptr().align_offset(PAGE as usize);
        Self { memory, start, len }
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..][..self.len]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..self.len]
    }
}

/// Work of one thread: its number, and how many operations to do.
type Work<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// One line of the table.
struct Line<'a> {
    name: &'a str,
    threads: u64,
    /// Operations of each thread, and bytes that each handles.
    count: u64,
    bytes: u64,
    work: Work<'a>,
    /// The same without the grid.
    memory: Option<Work<'a>>,
}

impl Bench {
    fn new(space: Arc<Namespace>) -> Result<Self> {
        let (memory, data) = (Plain::new(ALL * BLOCK), Plain::new(BLOCK));
        for n in 0..ALL {
            space.put(&[(place(n), 0, data.bytes())])?;
        }
        Ok(Self { space, memory, data })
    }

    /// Writes into pages that the system must find first, and into pages that were just freed.
    fn first_touch(&self, grid: &Grid) {
        let fill = || -> Vec<_> {
            let block = |_| {
                self.space
                    .new_block(0, self.data.bytes())
                    .expect("there is room for all")
            };
            (0..ALL).map(block).collect()
        };
        for name in ["new_block 64K, cold pages", "new_block 64K, warm pages"] {
            let runs = (0..ROUNDS / 4).map(|_| {
                drop(fill());
                if name.contains("cold") {
                    grid.trim();
                }
                let blocks = Mutex::new(Vec::new());
                Run::of(1, ALL, &|_, _| *blocks.lock().expect("no other thread") = fill())
            });
            let run = typical(runs.collect());
            run.print(name, 1, BLOCK, None);
        }
    }

    fn gets(&self, threads: u64) {
        for (name, blocks, count) in [("16 MiB", FEW, 100_000), ("256 MiB", ALL, 20_000)] {
            print(&Line {
                name: &format!("get 4K at random, copied, {name}"),
                threads,
                count,
                bytes: PAGE,
                work: &|thread, count| {
                    let mut out = vec![0; PAGE as usize];
                    for (block, slice) in pages(thread, blocks, count) {
                        self.space.get(&[(place(block), slice)], &mut |_, bytes| {
                            out.copy_from_slice(bytes)
                        });
                        black_box(&out);
                    }
                },
                memory: Some(&|thread, count| {
                    let mut out = vec![0; PAGE as usize];
                    for (block, slice) in pages(thread, blocks, count) {
                        let start = (block * BLOCK) as usize + slice.offset as usize;
                        out.copy_from_slice(&self.memory.bytes()[start..start + PAGE as usize]);
                        black_box(&out);
                    }
                }),
            });
        }
        print(&Line {
            name: "get 64K at random, in place",
            threads,
            count: 100_000,
            bytes: BLOCK,
            work: &|thread, count| {
                for (block, _) in pages(thread, ALL, count) {
                    self.space.get(&[(place(block), Slice::ALL)], &mut |_, bytes| {
                        black_box(bytes);
                    });
                }
            },
            memory: None,
        });
    }

    fn puts(&self, threads: u64) {
        // Each thread has blocks of its own: two writers of one block wait for each other, whatever the grid does.
        let own = move |thread: u64, block: u64| block / threads * threads + thread;
        for (name, blocks) in [("16 MiB", FEW), ("256 MiB", ALL)] {
            let share = blocks / threads * BLOCK;
            let plain: Vec<_> = (0..threads).map(|_| Mutex::new(Plain::new(share))).collect();
            print(&Line {
                name: &format!("put 64K at random, {name}"),
                threads,
                count: 512,
                bytes: BLOCK,
                work: &|thread, count| {
                    for (block, _) in pages(thread, blocks, count) {
                        let put = self
                            .space
                            .put(&[(place(own(thread, block)), 0, self.data.bytes())]);
                        put.expect("a put in place needs no room");
                    }
                },
                memory: Some(&|thread, count| {
                    let mut plain = plain[thread as usize].lock().expect("no other thread");
                    for (block, _) in pages(thread, blocks / threads, count) {
                        let start = (block * BLOCK) as usize;
                        plain.bytes_mut()[start..start + BLOCK as usize].copy_from_slice(self.data.bytes());
                        black_box(plain.bytes());
                    }
                }),
            });
        }
    }

    fn blocks(&self, threads: u64) {
        for (name, bytes) in [
            ("new_block 100 bytes and drop", 100),
            ("new_block 4K and drop", PAGE),
        ] {
            print(&Line {
                name,
                threads,
                count: 20_000,
                bytes,
                work: &|_, count| {
                    for _ in 0..count {
                        let block = self.space.new_block(0, &self.data.bytes()[..bytes as usize]);
                        drop(block.expect("there is room for a block"));
                    }
                },
                memory: None,
            });
        }
        let own: Vec<_> = (0..threads)
            .map(|_| self.space.new_block(0, self.data.bytes()).expect("there is room"))
            .collect();
        print(&Line {
            name: "Block::write 4K in place",
            threads,
            count: 100_000,
            bytes: PAGE,
            work: &|thread, count| {
                for n in 0..count {
                    let write = own[thread as usize]
                        .write((n % 16 * PAGE) as u32, &self.data.bytes()[..PAGE as usize]);
                    write.expect("a write in place needs no room");
                }
            },
            memory: Some(&|_, count| {
                let mut out = vec![0; BLOCK as usize];
                for n in 0..count {
                    let start = (n % 16 * PAGE) as usize;
                    out[start..start + PAGE as usize].copy_from_slice(&self.data.bytes()[..PAGE as usize]);
                    black_box(&out);
                }
            }),
        });
    }

    /// What threads pay for meeting: in one counter, and in the budget.
    fn shared_lines(&self, threads: u64) {
        let counter = AtomicU64::new(0);
        print(&Line {
            name: "one counter for all threads",
            threads,
            count: 1_000_000,
            bytes: 0,
            work: &|_, count| {
                for _ in 0..count {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            },
            memory: None,
        });
        print(&Line {
            name: "charge and release metadata",
            threads,
            count: 100_000,
            bytes: 0,
            work: &|_, count| {
                for _ in 0..count {
                    self.space.charge(100).expect("there is room for 100 bytes");
                    self.space.release(100);
                }
            },
            memory: None,
        });
    }
}

/// Pages at random in so many blocks.
fn pages(thread: u64, blocks: u64, count: u64) -> impl Iterator<Item = (u64, Slice)> {
    let mut random = thread + 1;
    (0..count).map(move |_| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let slice = Slice {
            offset: (random >> 60) as u32 * PAGE as u32,
            len: PAGE as u32,
        };
        ((random >> 32) % blocks, slice)
    })
}

fn place(n: u64) -> BlockIndex {
    BlockIndex::new((1 << 40) + n).expect("below the last index")
}

/// Measures a line and prints it.
fn print(line: &Line<'_>) {
    let mut ratios = Vec::new();
    let runs = (0..ROUNDS).map(|_| {
        let memory = line.memory.map(|work| Run::of(line.threads, line.count, work));
        let run = Run::of(line.threads, line.count, line.work);
        ratios.extend(memory.map(|memory| (run.busy + memory.busy, memory.nanos / run.nanos)));
        run
    });
    let run = typical(runs.collect());
    let ratio = busiest(ratios, |ratio| ratio.0).into_iter().map(|ratio| ratio.1);
    run.print(line.name, line.threads, line.bytes, median(ratio.collect()));
}

/// The median run of the busiest.
fn typical(runs: Vec<Run>) -> Run {
    let mut runs = busiest(runs, |run| run.busy);
    runs.sort_by(|a, b| a.nanos.total_cmp(&b.nanos));
    runs.swap_remove(runs.len() / 2)
}

fn busiest<T>(mut all: Vec<T>, busy: impl Fn(&T) -> f64) -> Vec<T> {
    all.sort_by(|a, b| busy(b).total_cmp(&busy(a)));
    all.truncate(all.len().div_ceil(CHOICE));
    all
}

fn median(mut all: Vec<f64>) -> Option<f64> {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied()
}

/// One measurement.
struct Run {
    /// Of one thread on a processor, per operation.
    nanos: f64,
    /// Share of the time from the first start to the last end that threads were on a processor.
    busy: f64,
    /// Times that a thread gave up its processor, per million operations.
    waits: f64,
}

impl Run {
    /// Has so many threads do `count` operations each, at once.
    fn of(threads: u64, count: u64, work: Work<'_>) -> Self {
        let start = Barrier::new(threads as usize);
        let each = |thread| {
            start.wait();
            let before = Used::by_this_thread();
            let start = Instant::now();
            work(thread, count);
            let end = Instant::now();
            let after = Used::by_this_thread();
            let used = before.zip(after).map_or((0.0, 0.0), |(before, after)| {
                (after.nanos - before.nanos, after.waits - before.waits)
            });
            (used, start, end)
        };
        let ended: Vec<_> = thread::scope(|scope| {
            let each = &each;
            let running: Vec<_> = (0..threads)
                .map(|thread| scope.spawn(move || each(thread)))
                .collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join().expect("no work here panics");
            running.into_iter().map(join).collect()
        });
        let (mut nanos, mut waits) = (0.0, 0.0);
        let (mut first, mut last) = (ended[0].1, ended[0].2);
        for ((more_nanos, more_waits), start, end) in ended {
            (nanos, waits) = (nanos + more_nanos, waits + more_waits);
            (first, last) = (first.min(start), last.max(end));
        }
        let span = (last - first).as_nanos() as f64 * threads as f64;
        if nanos == 0.0 {
            nanos = span;
        }
        let operations = (threads * count) as f64;
        Self {
            nanos: nanos / operations,
            busy: nanos / span,
            waits: waits / operations * 1e6,
        }
    }

    fn print(&self, name: &str, threads: u64, bytes: u64, of_memory: Option<f64>) {
        let per_second = 1e3 / self.nanos;
        let gigabytes = bytes as f64 / self.nanos;
        let of_memory = of_memory.map_or(String::new(), |ratio| format!("{ratio:.2}"));
        let (busy, waits) = (self.busy, self.waits);
        println!(
            "{name:<36} {threads:>7} {per_second:>9.2} {gigabytes:>7.1} {of_memory:>9} {busy:>5.2} {waits:>6.1}"
        );
    }
}

/// What a thread has used so far.
struct Used {
    nanos: f64,
    waits: f64,
}

impl Used {
    /// `None` where the system does not tell.
    fn by_this_thread() -> Option<Self> {
        // The system brings its books up to date when it is asked to let others run.
        thread::yield_now();
        let status = fs::read_to_string("/proc/thread-self/status").ok()?;
        let waits = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        let schedule = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        Some(Self {
            nanos: schedule.split(' ').next()?.parse().ok()?,
            waits: waits.trim().parse().ok()?,
        })
    }
}
