//! Sealing: equal blocks are held once, zeros become holes, and nobody's bytes change.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;

use super::*;
use crate::extent::{SealWalk, Settled};
use crate::limits::SEAL_LEN_MIN;

const ALL: ByteRange = ByteRange {
    start: 0,
    end: FILE_SIZE_MAX,
};

fn namespace_of(size_bytes: u64, block_size: u32) -> Arc<Namespace> {
    let grid = Grid::new(GridConfig {
        size_bytes,
        block_size,
    })
    .unwrap();
    grid.create_namespace("test", None).unwrap()
}

/// Seals everything, as the owner of a content does it.
fn seal(content: &mut Content, namespace: &Arc<Namespace>) -> Vec<Settled> {
    let mut walk = SealWalk::over(ALL);
    let mut all = Vec::new();
    while let Some(unsealed) = content.next_unsealed(&walk) {
        let reading = unsealed.read();
        all.push(content.settle(namespace, &reading));
        walk.pass(&reading);
    }
    content.check().unwrap();
    all
}

fn written(namespace: &Arc<Namespace>, start: u64, bytes: &[u8]) -> Content {
    let mut content = Content::new();
    assert_eq!(content.write(namespace, start, bytes).unwrap(), bytes.len());
    content
}

#[test]
fn equal_contents_take_the_memory_of_one() {
    let namespace = namespace(16 << 20);
    let mut a = filled(&namespace, 300_000);
    let mut b = filled(&namespace, 300_000);
    assert_eq!(seal(&mut a, &namespace), [Settled::Sealed; 5]);
    let last = class_bytes(300_000 - 4 * BLOCK as u32);
    let shared = Settled::Shared(BLOCK as u32);
    assert_eq!(
        seal(&mut b, &namespace),
        [shared, shared, shared, shared, Settled::Shared(last)]
    );
    assert_eq!(held(&namespace), a.held_bytes());
    assert_eq!(a.held_bytes(), b.held_bytes());
    assert_eq!(seal(&mut a, &namespace), [], "nothing is open");
    b.write(&namespace, 100_000, b"b").unwrap();
    assert_pattern(&a, 0, 300_000);
    assert_eq!(read(&b, 100_000, 1), b"b");
    assert_pattern(&b, 100_001, 199_999);
    drop(a);
    assert_pattern(&b, 0, 100_000);
}

#[test]
fn what_was_sealed_is_written_to_in_place_again() {
    let namespace = namespace(16 << 20);
    let mut content = filled(&namespace, 2 * BLOCK);
    seal(&mut content, &namespace);
    assert_eq!(namespace.usage().sealed_blocks, 2);
    content.write(&namespace, 10, b"x").unwrap();
    assert_eq!((content.extent_count(), held(&namespace)), (2, 2 * BLOCK));
    assert_eq!(namespace.usage().sealed_blocks, 1);
    content.set_len(BLOCK + 5000);
    assert_eq!(namespace.usage().sealed_blocks, 0);
    content.check().unwrap();
}

#[test]
fn a_block_that_is_written_back_is_dropped() {
    let namespace = namespace(16 << 20);
    let mut base = filled(&namespace, 4 * BLOCK);
    seal(&mut base, &namespace);
    let mut clone = base.clone();
    write(&mut clone, &namespace, 0, 4 * BLOCK);
    clone.write(&namespace, 2 * BLOCK, b"changed").unwrap();
    assert_eq!(held(&namespace), 8 * BLOCK);
    seal(&mut clone, &namespace);
    assert_eq!(held(&namespace), 5 * BLOCK);
    assert_eq!(read(&clone, 2 * BLOCK, 7), b"changed");
    assert_pattern(&base, 0, 4 * BLOCK);
}

#[test]
fn a_clone_keeps_sharing_its_nodes() {
    let namespace = namespace(16 << 20);
    let mut sealed = filled(&namespace, 4 * BLOCK);
    let mut base = filled(&namespace, 4 * BLOCK);
    let clone = base.clone();
    seal(&mut sealed, &namespace);
    assert_eq!(seal(&mut base, &namespace), [Settled::Kept; 4]);
    drop(clone);
    assert_eq!(seal(&mut base, &namespace), [Settled::Shared(BLOCK as u32); 4]);
}

#[test]
fn short_blocks_are_sealed_where_it_pays() {
    let namespace = namespace(1 << 20);
    let len = u64::from(SEAL_LEN_MIN);
    assert_eq!(seal(&mut filled(&namespace, len - 1), &namespace), []);
    let mut one = filled(&namespace, len);
    assert_eq!(seal(&mut one, &namespace), [Settled::Sealed]);
    let mut two = filled(&namespace, len);
    assert_eq!(seal(&mut two, &namespace), [Settled::Shared(SEAL_LEN_MIN)]);
}

