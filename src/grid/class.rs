//! The table of size classes: how much memory a block of a given length takes.
//!
//! Below a page the classes are multiples of 64 bytes, above it multiples of 4 KiB; in both parts there are at most
//! four steps from one power of two to the next, so that a block wastes at most a fifth of its memory once it is
//! longer than the smallest step.

use std::num::NonZeroU8;

use crate::limits::BLOCK_SIZE_MAX;

/// Smallest class, and the unit in which places in the arena are counted.
pub(super) const UNIT: u32 = 64;
const PAGE: u32 = 4096;

/// Number of classes up to the largest block size.
pub(super) const CLASSES: usize = count();

const TABLE: [u32; CLASSES] = table();
/// Class of a length up to a page, by units.
const SMALL: [u8; (PAGE / UNIT) as usize + 1] = positions(UNIT);
/// Class of a length above a page, by pages.
const LARGE: [u8; (BLOCK_SIZE_MAX / PAGE) as usize + 1] = positions(PAGE);

/// A size class: its place in the table, counted from one so that `Option<Class>` is as small as `Class`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Class(NonZeroU8);

impl Class {
    /// The smallest class for `len` bytes; `None` for no bytes.
    pub(super) fn of(len: u32) -> Option<Self> {
        let position = if len <= PAGE {
            SMALL[len.div_ceil(UNIT) as usize]
        } else {
            LARGE[len.div_ceil(PAGE) as usize]
        };
        NonZeroU8::new(position).map(Self)
    }

    /// All classes that blocks of this size use, ascending.
    pub(super) fn up_to(block_size: u32) -> impl Iterator<Item = Self> {
        let last = Self::of(block_size).map_or(0, |class| class.0.get());
        (1..=last).filter_map(NonZeroU8::new).map(Self)
    }

    /// Memory of a slot of this class in bytes.
    pub(super) fn bytes(self) -> u32 {
        TABLE[self.position()]
    }

    /// Place in the table, from 0.
    pub(super) fn position(self) -> usize {
        usize::from(self.0.get() - 1)
    }
}

/// Memory in bytes that a block of `len` bytes takes: 0 to the largest block size.
///
/// # Panics
/// Where `len` is above [`BLOCK_SIZE_MAX`].
pub fn class_bytes(len: u32) -> u32 {
    assert!(
        len <= BLOCK_SIZE_MAX,
        "a block has at most {BLOCK_SIZE_MAX} bytes, not {len}"
    );
    Class::of(len).map_or(0, Class::bytes)
}

const fn next(size: u32) -> u32 {
    let quarter = (1 << size.ilog2()) / 4;
    let least = if size < PAGE { UNIT } else { PAGE };
    size + if quarter > least { quarter } else { least }
}

const fn count() -> usize {
    let (mut classes, mut size) = (1, UNIT);
    while size < BLOCK_SIZE_MAX {
        size = next(size);
        classes += 1;
    }
    classes
}

const fn table() -> [u32; CLASSES] {
    let mut table = [UNIT; CLASSES];
    let mut class = 1;
    while class < CLASSES {
        table[class] = next(table[class - 1]);
        class += 1;
    }
    table
}

/// For each multiple of `step` the smallest class that holds it, counted from one; 0 for no bytes.
const fn positions<const N: usize>(step: u32) -> [u8; N] {
    let mut positions = [0; N];
    let (mut multiple, mut class) = (1, 0);
    while multiple < N {
        while TABLE[class] < multiple as u32 * step {
            class += 1;
        }
        positions[multiple] = class as u8 + 1;
        multiple += 1;
    }
    positions
}

const _: () = {
    assert!(CLASSES < u8::MAX as usize);
    assert!(TABLE[CLASSES - 1] == BLOCK_SIZE_MAX);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_gets_the_smallest_class_that_holds_it() {
        for len in (0..=70_000).chain(BLOCK_SIZE_MAX - 5000..=BLOCK_SIZE_MAX) {
            let expected = TABLE
                .iter()
                .copied()
                .find(|&size| size >= len)
                .filter(|_| len > 0)
                .unwrap_or(0);
            assert_eq!(class_bytes(len), expected, "length {len}");
        }
    }

    #[test]
    fn classes_are_aligned_and_waste_little() {
        for pair in TABLE.windows(2) {
            assert_eq!(pair[1] % if pair[1] < PAGE { UNIT } else { PAGE }, 0);
            assert!(pair[1] - pair[0] <= (pair[0] / 4).max(if pair[0] < PAGE { UNIT } else { PAGE }));
        }
        assert_eq!(class_bytes(100), 128);
        assert_eq!(class_bytes(4097), 8192);
        for power in 6..=20 {
            assert_eq!(class_bytes(1 << power), 1 << power);
        }
    }

    #[test]
    fn classes_end_at_the_block_size() {
        let sizes: Vec<_> = Class::up_to(16384).map(Class::bytes).collect();
        assert_eq!(sizes.first(), Some(&64));
        assert_eq!(sizes[sizes.len() - 4..], [4096, 8192, 12288, 16384]);
        assert_eq!(Class::up_to(BLOCK_SIZE_MAX).count(), CLASSES);
    }
}
