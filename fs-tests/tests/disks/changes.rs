//! Random changes of a disk, as a seed makes them, and what they mean to a raw file.

use std::fs::File;
use std::os::unix::fs::FileExt;

use fs_tests::rng::Rng;
use nix::fcntl::{FallocateFlags, fallocate};

/// Bytes of the disk.
pub(crate) const SIZE: u64 = 16 << 20;
/// Longer than what an NBD connection moves at a time, and than a request of the kernel.
const LEN_MAX: u64 = 1_200_000;
/// Changes that are under way at a time.
const BURST_MAX: u64 = 16;

/// What happens to a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// All bytes become this one; `fua` asks that they be safe.
    Write { byte: u8, fua: bool },
    /// Zeros; `unmap` lets their memory go.
    Zeroes { unmap: bool },
    /// Zeros, and the memory goes.
    Trim,
}

/// A change of a range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) kind: Kind,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// What a client does before it goes on.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// One change.
    One(Change),
    /// Changes of ranges apart from each other, all under way at a time.
    Burst(Vec<Change>),
    /// What was written shall be safe.
    Flush,
}

impl Step {
    pub(crate) fn random(rng: &mut Rng) -> Self {
        match rng.below(20) {
            0 => Self::Flush,
            1 => Self::Burst(burst(rng)),
            _ => Self::One(Change::random(rng)),
        }
    }

    pub(crate) fn changes(&self) -> &[Change] {
        match self {
            Self::One(change) => std::slice::from_ref(change),
            Self::Burst(changes) => changes,
            Self::Flush => &[],
        }
    }
}

fn burst(rng: &mut Rng) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    for _ in 0..=rng.below(BURST_MAX) {
        let change = Change::random(rng);
        if changes.iter().all(|other| change.is_apart_from(other)) {
            changes.push(change);
        }
    }
    changes
}

impl Change {
    /// Mostly small; at any byte, or at multiples of a sector or a page.
    fn random(rng: &mut Rng) -> Self {
        let unit = rng.pick(&[1, 512, 4096]);
        let most = rng.pick(&[5000, 5000, 20_000, 150_000, LEN_MAX]);
        let len = (1 + rng.below(most)).next_multiple_of(unit);
        let places = (SIZE - len) / unit + 1;
        // Half of them near each other, so that they meet.
        let places = if rng.percent(50) { places } else { places.min(300) };
        let offset = rng.below(places) * unit;
        let kind = match rng.below(10) {
            0..=4 => Kind::Write {
                byte: rng.bits() as u8,
                fua: rng.percent(10),
            },
            5 => Kind::Zeroes { unmap: false },
            6 | 7 => Kind::Zeroes { unmap: true },
            _ => Kind::Trim,
        };
        Self { kind, offset, len }
    }

    fn end(&self) -> u64 {
        self.offset + self.len
    }

    fn is_apart_from(&self, other: &Self) -> bool {
        self.end() <= other.offset || other.end() <= self.offset
    }

    /// Does it to a raw file.
    pub(crate) fn apply(&self, file: &File) {
        match self.kind {
            Kind::Write { byte, .. } => self.fill(file, byte),
            Kind::Zeroes { unmap: false } => self.fill(file, 0),
            Kind::Zeroes { unmap: true } | Kind::Trim => {
                let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
                fallocate(file, mode, self.offset.cast_signed(), self.len.cast_signed()).unwrap();
            }
        }
    }

    fn fill(&self, file: &File, byte: u8) {
        file.write_all_at(&self.bytes(byte), self.offset).unwrap();
    }

    pub(crate) fn bytes(&self, byte: u8) -> Vec<u8> {
        vec![byte; self.len as usize]
    }
}
