//! The io_uring transport: requests come and answers go through rings shared with the kernel (Linux 6.14 and later).
//!
//! The kernel has one queue for each processor, and a program's request goes to the queue of the processor that the
//! program runs on. Threads bound to that very processor serve it, so that handing over a request and its answer wakes
//! nobody elsewhere. Each thread has a ring with one entry, and takes one request at a time: one call of the system
//! sends an answer and fetches the next request. The kernel prefers the entry that came back last, so quick requests
//! stay with one warm thread, and the others step in where a request takes long.
//!
//! A thread reads the device beside: the kernel sends FORGET and INTERRUPT by /dev/fuse in any case.

mod abi;
mod processors;
mod ring;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, mpsc};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use tracing::debug;

use super::dispatch::dispatch;
use super::operations::Operations;
use super::switch::uring_switch;
use super::threads::Threads;
use crate::limits::{FUSE_WRITE_MAX, URING_QUEUE_THREADS_MAX, URING_QUEUE_THREADS_MIN, URING_THREADS_MAX};
use processors::Processors;
use ring::Ring;

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
    Processors::read()
        .map(drop)
        .map_err(|error| format!("cannot tell the processors: {error}"))
}

/// Serves all queues of a mount whose kernel side has agreed to io_uring; the kernel holds all requests back until
/// then. Returns the number of queues.
///
/// # Errors
/// Where the system has not enough memory or threads, or the kernel refuses an entry. No request is answered then,
/// and no thread stays.
pub(super) fn start(
    device: &OwnedFd,
    operations: &Arc<Operations>,
    threads: &mut Threads,
) -> io::Result<usize> {
    let processors = Processors::read()?;
    let (ready, readiness) = mpsc::channel();
    let mut signals = Vec::new();
    for queue in queues(&processors) {
        let (go, may_go) = mpsc::channel();
        signals.push(go);
        let server = Server {
            queue,
            device: device.try_clone()?,
            operations: Arc::clone(operations),
        };
        let ready = ready.clone();
        threads.spawn(format!("uring-{queue}"), move || server.run(ready, &may_go))?;
    }
    drop(ready);
    let outcomes: io::Result<Vec<()>> = readiness.iter().collect();
    if outcomes?.len() < signals.len() {
        return Err(io::Error::other("a serving thread panicked"));
    }
    for signal in signals {
        // A thread that has ended since has told [`Threads`].
        let _ = signal.send(());
    }
    Ok(processors.possible.len())
}

/// The queue of each thread that is needed. Queues of processors that are not at work need an entry, but hardly ever
/// see a request.
fn queues(processors: &Processors) -> Vec<u16> {
    let each =
        (URING_THREADS_MAX / processors.online.len()).clamp(URING_QUEUE_THREADS_MIN, URING_QUEUE_THREADS_MAX);
    let threads = |queue: &u16| match processors.online.contains(queue) {
        true => each,
        false => 1,
    };
    processors
        .possible
        .iter()
        .flat_map(|queue| std::iter::repeat_n(*queue, threads(queue)))
        .collect()
}

/// What one thread serves.
struct Server {
    queue: u16,
    device: OwnedFd,
    operations: Arc<Operations>,
}

impl Server {
    /// Serves until the filesystem is unmounted; reports by `ready` when the kernel has the entry, or will not, and then
    /// waits for the word to go on: none comes where another thread has failed.
    fn run(self, ready: mpsc::Sender<io::Result<()>>, may_go: &mpsc::Receiver<()>) -> io::Result<()> {
        stay_near(self.queue);
        let mut ring = None;
        let outcome = self.start().map(|started| ring = Some(started));
        // The receiver waits for all threads, until none of them has a sender any more.
        let _ = ready.send(outcome);
        drop(ready);
        match (ring, may_go.recv()) {
            (Some(ring), Ok(())) => self.serve(ring),
            _ => Ok(()),
        }
    }

    fn start(&self) -> io::Result<Ring> {
        let mut ring = Ring::new(self.device.as_fd(), self.queue, FUSE_WRITE_MAX as usize)?;
        ring.register()?;
        Ok(ring)
    }

    fn serve(&self, mut ring: Ring) -> io::Result<()> {
        while ring.wait()? {
            let answer = dispatch(&self.operations, ring.request());
            ring.answer(answer)?;
        }
        Ok(())
    }
}

/// Keeps the thread on the processor whose queue it serves, where it may run there.
fn stay_near(queue: u16) {
    let this_thread = Pid::from_raw(0);
    let processor = usize::from(queue);
    let may_run = sched_getaffinity(this_thread).and_then(|allowed| allowed.is_set(processor));
    let mut alone = CpuSet::new();
    let bound = matches!(may_run, Ok(true))
        && alone.set(processor).is_ok()
        && sched_setaffinity(this_thread, &alone).is_ok();
    if !bound {
        debug!("queue {queue} is served from other processors");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_at_work_have_more_threads() {
        let processors = Processors {
            possible: (0..4).collect(),
            online: [0, 1].into(),
        };
        let count = |queue| queues(&processors).iter().filter(|&&q| q == queue).count();
        assert_eq!(count(0), URING_QUEUE_THREADS_MAX);
        assert_eq!((count(2), count(3)), (1, 1));
        let many = Processors {
            possible: (0..256).collect(),
            online: (0..256).collect(),
        };
        assert_eq!(queues(&many).len(), 256 * URING_QUEUE_THREADS_MIN);
    }
}
