//! The inodes that wait to be sealed: in a bounded line, each once, from a change until they are left alone for a while.
//!
//! A change of an inode that waits already costs a look at its mark.
//!
//! ```text
//!         a change                 one interval without any        another one
//! IDLE ───────────────> CHANGED ─────────────────────────> RESTING ───────────> IDLE, and sealed
//!        enters the line   ^                                   │
//!                          └──────────── a change ─────────────┘
//! ```

use std::collections::VecDeque;
use std::mem;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::limits::SEAL_QUEUE_MAX;
use crate::vfs::Ino;

/// Does not wait.
const IDLE: u8 = 0;
/// Waits, and nothing has changed for an interval.
const RESTING: u8 = 1;
/// Waits, and has changed.
const CHANGED: u8 = 2;

/// Whether an inode waits.
#[derive(Default)]
pub(super) struct Mark(AtomicU8);

impl Mark {
    /// Whether the inode waits to be sealed.
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) != IDLE
    }

    /// Takes the inode out of the backlog, because it is sealed now.
    pub(super) fn clear(&self) {
        self.0.store(IDLE, Ordering::Relaxed);
    }

    /// Notes that an interval is over. An inode that has not changed in it does not wait any more; `None` for one that
    /// did not wait.
    pub(super) fn pass(&self) -> Option<Step> {
        let next = |mark| match mark {
            CHANGED => Some(RESTING),
            RESTING => Some(IDLE),
            _ => None,
        };
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(CHANGED) => Some(Step::Waits),
            Ok(_) => Some(Step::Ripe),
            Err(_) => None,
        }
    }
}

/// What an interval has made of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It changed in the interval.
    Waits,
    /// It did not.
    Ripe,
}

/// The inodes that wait to be sealed.
#[derive(Default)]
pub(super) struct Backlog {
    line: Mutex<Line>,
    /// Rung when the line is not empty any more, and to stop.
    rung: Condvar,
    /// Inodes that were taken from the line, and are not done with.
    taken: AtomicU64,
}

#[derive(Default)]
struct Line {
    inodes: VecDeque<Ino>,
    /// There was no room for an inode: whoever comes for the line has to look at all that there are.
    is_short: bool,
    is_stopped: bool,
}

impl Line {
    fn is_empty(&self) -> bool {
        self.inodes.is_empty() && !self.is_short
    }

    /// Takes out all that there are; whether some had no room.
    fn empty(&mut self) -> (VecDeque<Ino>, bool) {
        (mem::take(&mut self.inodes), mem::take(&mut self.is_short))
    }

    fn push(&mut self, ino: Ino) {
        if self.inodes.len() < SEAL_QUEUE_MAX {
            self.inodes.push_back(ino);
        } else {
            self.is_short = true;
        }
    }
}

impl Backlog {
    /// Notes a change of an inode's content.
    pub(super) fn note(&self, ino: Ino, mark: &Mark) {
        if mark.0.load(Ordering::Relaxed) != CHANGED && mark.0.swap(CHANGED, Ordering::Relaxed) == IDLE {
            let mut line = self.line.lock();
            if line.is_empty() {
                self.rung.notify_one();
            }
            line.push(ino);
        }
    }

    /// Inodes that wait: at least so many.
    pub(super) fn len(&self) -> u64 {
        self.line.lock().inodes.len() as u64 + self.taken.load(Ordering::Relaxed)
    }

    /// Forgets all that wait: they are being sealed, and their marks cleared.
    pub(super) fn clear(&self) {
        self.line.lock().empty();
    }

