//! A bound on what the kernel's page cache holds of the drive, beside what the drive holds itself.
//!
//! The kernel keeps pages that it has read or written until memory is short. For a drive in memory each of them is
//! there a second time. So okapi counts the pages that enter the cache by requests, file by file, and has the kernel
//! drop those of the files that were counted first when all together pass the bound. Pages of directories are not
//! counted; they hold names alone.
//!
//! A file that is written past the cache loses its pages too. They are in the way of such writes: io_uring (Linux 6.18)
//! takes the file for one that can be polled, and tries a write that meets a cached page again and again, before it lets a
//! thread drop the page and write. An image that was copied into a drive through the cache and then serves a virtual
//! machine would pay that for each of its pages.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex};

use super::caches::KernelCaches;
use crate::range::{page_ceil, page_floor};
use crate::vfs::{Ino, Outdated};

/// Writes past the cache after which a file loses its pages: whoever reads it through the cache meanwhile shall have them
/// for a while.
const DIRECT_MAX: u32 = 64;

/// Counts pages by file, and says whose pages shall go.
pub(super) struct PageCache {
    bound_bytes: u64,
    counts: Mutex<Counts>,
    /// Rung when the bound is passed or a file is to lose its pages, and at the end.
    bell: Condvar,
}

#[derive(Default)]
struct Counts {
    files: HashMap<Ino, Pages>,
    /// Files in the order in which they were first counted; those that are gone from `files` are passed over.
    order: VecDeque<Ino>,
    /// Files that are written past the cache.
    shunned: Vec<Ino>,
    /// Sum of the bytes of all files.
    total: u64,
    closed: bool,
}

/// What the kernel may have of a file: an upper bound.
#[derive(Clone, Copy, Default)]
struct Pages {
    bytes: u64,
    /// End of the last page.
    end: u64,
    /// Writes past the cache since.
    direct: u32,
}

impl PageCache {
    pub(super) fn new(bound_bytes: u64) -> Self {
        Self {
            bound_bytes,
            counts: Mutex::default(),
            bell: Condvar::new(),
        }
    }

    /// `len` bytes of a file from `offset` on enter the kernel's cache, in whole pages. Those that are there already are
    /// counted again, but never more than lie before the last one.
    pub(super) fn enter(&self, ino: Ino, offset: u64, len: usize) {
        if len == 0 {
            return;
        }
        let end = page_ceil(offset.saturating_add(len as u64));
        let mut counts = self.counts.lock();
        let Counts {
            files, order, total, ..
        } = &mut *counts;
        let pages = files.entry(ino).or_insert_with(|| {
            order.push_back(ino);
            Pages::default()
        });
        let before = pages.bytes;
        pages.end = pages.end.max(end);
        pages.bytes = (before + (end - page_floor(offset))).min(pages.end);
        *total += pages.bytes - before;
        if *total > self.bound_bytes {
            self.bell.notify_one();
        }
    }

    /// A file is written past the cache.
    pub(super) fn pass(&self, ino: Ino) {
        let mut counts = self.counts.lock();
        let Some(pages) = counts.files.get_mut(&ino) else {
            return;
        };
        pages.direct = pages.direct.saturating_add(1);
        if pages.direct == DIRECT_MAX && !counts.shunned.contains(&ino) {
            counts.shunned.push(ino);
            self.bell.notify_one();
        }
    }

    /// The kernel has forgotten the inode, and its pages with it.
    pub(super) fn leave(&self, ino: Ino) {
        let mut counts = self.counts.lock();
        counts.take(ino);
        counts.shunned.retain(|shunned| *shunned != ino);
        let Counts { files, order, .. } = &mut *counts;
        // Files that are gone must not fill the queue.
        if order.len() > 2 * files.len() + 64 {
            order.retain(|ino| files.contains_key(ino));
        }
    }

    /// Nobody shall wait any more.
    fn close(&self) {
        self.counts.lock().closed = true;
        self.bell.notify_all();
    }

    /// Waits until a file shall lose its pages; `None` at the end.
    fn next(&self) -> Option<Ino> {
        let mut counts = self.counts.lock();
        loop {
            if counts.closed {
                return None;
            }
            while let Some(ino) = counts.shunned.pop() {
                if counts.take(ino) {
                    return Some(ino);
                }
            }
            if counts.total > self.bound_bytes
                && let Some(ino) = counts.oldest()
            {
                return Some(ino);
            }
            self.bell.wait(&mut counts);
        }
    }
}

