//! Sums that many threads add to at once, without meeting in one cache line.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::apart::Apart;
use crate::limits::FIGURE_CELLS;

/// What compressed blocks amount to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Compressed {
    pub(super) blocks: u64,
    /// Memory that they would take if they were plain.
    pub(super) plain_bytes: u64,
    /// Memory that they take.
    pub(super) held_bytes: u64,
}

/// What the blocks of a namespace amount to. Each thread adds to a cell that it seldom shares.
///
/// The sum over the cells counts: a block that one thread makes and another ends leaves one in the first thread's cell
/// and less than nothing in the other's. So cells wrap around, and sums may be off while others change them.
#[derive(Default)]
pub(super) struct Figures {
    cells: [Apart<Cell>; FIGURE_CELLS],
}

#[derive(Default)]
struct Cell {
    blocks: AtomicU64,
    sealed: AtomicU64,
    stored: AtomicU64,
    held: AtomicU64,
    compressed_blocks: AtomicU64,
    compressed_plain: AtomicU64,
    compressed_held: AtomicU64,
}

impl Figures {
    /// Enters a block with so much memory.
    pub(super) fn open_block(&self, held_bytes: u64) {
        let cell = self.cell();
        cell.blocks.fetch_add(1, Ordering::Relaxed);
        cell.held.fetch_add(held_bytes, Ordering::Relaxed);
    }

    /// Strikes a block that has so much memory and stores so many bytes.
    pub(super) fn close_block(&self, held_bytes: u64, stored_bytes: u64) {
        let cell = self.cell();
        cell.blocks.fetch_sub(1, Ordering::Relaxed);
        cell.held.fetch_sub(held_bytes, Ordering::Relaxed);
        cell.stored.fetch_sub(stored_bytes, Ordering::Relaxed);
    }

    /// Enters a sealed block.
    pub(super) fn seal(&self) {
        self.cell().sealed.fetch_add(1, Ordering::Relaxed);
    }

    /// Strikes a sealed block, which was opened or ends.
    pub(super) fn unseal(&self) {
        self.cell().sealed.fetch_sub(1, Ordering::Relaxed);
    }

    /// Replaces memory of so many bytes by other memory.
    pub(super) fn exchange_held(&self, before: u64, after: u64) {
        let change = after.wrapping_sub(before);
        self.cell().held.fetch_add(change, Ordering::Relaxed);
    }

    /// Replaces so many stored bytes by others.
    pub(super) fn exchange_stored(&self, before: u64, after: u64) {
        let change = after.wrapping_sub(before);
        self.cell().stored.fetch_add(change, Ordering::Relaxed);
    }

    /// Replaces what a block adds to the compressed ones.
    pub(super) fn exchange_compressed(&self, before: Compressed, after: Compressed) {
        let cell = self.cell();
        let exchange = |figure: &AtomicU64, before: u64, after: u64| {
            figure.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        };
        exchange(&cell.compressed_blocks, before.blocks, after.blocks);
        exchange(&cell.compressed_plain, before.plain_bytes, after.plain_bytes);
        exchange(&cell.compressed_held, before.held_bytes, after.held_bytes);
    }

    /// What blocks that are compressed amount to.
    pub(super) fn compressed(&self) -> Compressed {
        Compressed {
            blocks: self.sum(|cell| &cell.compressed_blocks),
            plain_bytes: self.sum(|cell| &cell.compressed_plain),
            held_bytes: self.sum(|cell| &cell.compressed_held),
        }
    }

    /// Blocks.
    pub(super) fn blocks(&self) -> u64 {
        self.sum(|cell| &cell.blocks)
    }

    /// Sealed blocks.
    pub(super) fn sealed_blocks(&self) -> u64 {
        self.sum(|cell| &cell.sealed)
    }

    /// Bytes stored in blocks.
    pub(super) fn stored_bytes(&self) -> u64 {
        self.sum(|cell| &cell.stored)
    }

    /// Bytes of memory that blocks have.
    pub(super) fn held_bytes(&self) -> u64 {
        self.sum(|cell| &cell.held)
    }

    fn sum(&self, figure: impl Fn(&Cell) -> &AtomicU64) -> u64 {
        let cells = self.cells.iter();
        let sum = cells.fold(0_u64, |sum, cell| {
            sum.wrapping_add(figure(cell).load(Ordering::Relaxed))
        });
        // Less than nothing: an end was counted whose beginning came after its cell was read.
        if sum > u64::MAX / 2 { 0 } else { sum }
    }

    fn cell(&self) -> &Cell {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed) % FIGURE_CELLS;
        }
        NUMBER.with(|&number| &self.cells[number])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn what_one_thread_enters_another_may_strike() {
        let figures = Figures::default();
        let all = || (figures.blocks(), figures.held_bytes(), figures.stored_bytes());
        for _ in 0..FIGURE_CELLS + 1 {
            thread::scope(|scope| {
                scope.spawn(|| figures.open_block(4096));
            });
        }
        let blocks = FIGURE_CELLS as u64 + 1;
        assert_eq!(all(), (blocks, blocks * 4096, 0));
        for _ in 0..blocks {
            figures.exchange_stored(0, 100);
            figures.exchange_held(4096, 64);
        }
        assert_eq!(all(), (blocks, blocks * 64, blocks * 100));
        (0..blocks).for_each(|_| figures.close_block(64, 100));
        assert_eq!(all(), (0, 0, 0));
    }

    #[test]
    fn a_sum_is_never_less_than_nothing() {
        let figures = Figures::default();
        figures.close_block(4096, 1);
        assert_eq!(
            (figures.blocks(), figures.held_bytes(), figures.stored_bytes()),
            (0, 0, 0)
        );
        figures.open_block(4096);
        figures.exchange_stored(0, 1);
        assert_eq!(figures.blocks(), 0);
    }
}
