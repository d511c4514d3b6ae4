//! A bound on what the kernel's page cache holds of the drive, beside what the drive holds itself.
//!
//! The kernel keeps pages that it has read or written until memory is short. For a drive in memory each of them is
//! there a second time. So okapi counts what enters the cache by requests, file by file, and has the kernel drop the
//! pages of the files that were counted first when all together pass the bound.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::thread;

use fuser::{INodeNo, Notifier};
use parking_lot::{Condvar, Mutex};
use tracing::warn;

use crate::vfs::Ino;

/// Counts pages by file, and says whose pages shall go.
pub(super) struct PageCache {
    bound_bytes: u64,
    counts: Mutex<Counts>,
    /// Rung when the bound is passed, and at the end.
    bell: Condvar,
}

#[derive(Default)]
struct Counts {
    bytes: HashMap<Ino, u64>,
    /// Files in the order in which they were first counted; those that are gone from `bytes` are passed over.
    order: VecDeque<Ino>,
    total: u64,
    closed: bool,
}

impl PageCache {
    pub(super) fn new(bound_bytes: u64) -> Self {
        Self {
            bound_bytes,
            counts: Mutex::default(),
            bell: Condvar::new(),
        }
    }

    /// `bytes` of a file enter the kernel's cache. What is counted twice, as it was dropped between, is counted high:
    /// the bound holds.
    pub(super) fn enter(&self, ino: Ino, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let mut counts = self.counts.lock();
        counts.total += bytes as u64;
        let Counts {
            bytes: files, order, ..
        } = &mut *counts;
        *files.entry(ino).or_insert_with(|| {
            order.push_back(ino);
            0
        }) += bytes as u64;
        if counts.total > self.bound_bytes {
            self.bell.notify_one();
        }
    }

    /// The kernel has forgotten the inode, and its pages with it.
    pub(super) fn leave(&self, ino: Ino) {
        let mut counts = self.counts.lock();
        let Counts {
            bytes, order, total, ..
        } = &mut *counts;
        if let Some(gone) = bytes.remove(&ino) {
            *total -= gone;
        }
        // Files that are gone must not fill the queue.
        if order.len() > 2 * bytes.len() + 64 {
            order.retain(|ino| bytes.contains_key(ino));
        }
    }

    /// Waits until the bound is passed; the file whose pages shall go. `None` at the end.
    fn next(&self) -> Option<Ino> {
        let mut counts = self.counts.lock();
        loop {
            if counts.closed {
                return None;
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

/// A thread that has the kernel drop pages; ends on drop.
///
/// It is a thread of its own as the kernel waits for the pages' readers, which threads that serve have to answer.
pub(super) struct Dropper(Arc<PageCache>);

impl Dropper {
    pub(super) fn start(cache: &Arc<PageCache>, notifier: Notifier) -> io::Result<Self> {
        let watched = Arc::clone(cache);
        thread::Builder::new().name("page-cache".into()).spawn(move || {
            while let Some(ino) = watched.next() {
                if let Err(error) = notifier.inval_inode(INodeNo(ino.0), 0, 0) {
                    warn!("the kernel keeps the pages of inode {}: {error}", ino.0);
                }
            }
        })?;
        Ok(Self(Arc::clone(cache)))
    }
}

impl Drop for Dropper {
    fn drop(&mut self) {
        self.0.counts.lock().closed = true;
        self.0.bell.notify_all();
    }
}

impl Counts {
    fn oldest(&mut self) -> Option<Ino> {
        while let Some(ino) = self.order.pop_front() {
            if let Some(bytes) = self.bytes.remove(&ino) {
                self.total -= bytes;
                return Some(ino);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_that_came_first_go_first() {
        let cache = PageCache::new(100);
        cache.enter(Ino(2), 60);
        cache.enter(Ino(3), 30);
        cache.enter(Ino(2), 10);
        assert_eq!(cache.counts.lock().total, 100);
        cache.enter(Ino(4), 1);
        assert_eq!(cache.next(), Some(Ino(2)));
        assert_eq!(cache.counts.lock().total, 31);
        cache.enter(Ino(2), 80);
        assert_eq!(cache.next(), Some(Ino(3)));
        cache.counts.lock().closed = true;
        assert_eq!(cache.next(), None);
    }

    #[test]
    fn forgotten_files_leave_nothing_behind() {
        let cache = PageCache::new(u64::MAX);
        for number in 0..10_000 {
            cache.enter(Ino(number), 4096);
            cache.leave(Ino(number));
        }
        let counts = cache.counts.lock();
        assert_eq!((counts.total, counts.bytes.len()), (0, 0));
        assert!(counts.order.len() <= 65, "{}", counts.order.len());
    }

    #[test]
    fn one_file_larger_than_the_bound_is_dropped_too() {
        let cache = PageCache::new(1 << 20);
        cache.enter(Ino(9), 2 << 20);
        assert_eq!(cache.next(), Some(Ino(9)));
        assert_eq!(cache.counts.lock().total, 0);
    }
}
