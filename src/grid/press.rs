//! The compressed form of a block's bytes: how it is made, laid out and read.
//!
//! ```text
//! slot   0..3    length of the packed bytes, little-endian
//!        3       the codec's tag
//!        4..12   stamp, u64 little-endian
//!        12..    packed bytes: what the codec has made of the bytes that the block stored when it was compressed
//! ```
//!
//! A stamp is used once in the life of the process, and what has it never changes: who has unpacked it before knows the
//! bytes.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use super::class::{Class, class_bytes};
use super::codec::{Codec, Packer, Unpacker};
use crate::limits::{BLOCK_SIZE_MAX, COMPRESS_MIN, COMPRESS_SAVING};

const HEADER: usize = 12;
/// Bytes of the length, which is that of a block at most.
const LENGTH: usize = 3;
const _: () = assert!((BLOCK_SIZE_MAX as u64) < 1 << (8 * LENGTH));

/// Packs the bytes of blocks, one after the other.
///
/// It has room for the longest block that it met, twice; whoever compresses many blocks keeps one.
pub struct Press {
    /// The bytes of the last block.
    plain: Vec<u8>,
    /// The same, packed, and garbage behind them.
    packed: Vec<u8>,
    state: State,
    packer: Packer,
}

/// What a press has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Empty,
    /// Bytes that are to stay as they are.
    NotWorthIt,
    /// So many packed bytes.
    Packed(usize),
}

/// What a press has made of a block.
#[derive(Clone, Copy)]
pub(super) struct Pressed<'a> {
    /// The bytes that were pressed.
    pub(super) plain: &'a [u8],
    /// What stands for them in memory; `None` where that would save too little.
    pub(super) packed: Option<Packed<'a>>,
}

/// Packed bytes, and by what they can be unpacked.
#[derive(Clone, Copy)]
pub(super) struct Packed<'a> {
    codec: Codec,
    bytes: &'a [u8],
}

impl Press {
    /// A press that packs by an algorithm.
    pub fn new(codec: Codec) -> Self {
        Self {
            plain: Vec::new(),
            packed: Vec::new(),
            state: State::Empty,
            packer: Packer::new(codec),
        }
    }

    /// Forgets the last block, and takes a copy of another one's bytes.
    pub(super) fn load(&mut self, bytes: &[u8]) {
        self.clear();
        self.plain.extend_from_slice(bytes);
    }

    /// Forgets the last block.
    pub(super) fn clear(&mut self) {
        self.plain.clear();
        self.state = State::Empty;
    }

    /// Packs the copy.
    pub(super) fn pack(&mut self) {
        let most = self.packer.room(self.plain.len());
        if self.packed.len() < most {
            self.packed.resize(most, 0);
        }
        let packed = self.packer.pack(&self.plain, &mut self.packed);
        self.state = match packed {
            Some(packed) if pays(self.plain.len(), packed) => State::Packed(packed),
            _ => State::NotWorthIt,
        };
    }

    pub(super) fn pressed(&self) -> Option<Pressed<'_>> {
        let packed = match self.state {
            State::Empty => return None,
            State::NotWorthIt => None,
            State::Packed(len) => Some(Packed {
                codec: self.packer.codec(),
                bytes: &self.packed[..len],
            }),
        };
        Some(Pressed {
            plain: &self.plain,
            packed,
        })
    }
}

/// Whether so many bytes may be worth to be packed.
pub(super) fn may_pay(len: u32) -> bool {
    len >= COMPRESS_MIN
}

/// Whether so many packed bytes save enough.
fn pays(plain: usize, packed: usize) -> bool {
    let (plain, packed) = (class_bytes(plain as u32), (packed + HEADER) as u32);
    packed <= plain && class_bytes(packed) <= plain - plain / COMPRESS_SAVING
}

impl Packed<'_> {
    /// The class of a slot for them.
    pub(super) fn class(&self) -> Class {
        u32::try_from(self.bytes.len() + HEADER)
            .ok()
            .and_then(Class::of)
            .expect("packed bytes take less than the block did")
    }

    /// Fills a slot of the class.
    pub(super) fn lay_out(&self, slot: &mut [u8]) {
        static STAMPS: AtomicU64 = AtomicU64::new(NONE + 1);
        let stamp = STAMPS.fetch_add(1, Ordering::Relaxed);
        let len = self.bytes.len().to_le_bytes();
        slot[..LENGTH].copy_from_slice(&len[..LENGTH]);
        slot[LENGTH] = self.codec.tag();
        slot[LENGTH + 1..HEADER].copy_from_slice(&stamp.to_le_bytes());
        slot[HEADER..][..self.bytes.len()].copy_from_slice(self.bytes);
    }
}

/// Stamp and packed bytes of a slot, unless it is damaged.
fn parse(slot: &[u8]) -> Option<(u64, Packed<'_>)> {
    let (&[a, b, c, tag], rest) = slot.split_first_chunk()?;
    let (stamp, rest) = rest.split_first_chunk()?;
    let packed = Packed {
        codec: Codec::of_tag(tag)?,
        bytes: rest.get(..u32::from_le_bytes([a, b, c, 0]) as usize)?,
    };
    Some((u64::from_le_bytes(*stamp), packed))
}

/// The stamp of nothing.
const NONE: u64 = 0;

/// What a thread has unpacked last: reading a block in pieces unpacks it once.
#[derive(Default)]
struct Unpacked {
    stamp: u64,
    len: usize,
    /// As long as the longest block.
    bytes: Vec<u8>,
    unpacker: Unpacker,
}

thread_local! {
    static LAST: Cell<Unpacked> = Cell::default();
}

