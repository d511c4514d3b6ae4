//! Random operations on contents against plain byte vectors.
//!
//! `OKAPI_SEED` replays a run, `OKAPI_OPS` sets the number of operations of each.

use std::collections::HashSet;
use std::sync::Arc;

use super::compress::compress;
use super::copied;
use super::merge::merge_all;
use crate::ErrorKind;
use crate::Result;
use crate::extent::map::Map;
use crate::extent::{Clip, Content, Merged, ReadPlan, Reading, SealWalk, Settled};
use crate::grid::{Grid, GridConfig, Namespace};
use crate::limits::PAGE_SIZE;
use crate::range::{ByteRange, page_ceil, page_floor};

/// Offsets stay below this.
const LEN_MAX: u64 = 400 << 10;
const SIDES: usize = 4;
const PINS_MAX: usize = 4;
const READINGS_MAX: usize = 16;

/// Splitmix64.
pub(super) struct Random(u64);

impl Random {
    /// Seeded by `OKAPI_SEED`, or by the clock; prints the seed.
    pub(super) fn from_env() -> Self {
        let seed = env("OKAPI_SEED").unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            u64::from(now.unwrap().subsec_nanos())
        });
        println!("OKAPI_SEED={seed} replays this run");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// An offset, often at or beside a page or a block.
    fn offset(&mut self) -> u64 {
        let any = self.below(LEN_MAX);
        match self.below(8) {
            0..=2 => any,
            3 | 4 => page_floor(any),
            5 => (page_floor(any) + self.below(9)).saturating_sub(4),
            6 => any & !0xffff,
            _ => self.below(10_000),
        }
    }

    /// A range of at least one byte that ends below the bound.
    fn range(&mut self) -> ByteRange {
        let start = self.offset().min(LEN_MAX - 1);
        let len = match self.below(8) {
            0 | 1 => 1 + self.below(200),
            2 | 3 => 1 + self.below(2 * PAGE_SIZE),
            4 => PAGE_SIZE,
            5 => 1 + self.below(0x10000),
            6 => 0x10000,
            _ => 1 + self.below(0x30000),
        };
        let end = match self.below(4) {
            0 => page_ceil(start + len),
            _ => start + len,
        };
        ByteRange {
            start,
            end: end.min(LEN_MAX),
        }
    }

    fn bytes(&mut self, len: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(usize::try_from(len).unwrap());
        bytes
    }
}

/// A content and what it should hold.
#[derive(Clone, Default)]
struct Side {
    content: Content,
    bytes: Vec<u8>,
    /// Pages that may have memory; the others must not.
    pages: Vec<bool>,
}

impl Side {
    fn set_len(&mut self, len: u64) {
        let shrinks = len < self.len();
        self.content.set_len(len);
        self.bytes.resize(index(len), 0);
        if shrinks {
            self.mark(
                ByteRange {
                    start: page_ceil(len),
                    end: LEN_MAX,
                },
                false,
            );
        }
    }

    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Pages that the range touches (`true`) or that lie in it whole (`false`).
    fn mark(&mut self, range: ByteRange, backed: bool) {
        self.pages.resize(index(LEN_MAX / PAGE_SIZE) + 1, false);
        let (first, end) = match backed {
            true => (page_floor(range.start), page_ceil(range.end)),
            false => (page_ceil(range.start), page_floor(range.end)),
        };
        for page in index(first / PAGE_SIZE)..index(end / PAGE_SIZE) {
            self.pages[page] = backed;
        }
    }

    fn put(&mut self, offset: u64, bytes: &[u8]) {
        let end = index(offset) + bytes.len();
        self.bytes.resize(end.max(self.bytes.len()), 0);
        self.bytes[index(offset)..end].copy_from_slice(bytes);
    }

    fn zero(&mut self, range: ByteRange) {
        let range = range.clamp_end(self.len());
        self.bytes[index(range.start)..index(range.end)].fill(0);
    }