#[test]
fn zeros_become_holes() {
    let namespace = namespace(16 << 20);
    let mut content = written(&namespace, 0, &vec![0; 3 * BLOCK as usize + 200]);
    content.write(&namespace, BLOCK + 20 * KIB, &[1; 5000]).unwrap();
    content.write(&namespace, 2 * BLOCK, &[1; 8192]).unwrap();
    content.write(&namespace, 3 * BLOCK - 1, &[1]).unwrap();
    let len = content.len();
    let before = read(&content, 0, len);
    seal(&mut content, &namespace);
    assert!(read(&content, 0, len) == before);
    assert_eq!(content.seek_data(0), Some(BLOCK + 20 * KIB));
    assert_eq!(
        content.held_bytes(),
        8 * KIB + 8 * KIB + 4 * KIB,
        "a page or two of bytes at three places"
    );
    assert_eq!(held(&namespace), content.held_bytes());
    assert_eq!(content.len(), len);
    assert_eq!(seal(&mut content, &namespace), []);
}

#[test]
fn few_zeros_between_bytes_stay() {
    let namespace = namespace(16 << 20);
    let mut content = filled(&namespace, BLOCK);
    content.write(&namespace, 16 * KIB, &[0; 12 << 10]).unwrap();
    assert_eq!(seal(&mut content, &namespace), [Settled::Sealed]);
    assert_eq!(content.extent_count(), 1);
}

#[test]
fn zeros_stay_where_their_place_would_take_more_memory() {
    let namespace = namespace_of(16 << 20, 1 << 20);
    let mut content = written(&namespace, 0, &[1; 1 << 20]);
    // Of the sides, 516 KiB take 640 and 492 KiB take 512.
    content.write(&namespace, 516 << 10, &[0; 16 << 10]).unwrap();
    assert_eq!(seal(&mut content, &namespace), [Settled::Kept, Settled::Sealed]);
    assert_eq!(content.held_bytes(), 1 << 20);
}

#[test]
fn what_was_preallocated_keeps_its_memory() {
    let namespace = namespace(16 << 20);
    let mut other = written(&namespace, 0, &vec![3; 2 * BLOCK as usize]);
    seal(&mut other, &namespace);
    let mut content = Content::new();
    content.allocate(&namespace, range(0, 4 * BLOCK)).unwrap();
    content.set_len(4 * BLOCK);
    content.write(&namespace, 0, &vec![3; BLOCK as usize]).unwrap();
    content.write(&namespace, BLOCK, &[3; 100]).unwrap();
    let before = held(&namespace);
    assert_eq!(
        seal(&mut content, &namespace),
        [
            Settled::Shared(BLOCK as u32),
            Settled::Kept,
            Settled::Kept,
            Settled::Kept
        ]
    );
    assert_eq!(held(&namespace), before - BLOCK);
    assert_eq!(content.held_bytes(), 4 * BLOCK);
    let mut zeroed = filled(&namespace, BLOCK);
    zeroed.zero(&namespace, range(0, BLOCK)).unwrap();
    assert_eq!(seal(&mut zeroed.clone(), &namespace), [Settled::Kept]);
    zeroed.set_len(0);
    zeroed.write(&namespace, 0, &[0; 5000]).unwrap();
    assert_eq!(seal(&mut zeroed, &namespace), [Settled::Emptied(8 * KIB)]);
}

#[test]
fn a_writer_in_between_keeps_its_bytes() {
    let namespace = namespace(16 << 20);
    let mut other = filled(&namespace, BLOCK);
    seal(&mut other, &namespace);
    for zeros in [false, true] {
        let mut content = filled(&namespace, BLOCK);
        if zeros {
            content.write(&namespace, 0, &vec![0; BLOCK as usize]).unwrap();
        }
        let unsealed = content.next_unsealed(&SealWalk::over(ALL)).unwrap();
        let reading = unsealed.read();
        content.write(&namespace, 5, b"new").unwrap();
        assert_eq!(content.settle(&namespace, &reading), Settled::Kept);
        assert_eq!(read(&content, 5, 3), b"new");
        content.check().unwrap();
    }
}

#[test]
fn a_reader_keeps_what_it_pinned() {
    let namespace = namespace(16 << 20);
    let mut one = filled(&namespace, BLOCK);
    let mut two = filled(&namespace, BLOCK);
    let plan = two.plan(0, BLOCK as usize);
    seal(&mut one, &namespace);
    seal(&mut two, &namespace);
    two.write(&namespace, 0, b"changed").unwrap();
    one.write(&namespace, 0, b"changed too").unwrap();
    assert!(copied(&plan) == pattern(0, BLOCK));
}

const SMALL: u64 = 8 * KIB;

/// Blocks of a content that its writer knows, with few different bytes so that they are often equal.
struct Writer<'a> {
    content: &'a Mutex<Content>,
    right: Vec<u8>,
    random: u64,
}

