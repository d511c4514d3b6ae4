//! Memory: never shown to the next owner, never more than allowed, given back.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use okapi::ErrorKind;
use okapi::grid::{Grid, GridConfig, Namespace};
use okapi::limits::{SLACK_BYTES, SLACK_SHARE};

use crate::{BLOCK, at, bytes_of, put, read, space, wait_for};

#[test]
fn freed_memory_never_shows_what_it_held() {
    let (grid, space) = space(4 << 20);
    let secret = vec![0xaa; BLOCK as usize];
    for round in 0..3 {
        let blocks: Vec<_> = (0..200).map(|_| space.new_block(0, &secret).unwrap()).collect();
        drop(blocks);
        if round == 1 {
            grid.trim();
        }
        let zeros = space.new_block(BLOCK, b"").unwrap();
        assert_eq!(bytes_of(&zeros), vec![0; BLOCK as usize]);
        let gap = space.new_block(0, b"x").unwrap();
        gap.write(BLOCK - 1, b"y").unwrap();
        assert!(
            bytes_of(&gap)[1..BLOCK as usize - 1]
                .iter()
                .all(|&byte| byte == 0)
        );
        put(&space, 500, 9000, b"z").unwrap();
        assert_eq!(read(&space, 500)[..9000], [0; 9000]);
        put(&space, 500, 0, b"").unwrap();
        let cut = space.new_block(0, &secret).unwrap();
        cut.truncate(10);
        cut.write(5000, b"w").unwrap();
        assert!(bytes_of(&cut)[10..5000].iter().all(|&byte| byte == 0));
    }
    grid.check().unwrap();
}

#[test]
fn freed_memory_goes_back_by_itself() {
    let (grid, space) = space(64 << 20);
    let blocks: Vec<_> = (0..6000)
        .map(|n| space.new_block(0, &vec![1; 1 + n * 7 % BLOCK as usize]).unwrap())
        .collect();
    let held = space.usage().held_bytes;
    assert!(grid.resident_bytes() >= held && held > 40 << 20);
    drop(blocks);
    // A busy machine may be late; a second is usual.
    wait_for("giving memory back", Duration::from_secs(20), || {
        grid.resident_bytes() == 0
    });
    grid.check().unwrap();
}

#[test]
fn small_blocks_that_stay_do_not_pin_the_pages_of_those_that_went() {
    let (grid, space) = space(64 << 20);
    let mut blocks: Vec<_> = (0..60_000_u32)
        .map(|n| {
            space
                .new_block(0, &n.to_le_bytes().repeat(1 + n as usize % 70))
                .unwrap()
        })
        .collect();
    let mut position = 0;
    blocks.retain(|_| {
        position += 1;
        position % 20 == 7
    });
    // One page may be partly in use for each of the smaller classes.
    let least = space.usage().held_bytes + (20 * 4096);
    wait_for("bringing blocks together", Duration::from_secs(20), || {
        grid.resident_bytes() <= least
    });
    for (position, block) in blocks.iter().enumerate() {
        let n = position as u32 * 20 + 6;
        assert_eq!(bytes_of(block), n.to_le_bytes().repeat(1 + n as usize % 70));
        assert!(!block.is_shared());
    }
    grid.check().unwrap();
}

#[test]
fn trim_gives_back_what_is_free_and_keeps_the_rest() {
    let (grid, space) = space(64 << 20);
    let mut blocks: Vec<_> = (0..2000_u32)
        .map(|n| {
            space
                .new_block(0, &vec![n as u8; (n * 37 % BLOCK) as usize])
                .unwrap()
        })
        .collect();
    let mut position = 0;
    blocks.retain(|_| {
        position += 1;
        position % 10 == 0
    });
    let before = grid.resident_bytes();
    let trimmed = grid.trim();
    assert_eq!(grid.resident_bytes(), before - trimmed);
    assert!(trimmed > before / 2);
    assert!(grid.resident_bytes() >= space.usage().held_bytes);
    for (position, block) in blocks.iter().enumerate() {
        let n = position as u32 * 10 + 9;
        assert_eq!(bytes_of(block), vec![n as u8; (n * 37 % BLOCK) as usize]);
    }
    grid.check().unwrap();
    drop(blocks);
    grid.trim();
    assert_eq!(grid.resident_bytes(), 0);
}

#[test]
fn memory_in_use_never_passes_the_size_by_much() {
    let size = 64 << 20;
    let (grid, space) = space(size);
    let slack = size / SLACK_SHARE + SLACK_BYTES;
    let mut kept = Vec::new();
    for len in [BLOCK, 5000, 64, 4096, 700, BLOCK, 64, 12_000] {
        let bytes = vec![1; len as usize];
        let mut blocks = Vec::new();
        while let Ok(block) = space.new_block(0, &bytes) {
            blocks.push(block);
            let metadata = grid.usage().metadata_bytes;
            assert!(grid.resident_bytes() + metadata <= size + slack);
        }
        assert!(grid.resident_bytes() + grid.usage().metadata_bytes <= size + slack);
        let mut position = 0;
        blocks.retain(|_| {
            position += 1;
            position % 97 == 0
        });
        kept.push(blocks);
        grid.check().unwrap();
    }
}

/// Set in a test's own process.
#[cfg(target_os = "linux")]
const MARK: &str = "OKAPI_TEST_ALONE";

/// Runs `test` in a process of its own, whose memory it can measure. `name` is the test's.
#[cfg(target_os = "linux")]
fn alone(name: &str, test: impl FnOnce()) {
    if std::env::var_os(MARK).is_some() {
        return test();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([name, "--exact", "--nocapture"]).env(MARK, "1");
    succeed(command);
}

/// Runs a test program. Its output, which has a summary of its own, is shown only where it fails.
#[cfg(target_os = "linux")]
fn succeed(mut command: Command) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "a process of its own ended with {}:\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
}

