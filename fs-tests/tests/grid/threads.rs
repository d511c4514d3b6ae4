//! Many threads at once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use okapi::ErrorKind;
use okapi::grid::{Block, Grid, Namespace, Slice};
use okapi::limits::{SLACK_BYTES, SLACK_SHARE};

use crate::{BLOCK, Random, at, bytes_of, put, read, space};

/// Threads put, read, lend, write, cut and drop at once. Each byte that a thread writes is its own number, so every
/// block that one thread owns must hold nothing else.
#[test]
fn many_threads_share_a_grid() {
    let seed = Random::new("threads").0;
    let (grid, space) = space(24 << 20);
    thread::scope(|scope| {
        for number in 1..=8_u8 {
            let (grid, space) = (&grid, &space);
            scope.spawn(move || work(grid, space, number, Random(seed ^ u64::from(number))));
        }
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(10));
            grid.trim();
            if let Err(error) = grid.check() {
                assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
            }
        }
    });
    grid.check().unwrap();
    for (index, _) in space.keys(at(0), usize::MAX) {
        space.put(&[(index, 0, b"")]).unwrap();
    }
    assert_eq!(grid.usage().held_bytes + grid.usage().metadata_bytes, 0);
    grid.trim();
    assert_eq!(grid.resident_bytes(), 0);
    grid.check().unwrap();
}

const RECORD: u64 = 3 << 40;
const PUTS: u64 = 2 << 40;

fn work(grid: &Grid, space: &Arc<Namespace>, number: u8, mut random: Random) {
    let mut blocks: Vec<Block> = Vec::new();
    let shared = 1 << 40;
    let mine = (2 << 40) + (u64::from(number) << 16);
    let scratch = vec![number; BLOCK as usize];
    let is_mine = |bytes: &[u8]| bytes.iter().all(|&byte| byte == number || byte == 0);
    let expected = |result: okapi::Result<()>| {
        if let Err(error) = result {
            assert!(matches!(error.kind(), ErrorKind::NoSpace), "{error:?}");
        }
    };
    for _ in 0..8000 {
        let offset = random.len(BLOCK - 1);
        let bytes = &scratch[..random.len(BLOCK - offset) as usize];
        match random.below(12) {
            0..=2 => match space.new_block(offset, bytes) {
                Ok(block) => blocks.push(block),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::NoSpace);
                    blocks.truncate(blocks.len() / 2);
                }
            },
            3 | 4 if !blocks.is_empty() => {
                let block = &blocks[random.below(blocks.len() as u64) as usize];
                assert!(block.read(Slice::ALL, is_mine));
                expected(block.write(offset, bytes));
                assert!(block.read(Slice::ALL, is_mine));
            }
            5 if !blocks.is_empty() => blocks[0].truncate(offset),
            6 | 7 if blocks.len() > 20 => {
                blocks.swap_remove(random.below(blocks.len() as u64) as usize);
            }
            8 => expected(put(space, shared + random.below(50), offset, bytes)),
            9 => {
                let index = mine + random.below(50);
                expected(put(space, index, offset, bytes));
                assert!(is_mine(&read(space, index)));
            }
            10 => {
                // Other threads' lent blocks: their last handle may go while this one reads.
                let keys = space.keys(at(1 + random.below(3000)), 20);
                assert!(keys.is_sorted());
                let requests: Vec<_> = keys
                    .iter()
                    .map(|&(index, _)| (index, Slice::ALL))
                    .filter(|(index, _)| index.get() < RECORD)
                    .collect();
                space.get(&requests, &mut |_, bytes| {
                    let first = bytes.iter().find(|&&byte| byte != 0).copied().unwrap_or(0);
                    assert!(first <= 8);
                });
            }
            _ => {
                assert!(grid.resident_bytes() <= (24 << 20) + (24 << 20) / SLACK_SHARE + SLACK_BYTES);
                expected(space.put_record(at(RECORD), &scratch));
                let mut record = Vec::new();
                if space.get_record(at(RECORD), &mut record).is_ok() {
                    assert_eq!(record.len(), BLOCK as usize);
                    assert!(
                        record.iter().all(|&byte| byte == record[0]),
                        "a record is seen whole"
                    );
                }
            }
        }
    }
}

/// The last handle goes while others look its index up: the place where an index shard and a block's end meet.
#[test]
fn ends_and_look_ups_of_the_same_block_do_not_wait_for_each_other() {
    let (grid, space) = space(4 << 20);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let space = &space;
                scope.spawn(move || {
                    for round in 0..20_000_u64 {
                        let from = at((round & !255).min(19_000));
                        space.get(&[(from.plus(round % 256).unwrap(), Slice::ALL)], &mut |_, _| {});
                        if round % 64 == 0 {
                            space.keys(from, 16);
                        }
                    }
                })
            })
            .collect();
        for _ in 0..20_000 {
            drop(space.new_block(0, b"short-lived").unwrap());
        }
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    assert_eq!(space.usage().blocks, 0);
    grid.check().unwrap();
}