    /// The page at an offset, as if zeros came behind the end.
    fn padded(&self, start: u64) -> Vec<u8> {
        let mut page = self
            .expected(ByteRange {
                start,
                end: start + PAGE_SIZE,
            })
            .to_vec();
        page.resize(index(PAGE_SIZE), 0);
        page
    }

    fn expected(&self, range: ByteRange) -> &[u8] {
        let range = range.clamp_end(self.len());
        &self.bytes[index(range.start)..index(range.end)]
    }

    /// Compares bytes, data and holes in a range, widened to its neighbourhood.
    fn compare(&self, range: ByteRange) {
        assert_eq!(self.content.len(), self.len());
        let range = ByteRange {
            start: page_floor(range.start).saturating_sub(PAGE_SIZE),
            end: page_ceil(range.end) + PAGE_SIZE,
        };
        assert_bytes(
            &self.content.plan(range.start, index(range.len())),
            self.expected(range),
        );
        let (mut first_data, mut first_hole) = (None, None);
        for page in (range.start..range.end.min(self.len())).step_by(4096) {
            let has_data = self.content.seek_data(page) == Some(page);
            assert_eq!(self.content.seek_hole(page) == Some(page), !has_data);
            if has_data {
                first_data.get_or_insert(page);
            } else {
                first_hole.get_or_insert(page);
            }
            let may_have = self.pages.get(index(page / PAGE_SIZE)) == Some(&true);
            assert!(!has_data || may_have, "the page at {page} ought to be a hole");
            let bytes = self.expected(ByteRange {
                start: page,
                end: page + PAGE_SIZE,
            });
            assert!(
                has_data || bytes.iter().all(|byte| *byte == 0),
                "the page at {page} ought to be data"
            );
        }
        if let Some(data) = first_data {
            assert_eq!(self.content.seek_data(range.start), Some(data));
        }
        if let Some(hole) = first_hole {
            assert_eq!(self.content.seek_hole(range.start), Some(hole));
        }
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

fn assert_bytes(plan: &ReadPlan, expected: &[u8]) {
    let bytes = copied(plan);
    let wrong = bytes.iter().zip(expected).position(|(a, b)| a != b);
    assert_eq!(wrong, None, "first wrong byte of a read");
    assert_eq!(bytes.len(), expected.len());
}

/// Bytes pinned earlier, which must not change.
enum Pin {
    Plan(ReadPlan, Vec<u8>),
    Clip(Clip, Copied),
}

/// What a clip should hold, and the pages of its source.
struct Copied {
    start: u64,
    bytes: Vec<u8>,
    pages: Vec<bool>,
}

struct Run {
    random: Random,
    namespace: Arc<Namespace>,
    /// Whether memory may be short.
    tight: bool,
    sides: [Side; SIDES],
    pins: Vec<Pin>,
    /// What was read of sides to seal them, and is settled later.
    readings: Vec<(usize, Reading)>,
    /// Times that a side was found with an overlay above a shared tree.
    overlays: u64,
    /// Extents that sealing has changed.
    shared: u64,
    emptied: u64,
    /// How many extents fewer merging has left.
    merged: u64,
    /// Bytes of equal pages that have come to share memory.
    equal_bytes: u64,
}

impl Run {
    /// One operation on one side; returns the side and the range to compare.
    fn step(&mut self) -> (usize, ByteRange) {
        let at = index(self.random.below(SIDES as u64));
        let range = self.random.range();
        if self.tight {
            self.squeeze();
        }
        match self.random.below(100) {
            0..=34 => self.write(at, range),
            35..=44 => {
                let start = self.sides[at].len();
                let len = range.len().min(LEN_MAX - start).min(20_000);
                self.write(
                    at,
                    ByteRange {
                        start,
                        end: start + len,
                    },
                );
            }
            45..=51 => self.sides[at].set_len(range.start),
            52..=61 => self.punch(at, range),
            62..=66 => self.zero(at, range),
            67..=71 => self.allocate(at, range),
            72..=75 => self.pin_plan(at, range),
            76..=79 => self.pin_clip(at, range),
            80..=86 => self.paste(at, range.start),
            87..=88 => self.copy_whole(at),
            89..=90 => self.sides[at] = self.sides[index(self.random.below(SIDES as u64))].clone(),
            91 => self.sides[at] = Side::default(),
            92 => self.compress(at),
            93..=94 => self.seal(at),
            95 => self.settle_late(),
            96 => self.rewrite(at),
            97 => self.merge(at),
            98 => self.share(at),
            _ => self.unpin(),
        }
        (at, range)
    }

    /// Leaves a random amount of memory to the next operation.
    fn squeeze(&mut self) {
        let room = match self.random.below(3) {
            0 => self.random.below(3 * PAGE_SIZE),
            1 => self.random.below(0x20000),
            _ => LEN_MAX,
        };
        let usage = self.namespace.usage();
        let quota = usage.held_bytes + usage.metadata_bytes + room;
        self.namespace.set_quota(Some(quota));
    }

    /// Whether the operation was done; if not it must be for want of memory.
    fn done<T>(&self, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                assert!(self.tight, "no reason to fail: {error:?}");
                assert!(matches!(
                    error.kind(),
                    ErrorKind::NoSpace | ErrorKind::QuotaExceeded
                ));
                None
            }
        }
    }

