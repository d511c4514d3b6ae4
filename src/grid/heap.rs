//! How much of the process's heap the metadata takes: more than was charged, once much of it came and went.
//!
//! The heap gives back only pages on which nothing is left, so metadata that goes leaves holes. What it may take is
//! known: at most what was charged at once. What it does take is measured now and then.

use std::sync::atomic::{AtomicU64, Ordering};

use super::arena::{bound_heap_tops, trim_heap};
use crate::limits::{HEAP_TRIM_LEAST, HEAP_TRIM_MIN};

/// Memory of the process that is not the grid's and may come after it: threads, buffers.
const OTHERS: u64 = 8 << 20;

/// The metadata of a grid, as charged and as held.
pub(super) struct Heap {
    /// Metadata charged.
    charged: AtomicU64,
    /// Most metadata that was charged since the last measurement.
    peak: AtomicU64,
    /// What the metadata took at the last measurement.
    measured: AtomicU64,
    /// *Immutable.* Private memory of the process before it had this grid.
    before: u64,
}

impl Heap {
    pub(super) fn new() -> Self {
        bound_heap_tops();
        Self {
            charged: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            measured: AtomicU64::new(0),
            before: private_bytes().unwrap_or(0),
        }
    }

    pub(super) fn add(&self, bytes: u64) {
        let charged = self.charged.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if charged > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(charged, Ordering::Relaxed);
        }
    }

    pub(super) fn sub(&self, bytes: u64) {
        self.charged.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Metadata charged.
    pub(super) fn charged_bytes(&self) -> u64 {
        self.charged.load(Ordering::Relaxed)
    }

    /// An upper bound of what the metadata takes.
    pub(super) fn held_bytes(&self) -> u64 {
        let peak = self.peak.load(Ordering::Relaxed);
        peak.max(self.measured.load(Ordering::Relaxed))
    }

    /// Whether so much has gone that a walk through the heap is worth it: as such, or as a share of what there was. The
    /// little that is left of much may have kept open more pages than it takes itself.
    pub(super) fn has_shrunk(&self) -> bool {
        let charged = self.charged_bytes();
        let peak = self.peak.load(Ordering::Relaxed);
        let gone = peak.saturating_sub(charged);
        gone >= HEAP_TRIM_MIN || (gone >= HEAP_TRIM_LEAST && charged < peak / 2)
    }

    /// Gives free pages of the heap back to the system, and measures what is left beside the arena's pages.
    pub(super) fn trim(&self, arena_bytes: impl Fn() -> u64) {
        self.measure(|| {
            trim_heap();
            let arena = arena_bytes();
            private_bytes().map(|all| all.saturating_sub(arena))
        });
    }

    /// `beside_arena` tells the private memory of the process but for the arena.
    fn measure(&self, beside_arena: impl FnOnce() -> Option<u64>) {
        let most = self.held_bytes();
        self.peak.store(self.charged_bytes(), Ordering::Relaxed);
        let left = beside_arena().map_or(0, |all| all.saturating_sub(self.before + OTHERS));
        let charged = self.charged_bytes();
        self.measured
            .store(left.clamp(charged, most.max(charged)), Ordering::Relaxed);
    }
}

/// Private memory of the process, where the system tells.
fn private_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(charged: u64, released: u64) -> Heap {
        let heap = Heap::new();
        heap.add(charged);
        heap.sub(released);
        heap
    }

    #[test]
    fn metadata_that_went_counts_until_it_is_measured() {
        let heap = after(100 << 20, 90 << 20);
        assert_eq!(heap.charged_bytes(), 10 << 20);
        assert_eq!(heap.held_bytes(), 100 << 20);
        assert!(heap.has_shrunk());
        heap.measure(|| None);
        assert_eq!(heap.held_bytes(), 10 << 20);
        assert!(!heap.has_shrunk());
        heap.add(5 << 20);
        heap.sub(3 << 20);
        assert_eq!(heap.held_bytes(), 15 << 20);
        assert!(!heap.has_shrunk());
    }

    #[test]
    fn a_little_that_keeps_much_open_is_looked_at_again() {
        let heap = after(80 << 20, 77 << 20);
        heap.measure(|| Some(heap.before + OTHERS + (60 << 20)));
        assert_eq!(heap.held_bytes(), 60 << 20);
        heap.sub(1 << 20);
        assert!(!heap.has_shrunk(), "most of it is still there");
        heap.sub(2 << 20);
        assert!(heap.has_shrunk());
        heap.measure(|| Some(heap.before + OTHERS + (50 << 20)));
        assert!(!heap.has_shrunk(), "what never goes is not looked at for ever");
    }

    #[test]
    fn the_last_of_it_gives_back_what_it_kept_open() {
        let heap = after(20 << 20, 17 << 20);
        // Less than what others may take: it does not show that the heap has holes.
        heap.measure(|| Some(heap.before + OTHERS));
        assert!(!heap.has_shrunk());
        heap.sub(3 << 20);
        assert!(heap.has_shrunk());
        heap.measure(|| Some(heap.before));
        heap.add(HEAP_TRIM_LEAST);
        heap.sub(HEAP_TRIM_LEAST - 1);
        assert!(!heap.has_shrunk(), "too little to look for");
    }

    #[test]
    fn what_the_heap_still_holds_stays_counted() {
        let heap = after(80 << 20, 80 << 20);
        heap.measure(|| Some(heap.before + OTHERS + (60 << 20)));
        assert_eq!(heap.held_bytes(), 60 << 20);
        heap.measure(|| Some(heap.before + OTHERS + (70 << 20)));
        assert_eq!(
            heap.held_bytes(),
            60 << 20,
            "growth beside the grid is not the grid's"
        );
        heap.measure(|| Some(0));
        assert_eq!(heap.held_bytes(), 0);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_system_tells_the_private_memory() {
        assert!(private_bytes().is_some_and(|bytes| bytes > 64 << 10));
        after(8 << 20, 8 << 20).trim(|| 0);
    }
}