/// A shell in which this process could map only so much lets it run `name` again.
#[cfg(target_os = "linux")]
fn confined(name: &str, mapped_kib: u32) -> Command {
    let mut shell = Command::new("sh");
    let limit = format!("ulimit -v {mapped_kib} && exec \"$0\" \"$@\"");
    shell
        .args(["-c", &limit])
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(MARK, "1");
    shell
}

#[test]
#[cfg(target_os = "linux")]
fn a_host_with_little_address_space_gets_a_smaller_map_or_a_clear_error() {
    if std::env::var_os(MARK).is_none() {
        let name = "memory::a_host_with_little_address_space_gets_a_smaller_map_or_a_clear_error";
        return succeed(confined(name, 1 << 20));
    }
    let grid = Grid::new(GridConfig::with_size(400 << 20)).unwrap();
    let space = grid.create_namespace("x", None).unwrap();
    put(&space, 1, 0, b"stored").unwrap();
    assert_eq!(read(&space, 1), b"stored");
    let error = Grid::new(GridConfig::with_size(4 << 30)).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::NoMemory);
    let text = error.to_string();
    assert!(text.contains("4294967296") && text.contains("smaller"), "{text}");
}

/// Resident memory of this process in bytes.
#[cfg(target_os = "linux")]
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Fills the grid with blocks of `len` bytes from `first` on; the index behind the last.
#[cfg(target_os = "linux")]
fn storm(space: &Arc<Namespace>, first: u64, len: usize, bound: u64) -> u64 {
    let bytes = vec![0x5a; len];
    for index in first.. {
        if let Err(error) = put(space, index, 0, &bytes) {
            assert_eq!(error.kind(), ErrorKind::NoSpace);
            assert!(resident() < bound, "{} bytes resident", resident());
            return index;
        }
        if index % 512 == 0 {
            assert!(resident() < bound, "{} bytes resident", resident());
        }
    }
    unreachable!("a grid has a bound");
}

#[test]
#[cfg(target_os = "linux")]
fn the_process_stays_within_size_and_shrinks_again() {
    alone("memory::the_process_stays_within_size_and_shrinks_again", || {
        const SIZE: u64 = 96 << 20;
        let bound = SIZE + SIZE / 20 + (64 << 20);
        let before = resident();
        let grid = Grid::new(GridConfig::with_size(SIZE)).unwrap();
        let space = grid.create_namespace("storm", None).unwrap();
        let mut end = 0;
        for len in [64, 65_536, 3000, 100, 20_000] {
            end = storm(&space, end, len, bound);
            let usage = grid.usage();
            let used = usage.held_bytes + usage.metadata_bytes;
            assert!(used > SIZE - (1 << 20), "only {used} bytes fitted");
            // Of what there is, one block in ten stays, scattered over all pages.
            for (index, _) in space.keys(at(0), usize::MAX) {
                if index.get() % 10 != 0 {
                    space.put(&[(index, 0, b"")]).unwrap();
                }
            }
        }
        for (index, _) in space.keys(at(0), usize::MAX) {
            space.put(&[(index, 0, b"")]).unwrap();
        }
        let least = before + (8 << 20);
        let started = Instant::now();
        wait_for("giving memory back", Duration::from_secs(20), || {
            resident() < least
        });
        println!("memory is back after {:?}", started.elapsed());
        grid.check().unwrap();
    });
}

/// Enters blocks one after the other, in a process of its own, and compares what it takes beside the arena to what is
/// charged.
#[cfg(target_os = "linux")]
fn bookkeeping(name: &str, enter: impl Fn(&Arc<Namespace>, u64)) {
    /// What a namespace takes that has a few blocks, and the lists of free slots.
    const FIXED: u64 = 1 << 20;
    alone(name, || {
        let grid = Grid::new(GridConfig::with_size(256 << 20)).unwrap();
        let space = grid.create_namespace("test", None).unwrap();
        let before = resident();
        let mut most = 0;
        for n in 1..=400_000 {
            enter(&space, n);
            if n % 2000 == 0 {
                let taken = (resident() - before).saturating_sub(grid.resident_bytes() + FIXED);
                let charged = grid.usage().metadata_bytes;
                assert!(
                    taken <= charged,
                    "{taken} bytes for {n} blocks, {charged} charged"
                );
                most = most.max(taken / n);
            }
        }
        println!("{name}: at most {most} bytes each");
        assert!(most > 40, "the measurement sees the heap");
    });
}

#[test]
#[cfg(target_os = "linux")]
fn blocks_at_successive_indexes_take_no_more_than_is_charged() {
    bookkeeping(
        "memory::blocks_at_successive_indexes_take_no_more_than_is_charged",
        |space, n| put(space, n, 0, b"x").unwrap(),
    );
}

#[test]
#[cfg(target_os = "linux")]
fn blocks_at_scattered_indexes_take_no_more_than_is_charged() {
    bookkeeping(
        "memory::blocks_at_scattered_indexes_take_no_more_than_is_charged",
        |space, n| put(space, n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16, 0, b"x").unwrap(),
    );
}

#[test]
#[cfg(target_os = "linux")]
fn lent_blocks_take_no_more_than_is_charged() {
    bookkeeping("memory::lent_blocks_take_no_more_than_is_charged", |space, _| {
        // They must live, and who holds them pays for the handles.
        std::mem::forget(space.new_block(0, b"x").unwrap());
    });
}