    fn compress(&mut self, at: usize) {
        compress(&self.sides[at].content);
    }

    /// Seals a side, but for some blocks that are read now and settled later.
    fn seal(&mut self, at: usize) {
        let mut walk = SealWalk::over(ByteRange {
            start: 0,
            end: 2 * LEN_MAX,
        });
        while let Some(unsealed) = self.sides[at].content.next_unsealed(&walk) {
            let reading = unsealed.read();
            walk.pass(&reading);
            if self.readings.len() < READINGS_MAX && self.random.below(3) == 0 {
                self.readings.push((at, reading));
            } else {
                self.settle(at, &reading);
            }
        }
    }

    fn settle_late(&mut self) {
        while !self.readings.is_empty() && self.random.below(4) > 0 {
            let next = index(self.random.below(self.readings.len() as u64));
            let (at, reading) = self.readings.swap_remove(next);
            self.settle(at, &reading);
        }
    }

    fn settle(&mut self, at: usize, reading: &Reading) {
        match self.sides[at].content.settle(&self.namespace, reading) {
            Settled::Shared(_) => self.shared += 1,
            Settled::Emptied(_) => self.emptied += 1,
            Settled::Kept | Settled::Sealed => {}
        }
    }

    /// Merges all of a side: nothing that it shows changes, and doing it again brings nothing.
    fn merge(&mut self, at: usize) {
        let content = &mut self.sides[at].content;
        let before = (content.len(), content.extent_count());
        let merged = merge_all(content, &self.namespace);
        self.merged += merged.extents;
        assert_eq!(before, (content.len(), content.extent_count() + merged.extents));
        if !self.tight {
            assert_eq!(merge_all(content, &self.namespace), Merged::default());
        }
        let all = ByteRange {
            start: 0,
            end: LEN_MAX,
        };
        self.sides[at].compare(all);
    }

    /// Lets a side share what it has in common with another, often much: nothing that it shows changes.
    fn share(&mut self, at: usize) {
        let other = index(self.random.below(SIDES as u64));
        if self.random.below(2) == 0 {
            let bytes = self.sides[other].bytes.clone();
            self.write_bytes(at, 0, &bytes);
            let range = self.random.range();
            self.write(at, range);
        }
        let other = self.sides[other].content.clone();
        let mut offset = 0;
        while offset < LEN_MAX {
            let result = self.sides[at]
                .content
                .share_pages(&self.namespace, &other, offset);
            let Some(step) = self.done(result) else { break };
            assert!(step.end > offset);
            (offset, self.equal_bytes) = (step.end, self.equal_bytes + step.bytes);
        }
        let all = ByteRange {
            start: 0,
            end: LEN_MAX,
        };
        self.sides[at].compare(all);
    }

    fn write(&mut self, at: usize, range: ByteRange) {
        let mut bytes = self.random.bytes(range.len());
        match self.random.below(16) {
            0 => bytes.fill(0),
            1..=5 => bytes.fill(range.start as u8),
            _ => {}
        }
        self.write_bytes(at, range.start, &bytes);
    }