    /// Waits until an inode waits, and then for an interval; breaks where it was stopped.
    pub(super) fn rest(&self, interval: Duration) -> ControlFlow<()> {
        let mut line = self.line.lock();
        let sleeps = |line: &mut Line| line.is_empty() && !line.is_stopped;
        self.rung.wait_while(&mut line, sleeps);
        self.rung
            .wait_while_for(&mut line, |line| !line.is_stopped, interval);
        match line.is_stopped {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    /// Takes those inodes out that have not changed since this was called last; each is to be reported with
    /// [`Backlog::note_done`]. `pass` finds an inode's mark and passes it on; `marked` lists all inodes whose mark is
    /// set.
    pub(super) fn take_ripe(
        &self,
        marked: impl FnOnce() -> Vec<Ino>,
        pass: impl Fn(Ino) -> Option<Step>,
    ) -> Vec<Ino> {
        let (inodes, is_short) = self.line.lock().empty();
        let inodes = match is_short {
            true => marked(),
            false => inodes.into(),
        };
        let (ripe, waiting): (Vec<_>, Vec<_>) = inodes
            .into_iter()
            .filter_map(|ino| Some((ino, pass(ino)?)))
            .partition(|(_, step)| *step == Step::Ripe);
        let mut line = self.line.lock();
        waiting.into_iter().for_each(|(ino, _)| line.push(ino));
        self.taken.store(ripe.len() as u64, Ordering::Relaxed);
        ripe.into_iter().map(|(ino, _)| ino).collect()
    }

    /// Notes that an inode is sealed that was taken out.
    pub(super) fn note_done(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }

    /// Ends [`Backlog::rest`] for good.
    pub(super) fn stop(&self) {
        self.line.lock().is_stopped = true;
        self.rung.notify_all();
    }

    /// Whether it was stopped.
    pub(super) fn is_stopped(&self) -> bool {
        self.line.lock().is_stopped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn pass(marks: &BTreeMap<u64, Mark>) -> impl Fn(Ino) -> Option<Step> {
        |ino| marks.get(&ino.0)?.pass()
    }

    fn marks(count: u64) -> BTreeMap<u64, Mark> {
        (0..count).map(|ino| (ino, Mark::default())).collect()
    }

    #[test]
    fn an_inode_is_ripe_when_it_was_left_alone_for_an_interval() {
        let (backlog, marks) = (Backlog::default(), marks(3));
        let note = |ino| backlog.note(Ino(ino), &marks[&ino]);
        let ripe = || backlog.take_ripe(|| panic!("there is room"), pass(&marks));
        (0..3).for_each(note);
        note(1);
        assert_eq!(backlog.len(), 3);
        assert_eq!(ripe(), []);
        note(1);
        marks[&2].clear();
        assert_eq!(ripe(), [Ino(0)]);
        assert_eq!(backlog.len(), 2);
        backlog.note_done();
        assert_eq!(backlog.len(), 1);
        assert_eq!(ripe(), [Ino(1)]);
        assert!(!marks[&1].is_set());
        assert_eq!(ripe(), []);
    }

    #[test]
    fn where_the_line_is_too_short_all_inodes_are_looked_at() {
        let count = SEAL_QUEUE_MAX as u64 + 10;
        let (backlog, marks) = (Backlog::default(), marks(count));
        let marked = || {
            let set = marks.iter().filter(|(_, mark)| mark.is_set());
            set.map(|(ino, _)| Ino(*ino)).collect()
        };
        (0..count).for_each(|ino| backlog.note(Ino(ino), &marks[&ino]));
        assert_eq!(backlog.len(), SEAL_QUEUE_MAX as u64);
        assert!(backlog.take_ripe(marked, pass(&marks)).is_empty());
        assert_eq!(backlog.take_ripe(marked, pass(&marks)).len() as u64, count);
        assert!(
            backlog
                .take_ripe(|| panic!("all were there"), pass(&marks))
                .is_empty()
        );
    }

    #[test]
    fn who_rests_is_woken_by_a_change_and_by_the_end() {
        let backlog = Backlog::default();
        let mark = Mark::default();
        std::thread::scope(|scope| {
            let rests = scope.spawn(|| backlog.rest(Duration::ZERO));
            backlog.note(Ino(5), &mark);
            assert!(rests.join().expect("it does not panic").is_continue());
            backlog.clear();
            let rests = scope.spawn(|| backlog.rest(Duration::from_secs(3600)));
            backlog.stop();
            assert!(rests.join().expect("it does not panic").is_break());
        });
    }
}
