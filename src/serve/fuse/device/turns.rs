//! Which thread waits for requests at the device.
//!
//! Whoever sleeps at the device is woken by each request that comes, also by one that a thread takes which is awake
//! already, and waking costs more than most requests do. So at most one thread sleeps there, and only while none waits
//! awake. The others stand by, away from the device. One of these looks from time to time whether a place is free: it
//! is when requests take long or come faster than they are answered. While nobody asks anything, all sleep.
//!
//! ```text
//!                 request found
//!        +-------------------------------+
//!        v                               |
//!     serving --- nothing there ---> awake (one) ---- nothing comes ---> asleep (one)
//!        ^                               |                                  |
//!        |                           no place                            woken: serves, and calls the look-out
//!        |                               v                                  |
//!        +----- a place is free ---- standing by <--------------------------+
//! ```

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::linger::{Awake, Linger};

/// Threads that wait for requests awake. A second one made untar a tenth quicker and rm a sixth slower, and takes
/// another processor's time.
const AWAKE_MAX: usize = 1;

/// How often one that stands by looks for a free place while requests come.
const LOOK_OUT: Duration = Duration::from_millis(1);

/// Where a thread waits for its next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At the device, looking again and again.
    Awake,
    /// At the device, asleep.
    Asleep,
    /// Away from it.
    StandBy,
}

/// The places of a mount's threads.
pub(super) struct Turns {
    /// Held by the one that looks for a free place; the others that stand by queue for it.
    look_out: Mutex<()>,
    state: Mutex<State>,
    /// Calls the look-out.
    bell: Condvar,
}

struct State {
    /// Threads in [`Place::Awake`].
    awake: usize,
    /// A thread is in [`Place::Asleep`].
    asleep: bool,
    /// The look-out has to be called.
    look_out_sleeps: bool,
    ended: bool,
    linger: Linger,
}

impl State {
    fn has_place(&self) -> bool {
        !self.asleep && self.awake < AWAKE_MAX
    }

    /// One sleeps where nobody waits.
    fn lie_down(&mut self) -> Place {
        if self.asleep || self.awake > 0 {
            return Place::StandBy;
        }
        self.asleep = true;
        Place::Asleep
    }
}

impl Turns {
    pub(super) fn new() -> Self {
        let state = State {
            awake: 0,
            asleep: false,
            look_out_sleeps: false,
            ended: false,
            linger: Linger::new(),
        };
        Self {
            look_out: Mutex::new(()),
            state: Mutex::new(state),
            bell: Condvar::new(),
        }
    }

    /// The place of a thread that has found no request at `now`.
    pub(super) fn wait(&self, now: Instant) -> Place {
        let mut state = self.state.lock();
        if !state.has_place() {
            return Place::StandBy;
        }
        if state.linger.begin(now) {
            state.awake += 1;
            return Place::Awake;
        }
        state.lie_down()
    }

    /// The thread has stayed awake: where it goes on waiting, if it has found nothing.
    pub(super) fn tire<T>(&self, awake: Awake<T>) -> Result<T, Place> {
        let mut state = self.state.lock();
        state.awake -= 1;
        state.linger.end(&awake);
        match awake {
            Awake::Found(found) => Ok(found),
            Awake::InVain | Awake::Crowded(_) => Err(state.lie_down()),
        }
    }

    /// The thread that was asleep is not any more.
    pub(super) fn wake(&self) {
        let mut state = self.state.lock();
        state.asleep = false;
        if state.look_out_sleeps {
            state.look_out_sleeps = false;
            self.bell.notify_one();
        }
    }

    /// Waits until there is a place at the device; returns whether to go on at all.
    pub(super) fn stand_by(&self) -> bool {
        let _look_out = self.look_out.lock();
        let mut state = self.state.lock();
        loop {
            while state.asleep && !state.ended {
                state.look_out_sleeps = true;
                self.bell.wait(&mut state);
            }
            if !state.ended {
                self.bell.wait_for(&mut state, LOOK_OUT);
            }
            if state.ended || state.has_place() {
                return !state.ended;
            }
        }
    }

    /// Nobody stands by any more.
    pub(super) fn end(&self) {
        self.state.lock().ended = true;
        self.bell.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    const FAR: Duration = Duration::from_secs(3600);

    #[test]
    fn one_sleeps_where_nobody_waits_and_the_others_stand_by() {
        let turns = Turns::new();
        let later = Instant::now() + FAR;
        assert_eq!(turns.wait(later), Place::Asleep);
        assert_eq!(turns.wait(later), Place::StandBy);
        turns.wake();
        assert_eq!(turns.wait(later + FAR), Place::Asleep);
    }

    #[test]
    fn nobody_sleeps_at_the_device_while_others_wait_awake() {
        let turns = Turns::new();
        let now = Instant::now();
        for _ in 0..AWAKE_MAX {
            assert_eq!(turns.wait(now), Place::Awake);
        }
        assert_eq!(turns.wait(now), Place::StandBy, "no place is left");
        assert_eq!(turns.tire(Awake::Found(7)), Ok(7));
        for left in (0..AWAKE_MAX - 1).rev() {
            let next = match left {
                0 => Place::Asleep,
                _ => Place::StandBy,
            };
            assert_eq!(turns.tire(Awake::<()>::InVain), Err(next));
        }
    }

    #[test]
    fn where_others_need_the_processor_nobody_stays_awake() {
        let turns = Turns::new();
        let now = Instant::now();
        assert_eq!(turns.wait(now), Place::Awake);
        assert_eq!(turns.tire(Awake::<()>::Crowded(now)), Err(Place::Asleep));
        turns.wake();
        assert_eq!(turns.wait(now), Place::Asleep);
    }

    #[test]
    fn who_stands_by_comes_when_nobody_waits_and_goes_at_the_end() {
        let turns = &Turns::new();
        let later = Instant::now() + FAR;
        assert_eq!(turns.wait(later), Place::Asleep);
        let (come, came) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..3 {
                let come = come.clone();
                scope.spawn(move || {
                    while turns.stand_by() {
                        let place = match turns.wait(Instant::now()) {
                            Place::Awake => turns.tire(Awake::<()>::InVain).unwrap_err(),
                            place => place,
                        };
                        // another may have come first
                        if place == Place::Asleep {
                            come.send(()).unwrap();
                        }
                    }
                });
            }
            // the one that sleeps gets a request that takes long, one after the other
            for _ in 0..3 {
                turns.wake();
                came.recv().unwrap();
            }
            turns.end();
        });
    }
}