    /// Writes the bytes of one side anew to two, and seals both: their blocks are alike.
    fn rewrite(&mut self, at: usize) {
        let other = index(self.random.below(SIDES as u64));
        let bytes = self.sides[other].bytes.clone();
        for side in [at, other] {
            self.sides[side].set_len(0);
            self.write_bytes(side, 0, &bytes);
            self.seal(side);
        }
    }

    fn write_bytes(&mut self, at: usize, start: u64, bytes: &[u8]) {
        let result = self.sides[at].content.write(&self.namespace, start, bytes);
        let Some(written) = self.done(result) else { return };
        assert!(written == bytes.len() || (self.tight && written > 0));
        let side = &mut self.sides[at];
        if written > 0 {
            side.put(start, &bytes[..written]);
            let end = start + written as u64;
            side.mark(ByteRange { start, end }, true);
        }
    }

    fn punch(&mut self, at: usize, range: ByteRange) {
        let result = self.sides[at].content.punch(&self.namespace, range);
        if self.done(result).is_some() {
            self.sides[at].zero(range);
            // Without memory to divide a block, zeros stay where a hole should be.
            if !self.tight {
                self.sides[at].mark(range, false);
            }
        }
    }

    fn zero(&mut self, at: usize, range: ByteRange) {
        let result = self.sides[at].content.zero(&self.namespace, range);
        if self.done(result).is_some() {
            self.sides[at].zero(range);
            self.backed(at, range);
        }
    }

    fn allocate(&mut self, at: usize, range: ByteRange) {
        let result = self.sides[at].content.allocate(&self.namespace, range);
        if self.done(result).is_some() {
            self.backed(at, range);
        }
    }

    fn backed(&mut self, at: usize, range: ByteRange) {
        let side = &mut self.sides[at];
        side.mark(range, true);
        let visible = range.clamp_end(side.len());
        if !visible.is_empty() {
            assert_eq!(side.content.seek_data(visible.start), Some(visible.start));
            assert!(side.content.seek_hole(visible.start) >= Some(visible.end));
        }
    }

    fn pin_plan(&mut self, at: usize, range: ByteRange) {
        let side = &self.sides[at];
        let plan = side.content.plan(range.start, index(range.len()));
        self.pin(Pin::Plan(plan, side.expected(range).to_vec()));
    }

    fn pin_clip(&mut self, at: usize, range: ByteRange) {
        let (clip, copied) = self.sides[at].clip(range);
        self.pin(Pin::Clip(clip, copied));
    }

    fn pin(&mut self, pin: Pin) {
        if self.pins.len() == PINS_MAX {
            self.unpin();
        }
        self.pins.push(pin);
    }

    fn unpin(&mut self) {
        if self.pins.is_empty() {
            return;
        }
        let at = index(self.random.below(self.pins.len() as u64));
        match self.pins.swap_remove(at) {
            Pin::Plan(plan, bytes) => assert_bytes(&plan, &bytes),
            Pin::Clip(clip, Copied { bytes, .. }) => {
                let mut content = Content::new();
                if self.done(content.paste(&self.namespace, 0, &clip)) == Some(bytes.len() as u64) {
                    assert_bytes(&content.plan(0, bytes.len()), &bytes);
                }
            }
        }
    }

    /// Pastes a pinned clip, often where its pages can be shared.
    fn paste(&mut self, at: usize, near: u64) {
        let clips = self.pins.iter().rev().filter_map(|pin| match pin {
            Pin::Clip(clip, copied) => Some((clip, copied)),
            Pin::Plan(..) => None,
        });
        let Some((clip, copied)) = clips.into_iter().next() else {
            return;
        };
        let offset = match self.random.below(4) {
            0 => near,
            1 => copied.start,
            _ => page_floor(near) + copied.start % PAGE_SIZE,
        };
        if offset + clip.len() > LEN_MAX {
            return;
        }
        let result = self.sides[at].content.paste(&self.namespace, offset, clip);
        let Some(done) = self.done(result) else { return };
        assert!(done == clip.len() || (self.tight && done > 0));
        self.sides[at].pasted(offset, done, copied, self.tight);
    }

