//! How much of the process's heap the metadata takes: more than was charged, once much of it came and went.
//!
//! The heap gives back only pages on which nothing is left, so metadata that goes leaves holes. What it may take is
//! known: at most what was charged at once. What it does take is measured now and then.

use std::sync::atomic::{AtomicU64, Ordering};

use super::arena::trim_heap;
use crate::limits::HEAP_TRIM_MIN;

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

    /// Whether so much has gone that a walk through the heap is worth it.
    pub(super) fn has_shrunk(&self) -> bool {
        let gone = self
            .peak
            .load(Ordering::Relaxed)
            .saturating_sub(self.charged_bytes());
        gone >= HEAP_TRIM_MIN
    }

    /// Gives free pages of the heap back to the system, and measures what is left beside the arena's pages.
    pub(super) fn trim(&self, arena_bytes: impl Fn() -> u64) {
        let most = self.held_bytes();
        self.peak.store(self.charged_bytes(), Ordering::Relaxed);
        trim_heap();
        let charged = self.charged_bytes();
        let left = private_bytes().map_or(charged, |all| {
            all.saturating_sub(arena_bytes())
                .saturating_sub(self.before + OTHERS)
        });
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

    #[test]
    fn metadata_that_went_counts_until_it_is_measured() {
        let heap = Heap::new();
        heap.add(100 << 20);
        heap.sub(90 << 20);
        assert_eq!(heap.charged_bytes(), 10 << 20);
        assert_eq!(heap.held_bytes(), 100 << 20);
        assert!(heap.has_shrunk());
        heap.trim(|| u64::MAX);
        assert_eq!(heap.held_bytes(), 10 << 20);
        assert!(!heap.has_shrunk());
        heap.add(5 << 20);
        heap.sub(3 << 20);
        assert_eq!(heap.held_bytes(), 15 << 20);
        assert!(!heap.has_shrunk());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_the_heap_still_holds_stays_counted() {
        let heap = Heap::new();
        let still_held = vec![1_u8; 60 << 20];
        heap.add(80 << 20);
        heap.sub(80 << 20);
        heap.trim(|| 0);
        assert!(heap.held_bytes() >= 40 << 20, "{}", heap.held_bytes());
        assert!(heap.held_bytes() <= 80 << 20);
        drop(still_held);
    }
}
