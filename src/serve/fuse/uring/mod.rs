//! The io_uring transport: requests come and answers go through rings shared with the kernel (Linux 6.14 and later).
//!
//! The kernel has one queue for each processor, and a program's request goes to the queue of the processor that the
//! program runs on. A thread serves each queue on that very processor, so that handing over a request and its answer
//! wakes nobody elsewhere. One call of the system sends an answer and fetches the next request.
//!
//! fuser's session goes on beside: the kernel sends FORGET and INTERRUPT by /dev/fuse in any case.

mod abi;
mod dispatch;
mod encode;
mod ring;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use tracing::{error, warn};

use super::operations::Operations;
use super::switch::uring_switch;
use crate::limits::{FUSE_WRITE_MAX, URING_PAYLOADS_MAX, URING_QUEUE_DEPTH_MAX, URING_THREADS_MAX};
use ring::{Event, Place, Ring};

const PROCESSORS: &str = "/sys/devices/system/cpu/possible";

/// Whether the transport can be used here, as far as can be told before a mount.
///
/// # Errors
/// The reason, in words.
pub(super) fn probe() -> Result<(), String> {
    match uring_switch() {
        None => return Err("the kernel has no FUSE over io_uring, which Linux 6.14 brought".into()),
        Some(false) => return Err("the kernel has it switched off (fuse.enable_uring)".into()),
        Some(true) => {}
    }
    ring::probe().map_err(|error| format!("the system refuses io_uring: {error}"))?;
    queues()
        .map(drop)
        .map_err(|error| format!("cannot tell the processors: {error}"))
}

/// The threads that serve the queues, until the filesystem is unmounted.
pub(super) struct Queues {
    count: usize,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Queues {
    /// Serves all queues of a mount whose kernel side has agreed to io_uring, and waits for requests until all of them
    /// are served.
    ///
    /// # Errors
    /// Where the system has not enough memory or threads, or the kernel refuses an entry. No request is answered then.
    pub(super) fn start(device: &OwnedFd, operations: &Arc<Operations>) -> io::Result<Self> {
        let count = queues()?;
        let thread_count = count.min(URING_THREADS_MAX);
        let (ready, readiness) = mpsc::channel();
        let threads: io::Result<Vec<_>> = (0..thread_count)
            .map(|number| {
                let server = Server {
                    queues: (number..count).step_by(thread_count).collect(),
                    depth: (URING_PAYLOADS_MAX / count).clamp(1, URING_QUEUE_DEPTH_MAX),
                    device: device.try_clone()?,
                    operations: Arc::clone(operations),
                };
                let ready = ready.clone();
                thread::Builder::new()
                    .name(format!("uring-{number}"))
                    .spawn(move || server.run(ready))
            })
            .collect();
        drop(ready);
        let threads = threads?;
        for outcome in readiness {
            outcome?;
        }
        Ok(Self { count, threads })
    }

    /// Number of queues.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Waits until the filesystem is unmounted.
    ///
    /// # Errors
    /// Where a queue was given up before.
    pub(super) fn join(self) -> io::Result<()> {
        let mut outcome = Ok(());
        for thread in self.threads {
            let ended = thread
                .join()
                .unwrap_or_else(|_panic| Err(io::Error::other("a serving thread panicked")));
            outcome = outcome.and(ended);
        }
        outcome
    }
}

/// Number of the kernel's queues: the processors that there can be.
fn queues() -> io::Result<usize> {
    let possible = std::fs::read_to_string(PROCESSORS)?;
    processor_count(&possible).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, possible))
}

/// Counts the processors of a list like `0-3,8`.
fn processor_count(list: &str) -> Option<usize> {
    list.trim().split(',').try_fold(0, |count: usize, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
        count.checked_add(usize::from(last.checked_sub(first)?) + 1)
    })
}

/// What one thread serves.
struct Server {
    queues: Vec<usize>,
    /// Entries of each queue: requests that can be on their way at a time.
    depth: usize,
    device: OwnedFd,
    operations: Arc<Operations>,
}

impl Server {
    /// Serves until the filesystem is unmounted; reports by `ready` when the kernel has the entries, or will not.
    fn run(self, ready: mpsc::Sender<io::Result<()>>) -> io::Result<()> {
        self.stay_near();
        let started = self.start();
        let (outcome, ring) = match started {
            Ok(ring) => (Ok(()), Some(ring)),
            Err(error) => (Err(error), None),
        };
        // The receiver waits for all threads, until none of them has a sender any more.
        let _ = ready.send(outcome);
        drop(ready);
        match ring {
            Some(started) => self.serve(started),
            None => Ok(()),
        }
    }

    fn start(&self) -> io::Result<Started> {
        let places: Vec<Place> = self
            .queues
            .iter()
            .flat_map(|&queue| (0..self.depth).map(move |_| Place { queue: queue as u16 }))
            .collect();
        let mut ring = Ring::new(self.device.as_fd(), &places, FUSE_WRITE_MAX as usize)?;
        ring.register()?;
        let mut events = Vec::with_capacity(places.len());
        ring.take(&mut events);
        if let Some(at) = events
            .iter()
            .position(|(_, event)| matches!(event, Event::Refused(_)))
        {
            let (_, Event::Refused(error)) = events.swap_remove(at) else {
                unreachable!("the position is that of a refusal");
            };
            return Err(error);
        }
        Ok(Started {
            ring,
            events,
            waiting: places.len(),
        })
    }

    /// Keeps the thread on the processors whose queues it serves.
    fn stay_near(&self) {
        let mut processors = CpuSet::new();
        let known = self.queues.iter().all(|&queue| processors.set(queue).is_ok());
        if !known || sched_setaffinity(Pid::from_raw(0), &processors).is_err() {
            // A processor that is offline now: its queue is served from elsewhere.
            warn!("queues {:?} are served from any processor", self.queues);
        }
    }

    fn serve(&self, started: Started) -> io::Result<()> {
        let Started {
            mut ring,
            mut events,
            mut waiting,
        } = started;
        while waiting > 0 {
            for (number, event) in events.drain(..) {
                match event {
                    Event::Request => {
                        let answer = dispatch::dispatch(&self.operations, ring.request(number));
                        ring.answer(number, answer)?;
                    }
                    Event::Unmounted => waiting -= 1,
                    Event::Refused(refusal) => {
                        error!("queue entry {number} is lost: {refusal}");
                        waiting -= 1;
                    }
                }
            }
            if waiting > 0 {
                ring.wait(&mut events)?;
            }
        }
        Ok(())
    }
}

/// A ring whose entries the kernel has.
struct Started {
    ring: Ring,
    /// What has come already.
    events: Vec<(usize, Event)>,
    /// Entries that the kernel may give back.
    waiting: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_counted() {
        assert_eq!(processor_count("0\n"), Some(1));
        assert_eq!(processor_count("0-1\n"), Some(2));
        assert_eq!(processor_count("0-3,8,10-11"), Some(7));
        for wrong in ["", "x", "3-1", "0-", "0-65536"] {
            assert_eq!(processor_count(wrong), None, "{wrong}");
        }
    }
}