    /// Copies all of another side, in pieces, as programs do.
    fn copy_whole(&mut self, at: usize) {
        let from = index(self.random.below(SIDES as u64));
        let whole = self.sides[from].len();
        if from == at || whole == 0 {
            return;
        }
        self.sides[at].set_len(0);
        let mut offset = 0;
        while offset < whole {
            let len = match self.random.below(3) {
                0 => 1 + self.random.below(whole - offset),
                _ => whole - offset,
            };
            let range = ByteRange {
                start: offset,
                end: offset + len,
            };
            let (clip, copied) = self.sides[from].clip(range);
            let result = self.sides[at].content.paste(&self.namespace, offset, &clip);
            let Some(done) = self.done(result) else { return };
            self.sides[at].pasted(offset, done, &copied, self.tight);
            offset += done;
        }
    }

    /// Two sides differ where their bytes do.
    fn compare_differences(&self) {
        let [a, b] = [0, 1].map(|at| &self.sides[at]);
        let both = a.len().min(b.len());
        let longer = a.len().max(b.len());
        let mut differs = vec![false; index(longer.div_ceil(PAGE_SIZE))];
        for range in a.content.differences(&b.content) {
            let pages = index(range.start / PAGE_SIZE)..index(range.end.div_ceil(PAGE_SIZE));
            differs[pages].fill(true);
        }
        for (page, differs) in differs.into_iter().enumerate() {
            let start = page as u64 * PAGE_SIZE;
            let range = ByteRange {
                start,
                end: start + PAGE_SIZE,
            };
            let expected = range.end.min(longer) > both
                || a.expected(range.clamp_end(both)) != b.expected(range.clamp_end(both));
            assert_eq!(differs, expected, "in the page at {start}");
        }
    }

    /// Found in steps, they differ where one that went on with zeros would.
    fn compare_differences_in_steps(&mut self) {
        let most = 1 + index(self.random.below(6));
        let [a, b] = [0, 1].map(|at| &self.sides[at]);
        let longer = a.len().max(b.len());
        let mut at = 0;
        while at < longer {
            let rest = ByteRange {
                start: at,
                end: longer,
            };
            let found = a.content.differences_in(&b.content, rest, most);
            assert!(found.end > at && found.ranges.len() <= most);
            for page in at / PAGE_SIZE..found.end / PAGE_SIZE {
                let start = page * PAGE_SIZE;
                let differs = a.padded(start) != b.padded(start);
                let is_found = found
                    .ranges
                    .iter()
                    .any(|range| range.start <= start && start < range.end);
                assert_eq!(is_found, differs, "in the page at {start}");
            }
            at = found.end;
        }
    }

    /// The blocks and nodes that there are, are those of the sides and of what is pinned: none is held unseen.
    fn compare_totals(&mut self) {
        let is_over = |side: &&Side| matches!(side.content.map, Map::Over(_));
        self.overlays += self.sides.iter().filter(is_over).count() as u64;
        let clips = self.pins.iter().filter_map(|pin| match pin {
            Pin::Clip(clip, _) => Some(clip.source()),
            Pin::Plan(..) => None,
        });
        let contents: Vec<&Content> = self.sides.iter().map(|side| &side.content).chain(clips).collect();
        let mut nodes = HashSet::new();
        let node_bytes: u64 = contents
            .iter()
            .map(|content| content.node_bytes(&mut nodes))
            .sum();
        assert_eq!(self.namespace.node_bytes(), node_bytes);
        let blocks = contents.iter().flat_map(|content| content.blocks());
        let mut blocks: HashSet<u64> = blocks.map(|block| block.index().get()).collect();
        for pin in &self.pins {
            if let Pin::Plan(plan, _) = pin {
                blocks.extend(plan.blocks().map(|block| block.index().get()));
            }
        }
        assert_eq!(self.namespace.usage().blocks, blocks.len() as u64);
    }
}