/// Calls `f` with the bytes of a compressed block.
///
/// # Panics
/// Where the slot is damaged.
#[inline(never)]
pub(super) fn unpack<R>(slot: &[u8], block_size: u32, f: impl FnOnce(&[u8]) -> R) -> R {
    // A read inside of `f` finds nothing here, and unpacks into a buffer of its own.
    let mut last = LAST.take();
    last.unpack(slot, block_size)
        .expect("what was packed in this process can be unpacked");
    let result = f(&last.bytes[..last.len]);
    LAST.set(last);
    result
}

/// Whether a slot can be unpacked to at least `len` bytes.
pub(super) fn holds(slot: &[u8], len: u32, block_size: u32) -> bool {
    // Not what was unpacked before: the slot is in question.
    let mut fresh = Unpacked {
        stamp: NONE,
        ..LAST.take()
    };
    let is_whole = fresh.unpack(slot, block_size).is_some() && fresh.len >= len as usize;
    LAST.set(fresh);
    is_whole
}

impl Unpacked {
    fn unpack(&mut self, slot: &[u8], block_size: u32) -> Option<()> {
        let (stamp, packed) = parse(slot)?;
        if self.stamp == stamp {
            return Some(());
        }
        self.stamp = NONE;
        if self.bytes.len() < block_size as usize {
            self.bytes.resize(block_size as usize, 0);
        }
        self.len = self
            .unpacker
            .unpack(packed.codec, packed.bytes, &mut self.bytes)?;
        self.stamp = stamp;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u32 = 4096;

    fn slot_by(codec: Codec, plain: &[u8]) -> Vec<u8> {
        let mut press = Press::new(codec);
        press.load(plain);
        press.pack();
        let packed = press.pressed().unwrap().packed.expect("it pays");
        let mut slot = vec![0xff; packed.class().bytes() as usize];
        packed.lay_out(&mut slot);
        slot
    }

    fn slot(plain: &[u8]) -> Vec<u8> {
        slot_by(Codec::Lz4, plain)
    }

    #[test]
    fn a_quarter_of_the_memory_is_the_least_that_pays() {
        let most = |plain: usize| (0..plain).rev().find(|&packed| pays(plain, packed));
        assert_eq!(most(65536), Some(49152 - HEADER));
        assert_eq!(most(4096), Some(3072 - HEADER));
        assert_eq!(most(256), Some(192 - HEADER));
        assert_eq!(most(5000), Some(4096 - HEADER), "8 KiB are held for 5000 bytes");
        assert!(!pays(1 << 20, (1 << 20) + 5000));
        assert!(!may_pay(255) && may_pay(256));
    }

    #[test]
    fn slots_that_look_alike_are_not_taken_for_each_other() {
        let (a, b) = (slot(&[1; 3000]), slot(&[2; 3000]));
        for _ in 0..2 {
            assert!(unpack(&a, BLOCK, |bytes| bytes == [1; 3000]));
            assert!(unpack(&b, BLOCK, |bytes| bytes == [2; 3000]));
        }
        let both = unpack(&a, BLOCK, |a| unpack(&b, BLOCK, |b| (a.to_vec(), b.to_vec())));
        assert_eq!(both, (vec![1; 3000], vec![2; 3000]));
    }

    #[test]
    fn a_read_in_pieces_unpacks_once() {
        let mut slot = slot(&[7; 3000]);
        assert!(unpack(&slot, BLOCK, |bytes| bytes == [7; 3000]));
        slot[HEADER..].fill(0xff);
        assert!(unpack(&slot, BLOCK, |bytes| bytes == [7; 3000]));
        assert!(
            !holds(&slot, 3000, BLOCK),
            "the check does not trust what was unpacked"
        );
    }

    #[test]
    fn each_slot_says_by_what_it_was_packed() {
        let plain: Vec<u8> = (0..3000_u32).map(|n| (n / 50) as u8).collect();
        let (lz4, zstd) = (slot_by(Codec::Lz4, &plain), slot_by(Codec::Zstd, &plain));
        assert_ne!(lz4[HEADER..], zstd[HEADER..]);
        for slot in [&lz4, &zstd, &lz4] {
            assert!(unpack(slot, BLOCK, |bytes| bytes == plain));
        }
        let mut unknown = lz4;
        unknown[LENGTH] = 9;
        assert!(!holds(&unknown, 3000, BLOCK));
    }

    #[test]
    fn damage_is_found() {
        for codec in [Codec::Lz4, Codec::Zstd] {
            find_damage(codec);
        }
    }

    fn find_damage(codec: Codec) {
        let whole = slot_by(codec, &[7; 3000]);
        assert!(holds(&whole, 3000, BLOCK) && holds(&whole, 10, BLOCK));
        assert!(
            !holds(&whole, 3001, BLOCK),
            "it has no more bytes than were packed"
        );
        assert!(!holds(&whole[..HEADER - 1], 0, BLOCK));
        let mut damaged = whole.clone();
        damaged[0] = 0xff;
        assert!(
            !holds(&damaged, 3000, BLOCK),
            "more packed bytes than the slot has"
        );
    }

    #[test]
    fn blocks_of_another_grid_may_be_longer() {
        assert!(unpack(&slot(&[7; 3000]), 4096, |bytes| bytes.len() == 3000));
        let long: Vec<u8> = (0..65536_u32).map(|n| (n / 100) as u8).collect();
        assert!(unpack(&slot(&long), 65536, |bytes| bytes == long));
        assert!(unpack(&slot(&[8; 3000]), 4096, |bytes| bytes == [8; 3000]));
    }
}
