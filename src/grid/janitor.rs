//! The thread that gives freed memory back to the system once nobody wants it any more.
//!
//! It sleeps until something is freed, then looks every [`TRIM_INTERVAL_MS`] until all free memory is given back.
//! What was free for a whole interval goes; what is freed and taken again within one stays warm.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::block::Homes;
use super::budget::Pool;
use crate::limits::TRIM_INTERVAL_MS;
use crate::{Error, ErrorKind, Result};

/// The running thread; ends when dropped.
pub(super) struct Janitor {
    pool: Arc<Pool>,
    thread: Option<JoinHandle<()>>,
}

impl Janitor {
    /// # Errors
    /// `NoMemory` where the host refuses a thread.
    pub(super) fn start(pool: &Arc<Pool>, homes: &Arc<Homes>) -> Result<Self> {
        let rounds = Rounds {
            pool: pool.clone(),
            homes: homes.clone(),
            metadata: 0,
        };
        let thread = std::thread::Builder::new()
            .name("okapi-janitor".to_owned())
            .spawn(move || rounds.run())
            .map_err(|cause| {
                Error::new(
                    ErrorKind::NoMemory,
                    "the host refuses a thread that gives memory back",
                )
                .with_source(cause)
            })?;
        Ok(Self {
            pool: pool.clone(),
            thread: Some(thread),
        })
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        self.pool.bell.stop();
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been reported by it; there is nothing to clean up.
            let _ = thread.join();
        }
    }
}

struct Rounds {
    pool: Arc<Pool>,
    homes: Arc<Homes>,
    /// Metadata at the last look.
    metadata: u64,
}

impl Rounds {
    fn run(mut self) {
        let pool = self.pool.clone();
        let mut rest = pool.bell.rest();
        loop {
            if !self.has_work() {
                rest.sleep(|| self.has_work());
            }
            if rest.nap(Duration::from_millis(TRIM_INTERVAL_MS)).is_break() {
                return;
            }
            rest.rise(|| self.look());
        }
    }

    fn has_work(&self) -> bool {
        self.pool.arena.is_restless() || self.pool.heap.has_shrunk()
    }

    fn look(&mut self) {
        if !self.pool.arena.tidy() && self.pool.is_wasteful() {
            self.homes.compact(&self.pool);
        }
        let before = std::mem::replace(&mut self.metadata, self.pool.heap.charged_bytes());
        // A walk through the heap holds up who allocates: not while more of it goes.
        if self.metadata >= before && self.pool.heap.has_shrunk() {
            self.pool.trim_heap();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::arena::Arena;
    use super::super::class::Class;
    use super::*;
    use std::time::Instant;

    fn wait_for(what: &str, done: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !done() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn it_gives_memory_back_then_sleeps_and_ends_with_its_owner() {
        let pool = Arc::new(Pool::new(Arena::new(1 << 20, 4096).unwrap(), 1 << 20, 4096));
        let janitor = Janitor::start(&pool, &Arc::default()).unwrap();
        for _ in 0..2 {
            wait_for("it falls asleep", || pool.bell.is_asleep());
            let slot = pool.arena.take(Class::of(4096).unwrap(), || u64::MAX).unwrap();
            assert!(pool.arena.resident_bytes() > 0);
            pool.arena.put_back(slot);
            pool.bell.ring();
            assert!(!pool.bell.is_asleep());
            wait_for("pages go back", || pool.arena.resident_bytes() == 0);
        }
        drop(janitor);
        assert_eq!(Arc::strong_count(&pool), 1);
    }
}