impl Side {
    /// Pins a range, and what it should hold.
    fn clip(&self, range: ByteRange) -> (Clip, Copied) {
        let copied = Copied {
            start: range.start.min(self.len()),
            bytes: self.expected(range).to_vec(),
            pages: self.pages.clone(),
        };
        (self.content.clip(range), copied)
    }

    /// Notes that the first `done` bytes of a clip were pasted.
    fn pasted(&mut self, offset: u64, done: u64, copied: &Copied, tight: bool) {
        if done == 0 {
            return;
        }
        let range = ByteRange {
            start: offset,
            end: offset + done,
        };
        self.put(offset, &copied.bytes[..index(done)]);
        if !tight {
            self.mark(range, false);
        }
        for page in (page_floor(range.start)..range.end).step_by(4096) {
            let target = ByteRange {
                start: page.max(range.start),
                end: (page + PAGE_SIZE).min(range.end),
            };
            let first = (target.start - offset + copied.start) / PAGE_SIZE;
            let last = (target.end - 1 - offset + copied.start) / PAGE_SIZE;
            if copied
                .pages
                .get(index(first)..=index(last))
                .is_some_and(|pages| pages.contains(&true))
            {
                self.mark(target, true);
            }
        }
    }
}

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn run(block_size: u32, size_bytes: u64, tight: bool) {
    let ops = env("OKAPI_OPS").unwrap_or(4_000);
    let check_every = if ops > 50_000 { 64 } else { 1 };
    let grid = Grid::new(GridConfig {
        size_bytes,
        block_size,
    })
    .unwrap();
    let namespace = grid.create_namespace("model", None).unwrap();
    let mut run = Run {
        random: Random::from_env(),
        namespace: Arc::clone(&namespace),
        tight,
        sides: Default::default(),
        pins: Vec::new(),
        readings: Vec::new(),
        overlays: 0,
        shared: 0,
        emptied: 0,
        merged: 0,
        equal_bytes: 0,
    };
    for op in 0..ops {
        let (at, range) = run.step();
        run.sides[at].compare(range);
        if op % check_every == 0 {
            run.sides.iter().for_each(|side| side.content.check().unwrap());
        }
        if op % 256 == 0 {
            grid.check().unwrap();
        }
        if op % 32 == 0 {
            run.compare_totals();
            run.compare_differences();
            run.compare_differences_in_steps();
            run.sides.iter().for_each(|side| {
                side.compare(ByteRange {
                    start: 0,
                    end: LEN_MAX,
                })
            });
        }
    }
    while !run.pins.is_empty() {
        run.unpin();
    }
    println!(
        "{} overlays were seen, {} blocks shared, {} emptied, {} extents merged, {} equal bytes shared",
        run.overlays, run.shared, run.emptied, run.merged, run.equal_bytes
    );
    match u64::from(block_size) > PAGE_SIZE {
        true => assert!(run.merged > 0 || ops < 20_000, "merging is to be tested"),
        false => assert_eq!(run.merged, 0, "an extent has a page at most"),
    }
    assert!(run.equal_bytes > 0 || ops < 4_000, "equal pages are to be shared");
    assert!(run.overlays > ops / 1000, "overlays are to be tested");
    assert!(run.shared > 0 && run.emptied > 0, "sealing is to be tested");
    drop(run);
    let usage = namespace.usage();
    assert_eq!(
        (
            usage.blocks,
            usage.stored_bytes,
            usage.held_bytes,
            usage.metadata_bytes
        ),
        (0, 0, 0, 0)
    );
    grid.check().unwrap();
}

#[test]
fn random_operations_on_large_blocks() {
    run(64 << 10, 64 << 20, false);
}

#[test]
fn random_operations_on_small_blocks() {
    run(4 << 10, 64 << 20, false);
}

#[test]
fn random_operations_on_large_blocks_with_little_memory() {
    run(64 << 10, 1 << 20, true);
}

#[test]
fn random_operations_on_small_blocks_with_little_memory() {
    run(4 << 10, 1 << 20, true);
}
