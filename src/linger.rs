//! When a thread stays awake for the next request, and when it leaves the processor to others.
//!
//! The system moves a program that is answered to a processor that is idle, and a processor that sleeps takes long to
//! wake, above all a virtual one. As long as the last one is busy, the program stays where it is and goes on at once.

use std::mem;
use std::thread;
use std::time::{Duration, Instant};

/// How long a thread stays awake for the next request of the kernel. Five times as long makes requests that come thick cheaper by a
/// few percent only.
pub(crate) const LINGER: Duration = Duration::from_micros(200);
/// Requests further apart than this are not waited for awake, so that a mount that is seldom asked costs nothing.
const LINGER_GAP: Duration = Duration::from_millis(2);
/// A turn of another thread that takes longer than this was not that of a program with a short way to its next request.
const CROWDED: Duration = Duration::from_micros(50);
/// How long a thread sleeps where it finds nothing to do, when it has learned that staying awake does not pay.
const REST: Duration = Duration::from_millis(10);

/// Decides whether to stay awake.
pub(crate) struct Linger {
    /// When the last request was answered.
    last: Instant,
    /// Others need the processor, or nobody has come: it is not kept from others.
    rests_until: Instant,
}

/// How it ended that a thread stayed awake.
pub(crate) enum Awake<T> {
    /// With what it has looked for.
    Found(T),
    /// Nothing came in time.
    InVain,
    /// Others need the processor since this moment.
    Crowded(Instant),
}

impl Linger {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self {
            last: now,
            rests_until: now,
        }
    }

    /// A request was answered, and there is no other: whether to wait for the next one awake.
    pub(crate) fn begin(&mut self, now: Instant) -> bool {
        let gap = now.saturating_duration_since(mem::replace(&mut self.last, now));
        gap <= LINGER_GAP && now >= self.rests_until
    }

    /// Takes note of how that ended.
    pub(crate) fn end<T>(&mut self, awake: &Awake<T>) {
        if let Awake::Crowded(since) = awake {
            self.rests_until = *since + REST;
        }
    }

    /// As [`Linger::end`] for a thread whose client should have had its next request long ready: where none has come,
    /// the client has no processor, and the next times are in vain too.
    pub(crate) fn end_strictly<T>(&mut self, awake: &Awake<T>, now: Instant) {
        if !matches!(awake, Awake::Found(_)) {
            self.rests_until = now + REST;
        }
    }
}

/// Looks again and again for `time`, and gives way in between to whoever wants the processor.
pub(crate) fn stay_awake<T>(time: Duration, mut look: impl FnMut() -> Option<T>) -> Awake<T> {
    let started = Instant::now();
    let mut now = started;
    loop {
        if let Some(found) = look() {
            return Awake::Found(found);
        }
        if now - started >= time {
            return Awake::InVain;
        }
        let before = Instant::now();
        thread::yield_now();
        now = Instant::now();
        if now - before > CROWDED {
            return look().map_or(Awake::Crowded(now), Awake::Found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_stays_awake_where_requests_come_thick_and_nobody_else_needs_the_processor() {
        let mut linger = Linger::new();
        let start = linger.last;
        let at = |millis| start + Duration::from_millis(millis);
        assert!(linger.begin(at(2)));
        assert!(!linger.begin(at(5)), "that was a long time");
        assert!(linger.begin(at(6)));
        linger.end(&Awake::<()>::InVain);
        assert!(linger.begin(at(7)));
        linger.end(&Awake::<()>::Crowded(at(7)));
        assert!(!linger.begin(at(8)), "others need the processor");
        assert!(!linger.begin(at(16)), "for a while");
        assert!(linger.begin(at(17)));
    }

    #[test]
    fn a_client_that_should_have_come_is_not_waited_for_again_at_once() {
        let mut linger = Linger::new();
        let start = linger.last;
        let at = |millis| start + Duration::from_millis(millis);
        linger.end_strictly(&Awake::Found(7), at(1));
        assert!(linger.begin(at(1)));
        linger.end_strictly(&Awake::<()>::InVain, at(1));
        assert!(!linger.begin(at(2)));
        assert!(!linger.begin(at(10)), "and so it goes on");
        assert!(linger.begin(at(11)));
    }

    #[test]
    fn what_is_there_is_found_and_what_does_not_come_is_not_waited_for() {
        assert!(matches!(stay_awake(LINGER, || Some(7)), Awake::Found(7)));
        let mut looks = 0;
        let awake = stay_awake(LINGER, || {
            looks += 1;
            None::<()>
        });
        assert!(!matches!(awake, Awake::Found(())));
        assert!(looks > 1, "it looks again before it gives up");
    }
}
