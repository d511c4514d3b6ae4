//! A race: jobs that repeat in threads of their own until time is up, watched by one who is not in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use fs_tests::rng::{Rng, from_env_or_time};

/// A thread that does not come back within this time after the end of a race waits for a lock for ever.
const PATIENCE: Duration = Duration::from_secs(90);

/// One round of a job.
pub(crate) type Round = Box<dyn FnMut(&mut Rng) + Send>;

/// Jobs by name.
pub(crate) struct Race {
    name: &'static str,
    jobs: Vec<(String, Round)>,
}

impl Race {
    /// A race without jobs.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            jobs: Vec::new(),
        }
    }

    /// Adds `count` threads with a job each, made by `job` from the thread's number.
    pub(crate) fn with(mut self, what: &str, count: u64, job: impl Fn(u64) -> Round) -> Self {
        self.jobs
            .extend((0..count).map(|number| (format!("{what} {number}"), job(number))));
        self
    }

    /// Runs all jobs for that time, and at least one round of each. Returns the rounds that they did in all.
    ///
    /// # Panics
    /// Where a job panics, or does not end its round: then locks are taken in two orders somewhere.
    pub(crate) fn run(self, time: Duration) -> u64 {
        let seed = from_env_or_time(self.name);
        let over = Arc::new(AtomicBool::new(false));
        let (done, finished) = channel();
        let mut rounds = Vec::new();
        for (number, (what, mut job)) in self.jobs.into_iter().enumerate() {
            let (over, done) = (Arc::clone(&over), done.clone());
            let counter = Arc::new(AtomicU64::new(0));
            rounds.push((what.clone(), Arc::clone(&counter)));
            let mut rng = Rng::new(seed ^ (number as u64) << 48);
            // not scoped: a thread that hangs must not keep the test from failing
            std::thread::spawn(move || {
                let end = Report { what, done };
                while !over.load(Ordering::Relaxed) || counter.load(Ordering::Relaxed) == 0 {
                    job(&mut rng);
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                drop(job);
                drop(end);
            });
        }
        drop(done);
        std::thread::sleep(time);
        over.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + PATIENCE;
        for _ in 0..rounds.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            match finished.recv_timeout(left) {
                Ok(Ok(())) => (),
                Ok(Err(what)) => panic!("{}: {what} failed (OKAPI_SEED={seed})", self.name),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!(
                        "{}: a deadlock (OKAPI_SEED={seed}); rounds done: {rounds:?}",
                        self.name
                    )
                }
            }
        }
        rounds
            .iter()
            .map(|(_, counter)| counter.load(Ordering::Relaxed))
            .sum()
    }
}

/// Tells on drop how a job ended: also when it panicked.
struct Report {
    what: String,
    done: std::sync::mpsc::Sender<Result<(), String>>,
}

impl Drop for Report {
    fn drop(&mut self) {
        let end = match std::thread::panicking() {
            true => Err(std::mem::take(&mut self.what)),
            false => Ok(()),
        };
        // nobody listens any more where another job has failed
        let _ = self.done.send(end);
    }
}