/// The index grows and shrinks under those who look blocks up and list them: what stays is always found.
#[test]
fn what_stays_is_found_while_the_index_changes_its_size() {
    const STEP: u64 = 97;
    const STAY: u64 = 500;
    let (grid, space) = space(64 << 20);
    let stays = |n: u64| (1 << 40) + n * STEP;
    for n in 0..STAY {
        put(&space, stays(n), 0, &n.to_le_bytes()).unwrap();
    }
    let list = || {
        let keys = space.keys(at(1 << 40), usize::MAX);
        assert!(keys.is_sorted_by_key(|(index, _)| *index));
        let found = keys
            .iter()
            .filter(|(index, _)| (index.get() - (1 << 40)).is_multiple_of(STEP));
        assert_eq!(found.count() as u64, STAY);
    };
    let look_up = || {
        for n in 0..STAY {
            assert_eq!(read(&space, stays(n)), n.to_le_bytes());
        }
    };
    let done = AtomicBool::new(false);
    let until_done = |work: &dyn Fn()| {
        while !done.load(Ordering::Relaxed) {
            work();
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| until_done(&list));
        scope.spawn(|| until_done(&look_up));
        let others: Vec<u64> = (0..STAY * STEP).filter(|n| n % STEP > 0).collect();
        for _ in 0..3 {
            for n in &others {
                put(&space, (1 << 40) + n, 0, b"comes and goes").unwrap();
            }
            for n in &others {
                put(&space, (1 << 40) + n, 0, b"").unwrap();
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(space.usage().blocks, STAY);
    grid.check().unwrap();
}

/// One round of a thread's work on a grid and one of its namespaces.
type Work = fn(&Arc<Grid>, &Arc<Namespace>, u64);

/// Every operation that takes a lock, at once. A wrong order of two of them ends in a deadlock sooner or later.
#[test]
fn all_locks_are_taken_in_one_order() {
    let (grid, space) = space(8 << 20);
    let (done, finished) = mpsc::channel();
    let workers: [Work; 6] = [
        |grid, _, round| {
            let other = grid.create_namespace("other", Some(1 << 20)).unwrap();
            let _ = put(&other, round % 9, 0, b"kept");
            let _ = other.new_block(0, b"lent");
            let _ = grid.remove_namespace("other");
        },
        |_, space, round| {
            let first = at(RECORD + round % 3);
            let _ = space.put_record(first, &[1; 40_000][..(round * 97 % 40_000) as usize]);
            let _ = space.get_record(first, &mut Vec::new());
            if round % 7 == 0 {
                let _ = space.remove_record(first);
            }
        },
        |_, space, round| {
            if let Ok(block) = space.new_block(0, &[2; 3000][..(round % 3000) as usize]) {
                let _ = block.write(block.len(), b"grows");
                block.truncate(1);
            }
        },
        |_, space, round| {
            let keys = space.keys(at(round % 64), 8);
            let slices: Vec<_> = keys.iter().map(|&(index, _)| (index, Slice::ALL)).collect();
            space.get(&slices, &mut |_, _| {});
            let _ = put(space, PUTS + round % 300, 0, &[3; 5000]);
        },
        |_, space, round| {
            let _ = put(space, PUTS + round * 7 % 300, 0, b"");
            space.set_quota((round % 2 == 0).then_some(6 << 20));
            let _ = space.charge(100).map(|()| space.release(100));
        },
        |grid, _, round| {
            let _ = grid.usage();
            if round % 20 == 0 {
                grid.trim();
            }
            if round % 200 == 0 {
                let _ = grid.check();
            }
        },
    ];
    for work in workers {
        let (grid, space, done) = (grid.clone(), space.clone(), done.clone());
        thread::spawn(move || {
            (0..4000).for_each(|round| work(&grid, &space, round));
            done.send(()).unwrap();
        });
    }
    for _ in workers {
        let end = finished.recv_timeout(Duration::from_secs(120));
        end.expect("no thread failed or waits for ever");
    }
    grid.check().unwrap();
}

/// A grid that is full of scattered blocks moves them while others read, write and end them.
#[test]
fn blocks_move_together_under_their_users() {
    let (grid, space) = space(32 << 20);
    for round in 0..6_u32 {
        let mut blocks: Vec<_> = (0..40_000_u32)
            .map(|n| (n, space.new_block(0, &n.to_le_bytes().repeat(60)).unwrap()))
            .collect();
        blocks.retain(|(n, _)| n % 20 == round);
        let found = AtomicUsize::new(0);
        thread::scope(|scope| {
            let (half, other) = blocks.split_at(1000);
            scope.spawn(|| {
                for (n, block) in half.iter().cycle().take(40_000) {
                    assert_eq!(bytes_of(block), n.to_le_bytes().repeat(60));
                }
            });
            scope.spawn(|| {
                for (n, (_, block)) in (0_u32..).zip(other.iter().cycle().take(40_000)) {
                    block.write(0, &n.to_le_bytes().repeat(60)).unwrap();
                }
            });
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..4 {
                        let full: Vec<_> = std::iter::from_fn(|| space.new_block(BLOCK, b"").ok()).collect();
                        // One of the two may find that the other has it all just now.
                        found.fetch_add(full.len(), Ordering::Relaxed);
                    }
                });
            }
        });
        assert!(found.into_inner() > 0);
        grid.check().unwrap();
        drop(blocks);
        grid.check().unwrap();
    }
}
