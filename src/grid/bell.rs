//! The bell that wakes the janitor: costs a load where it is awake.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

/// Wakes one thread, and tells it to end.
#[derive(Default)]
pub(super) struct Bell {
    asleep: AtomicBool,
    /// Whether the thread must end.
    stop: Mutex<bool>,
    rung: Condvar,
}

/// The right of one thread to sleep until the bell is rung.
pub(super) struct Rest<'a> {
    bell: &'a Bell,
    stop: MutexGuard<'a, bool>,
}

impl Bell {
    /// Says that there is work. The caller holds none of the locks that the sleeper looks for work under.
    pub(super) fn ring(&self) {
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            let _awaits = self.stop.lock();
            self.rung.notify_one();
        }
    }

    /// Tells the thread to end.
    pub(super) fn stop(&self) {
        *self.stop.lock() = true;
        self.rung.notify_one();
    }

    pub(super) fn rest(&self) -> Rest<'_> {
        Rest {
            bell: self,
            stop: self.stop.lock(),
        }
    }

    #[cfg(test)]
    pub(super) fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }
}

impl Rest<'_> {
    /// Sleeps until the bell is rung, unless `has_work` says that it was rung for already.
    pub(super) fn sleep(&mut self, has_work: impl FnOnce() -> bool) {
        let asleep = &self.bell.asleep;
        asleep.store(true, Ordering::SeqCst);
        // Whoever makes work under a lock that this look takes too, but after it, finds `asleep` set.
        if has_work() {
            asleep.store(false, Ordering::Relaxed);
        }
        while asleep.load(Ordering::Relaxed) && !*self.stop {
            self.bell.rung.wait(&mut self.stop);
        }
    }

    /// Waits for that long; breaks where the thread must end.
    pub(super) fn nap(&mut self, time: Duration) -> ControlFlow<()> {
        if !*self.stop {
            self.bell.rung.wait_for(&mut self.stop, time);
        }
        if *self.stop {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Works without holding up who rings or stops.
    pub(super) fn rise(&mut self, work: impl FnOnce()) {
        MutexGuard::unlocked(&mut self.stop, work);
    }
}
