//! Looks that pin contents for a while: on a full volume they give way to whoever wants to overwrite what they pin.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Longest wait for looks to end, and for those who wait for that.
const WAIT: Duration = Duration::from_secs(1);

/// How many look, and how many wait for them.
///
/// While a content is pinned its blocks are not written in place: an overwrite takes new ones, which a full volume does not
/// have. So a look pins for a short piece, and before the next one lets those go first who have met it. Nobody holds the
/// lock while looking or writing, and each wait is bounded: where it is in vain the volume is full.
#[derive(Default)]
pub(super) struct Looks {
    /// Its lock is below all others.
    counts: Mutex<Counts>,
    bell: Condvar,
    /// Looks that have ended; changed under the lock, and read without it by all who write.
    ended: AtomicU64,
}

#[derive(Default)]
struct Counts {
    looking: usize,
    waiting: usize,
}

/// A look under way, until this is dropped; what it pins goes first.
pub(super) struct Look<'l>(&'l Looks);

/// Somebody before whom no look begins, until this is dropped.
pub(super) struct Turn<'l>(&'l Looks);

impl Looks {
    /// Begins a look, which is to be short.
    pub(super) fn begin(&self) -> Look<'_> {
        self.counts.lock().looking += 1;
        Look(self)
    }

    /// How many have ended, for [`Looks::since`].
    pub(super) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Acquire)
    }

    /// Whether one was under way at any time since so many had ended.
    pub(super) fn since(&self, ended: u64) -> bool {
        let counts = self.counts.lock();
        counts.looking > 0 || self.ended() != ended
    }

    /// Waits for the looks to end that are under way; others begin after the turn.
    pub(super) fn turn(&self) -> Turn<'_> {
        let mut counts = self.counts.lock();
        counts.waiting += 1;
        self.bell
            .wait_while_for(&mut counts, |counts| counts.looking > 0, WAIT);
        Turn(self)
    }

    /// Lets those go first who wait for a look to end. Nothing may be pinned or locked.
    pub(super) fn give_way(&self) {
        let mut counts = self.counts.lock();
        self.bell
            .wait_while_for(&mut counts, |counts| counts.waiting > 0, WAIT);
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.counts.lock().waiting
    }
}

impl Drop for Look<'_> {
    fn drop(&mut self) {
        let mut counts = self.0.counts.lock();
        counts.looking -= 1;
        self.0.ended.fetch_add(1, Ordering::Release);
        drop(counts);
        self.0.bell.notify_all();
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.counts.lock().waiting -= 1;
        self.0.bell.notify_all();
    }
}