/// A thread that has the kernel drop pages; told to end on drop.
///
/// It is a thread of its own as the kernel waits for the pages' readers, which threads that serve have to answer.
pub(super) struct Dropper {
    cache: Arc<PageCache>,
    thread: Option<JoinHandle<()>>,
}

impl Dropper {
    pub(super) fn start(cache: &Arc<PageCache>, kernel: KernelCaches) -> io::Result<Self> {
        let watched = Arc::clone(cache);
        let thread = thread::Builder::new().name("page-cache".into()).spawn(move || {
            while let Some(ino) = watched.next() {
                kernel.forget(&[Outdated::Inode(ino)]);
            }
        })?;
        Ok(Self {
            cache: Arc::clone(cache),
            thread: Some(thread),
        })
    }

    /// Waits until the thread has ended: for a filesystem that is unmounted, whose pages nobody reads any more.
    pub(super) fn join(mut self) {
        self.cache.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Dropper {
    fn drop(&mut self) {
        self.cache.close();
    }
}

impl Counts {
    fn oldest(&mut self) -> Option<Ino> {
        while let Some(ino) = self.order.pop_front() {
            if self.take(ino) {
                return Some(ino);
            }
        }
        None
    }

    /// Counts a file no more; returns whether it was counted.
    fn take(&mut self, ino: Ino) -> bool {
        let taken = self.files.remove(&ino);
        self.total -= taken.map_or(0, |pages| pages.bytes);
        taken.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::PAGE_SIZE;

    const PAGE: usize = PAGE_SIZE as usize;

    #[test]
    fn the_files_that_came_first_go_first() {
        let cache = PageCache::new(10 * PAGE_SIZE);
        cache.enter(Ino(2), 0, 6 * PAGE);
        cache.enter(Ino(3), 0, 3 * PAGE);
        cache.enter(Ino(2), 6 * PAGE_SIZE, PAGE);
        assert_eq!(cache.counts.lock().total, 10 * PAGE_SIZE);
        cache.enter(Ino(4), 0, 1);
        assert_eq!(cache.next(), Some(Ino(2)));
        assert_eq!(cache.counts.lock().total, 4 * PAGE_SIZE);
        cache.enter(Ino(2), 0, 8 * PAGE);
        assert_eq!(cache.next(), Some(Ino(3)));
        cache.close();
        assert_eq!(cache.next(), None);
    }

    #[test]
    fn a_byte_takes_a_page_and_a_page_is_there_once() {
        let cache = PageCache::new(u64::MAX);
        cache.enter(Ino(2), 5, 1);
        assert_eq!(cache.counts.lock().total, PAGE_SIZE);
        for _ in 0..100 {
            cache.enter(Ino(2), 0, PAGE);
            cache.enter(Ino(2), PAGE_SIZE - 1, 2);
        }
        assert_eq!(cache.counts.lock().total, 2 * PAGE_SIZE);
        cache.enter(Ino(3), 0, 0);
        assert_eq!(cache.counts.lock().files.len(), 1);
    }

    #[test]
    fn forgotten_files_leave_nothing_behind() {
        let cache = PageCache::new(u64::MAX);
        for number in 0..10_000 {
            cache.enter(Ino(number), 0, PAGE);
            cache.leave(Ino(number));
        }
        let counts = cache.counts.lock();
        assert_eq!((counts.total, counts.files.len()), (0, 0));
        assert!(counts.order.len() <= 65, "{}", counts.order.len());
    }

    #[test]
    fn files_that_are_written_past_the_cache_lose_their_pages() {
        let cache = PageCache::new(u64::MAX);
        for ino in [2, 3] {
            cache.enter(Ino(ino), 0, 6 * PAGE);
        }
        for _ in 0..DIRECT_MAX {
            cache.pass(Ino(3));
            // Nobody has pages of this one.
            cache.pass(Ino(4));
        }
        assert_eq!(cache.counts.lock().shunned, [Ino(3)]);
        assert_eq!(cache.next(), Some(Ino(3)));
        assert_eq!(cache.counts.lock().total, 6 * PAGE_SIZE);
        // It begins anew with its next page.
        cache.pass(Ino(3));
        cache.enter(Ino(3), 0, PAGE);
        cache.pass(Ino(3));
        assert!(cache.counts.lock().shunned.is_empty());
        cache.close();
        assert_eq!(cache.next(), None);
    }

    #[test]
    fn one_file_larger_than_the_bound_is_dropped_too() {
        let cache = PageCache::new(1 << 20);
        cache.enter(Ino(9), 0, 2 << 20);
        assert_eq!(cache.next(), Some(Ino(9)));
        assert_eq!(cache.counts.lock().total, 0);
    }
}