impl Writer<'_> {
    fn draw(&mut self, below: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.random >> 33) % below
    }

    /// Writes a block, a page or a byte, and compares all that there is.
    fn round(&mut self, namespace: &Arc<Namespace>) {
        let (block, value) = (self.draw(4), self.draw(3) as u8);
        let (offset, len) = match self.draw(8) {
            0 => (self.draw(2) * 4096, 4096),
            1..6 => (0, SMALL),
            _ => (self.draw(SMALL), 1),
        };
        let start = block * SMALL + offset;
        let bytes = vec![value; len as usize];
        self.right[start as usize..(start + len) as usize].fill(value);
        let mut content = self.content.lock();
        content.write(namespace, start, &bytes).unwrap();
        let found = read(&content, 0, 4 * SMALL);
        assert!(found[..] == self.right[..found.len()], "bytes of another");
    }
}

/// How far the sealer is, and whether the race is over.
#[derive(Default)]
struct Progress {
    steps: AtomicUsize,
    over: AtomicBool,
}

impl Progress {
    fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Waits for the sealer's next step: it would seldom find a block as it has read it beside writers that never rest.
    fn await_step(&self) {
        let before = self.steps.load(Ordering::Relaxed);
        while self.steps.load(Ordering::Relaxed) == before && !self.is_over() {
            thread::yield_now();
        }
    }
}

/// Seals a content once, as a thread beside its writers does; how many blocks came to be shared.
fn seal_beside(content: &Mutex<Content>, namespace: &Arc<Namespace>, progress: &Progress) -> usize {
    let mut walk = SealWalk::over(ALL);
    let mut shared = 0;
    loop {
        progress.step();
        let Some(unsealed) = content.lock().next_unsealed(&walk) else {
            return shared;
        };
        let reading = unsealed.read();
        progress.step();
        let settled = content.lock().settle(namespace, &reading);
        shared += usize::from(matches!(settled, Settled::Shared(_)));
        walk.pass(&reading);
    }
}

/// Whenever a writer looks at its content it finds what it wrote, until many blocks were shared under its hands.
#[test]
fn writers_and_a_sealer_meet_at_equal_blocks() {
    const SHARED: usize = 300;
    let namespace = namespace_of(4 << 20, SMALL as u32);
    let contents: Vec<_> = (0..3).map(|_| Mutex::new(Content::new())).collect();
    let progress = Progress::default();
    thread::scope(|scope| {
        for (content, random) in contents.iter().zip(1..) {
            let mut writer = Writer {
                content,
                right: vec![0; 4 * SMALL as usize],
                random,
            };
            let (progress, namespace) = (&progress, &namespace);
            scope.spawn(move || {
                // A writer that panics ends the others too.
                let _ends = End(progress);
                while !progress.is_over() {
                    writer.round(namespace);
                    progress.await_step();
                }
            });
        }
        let _ends = End(&progress);
        let mut shared = 0;
        while shared < SHARED && !progress.is_over() {
            let all = contents.iter();
            shared += all
                .map(|content| seal_beside(content, &namespace, &progress))
                .sum::<usize>();
        }
    });
    for content in &contents {
        content.lock().check().unwrap();
    }
}

/// Says that a race is over when it is dropped.
struct End<'a>(&'a Progress);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

/// What a reading found is of no use once the block was written to, though another reading has watched it since.
#[test]
fn a_reading_does_not_count_for_another() {
    for (first, second) in [(0, 7), (7, 8)] {
        let grid = Grid::new(GridConfig::with_size(16 << 20)).unwrap();
        let namespace = grid.create_namespace("test", None).unwrap();
        let mut content = written(&namespace, 0, &[first; BLOCK as usize]);
        let reading = |content: &Content| content.next_unsealed(&SealWalk::over(ALL)).unwrap().read();
        let old = reading(&content);
        content.write(&namespace, 0, &[second; BLOCK as usize]).unwrap();
        let new = reading(&content);
        assert_eq!(content.settle(&namespace, &old), Settled::Kept);
        assert_eq!(read(&content, 0, BLOCK), [second; BLOCK as usize]);
        assert_eq!(content.settle(&namespace, &new), Settled::Sealed);
        grid.check().unwrap();
    }
}

#[test]
fn zeros_keep_the_memory_that_was_asked_for_after_they_were_read() {
    let namespace = namespace(16 << 20);
    let mut content = written(&namespace, 0, &[0; BLOCK as usize]);
    let reading = content.next_unsealed(&SealWalk::over(ALL)).unwrap().read();
    content.allocate(&namespace, range(0, BLOCK)).unwrap();
    assert_eq!(content.settle(&namespace, &reading), Settled::Kept);
    assert_eq!(held(&namespace), BLOCK);
}
