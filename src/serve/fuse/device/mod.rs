//! The classic transport: threads read requests from /dev/fuse and write the answers to it.

mod buffer;
mod channel;
mod clone;
mod turns;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::dispatch::{dispatch, is_answered};
use super::operations::Operations;
use super::threads::Threads;
use crate::limits::FUSE_THREADS_MAX;
use crate::linger::{LINGER, stay_awake};
use buffer::Buffer;
use channel::{Channel, Taken};
use turns::{Place, Turns};

/// How long forgotten inodes may gather.
const FORGET_REST: Duration = Duration::from_millis(2);
/// How long a thread forgets what has gathered before it rests again.
const FORGET_RUN: Duration = Duration::from_micros(200);

/// Serves a mount by the device: with threads enough to use the machine; two at least, so that a long request does not
/// stop the others.
///
/// # Errors
/// Where the system has not enough memory, descriptors or threads.
pub(super) fn start(device: &OwnedFd, operations: &Arc<Operations>, threads: &mut Threads) -> io::Result<()> {
    let cores = thread::available_parallelism().map_or(2, usize::from);
    let turns = Arc::new(Turns::new());
    for number in 0..cores.clamp(2, FUSE_THREADS_MAX) {
        let server = Server::new(device, operations)?;
        let turns = InTurns(Arc::clone(&turns));
        threads.spawn(format!("fuse-{number}"), move || {
            server.serve(|channel, space| turns.next(channel, space))
        })?;
    }
    Ok(())
}

/// Serves what comes by the device where all else comes over io_uring: FORGET and INTERRUPT.
///
/// # Errors
/// As [`start`].
pub(super) fn start_beside_uring(
    device: &OwnedFd,
    operations: &Arc<Operations>,
    threads: &mut Threads,
) -> io::Result<()> {
    let server = Server::new(device, operations)?;
    let mut rests = WithRests(Instant::now());
    threads.spawn("fuse-forget".into(), move || {
        server.serve(|channel, space| rests.next(channel, space))
    })
}

/// One thread's share in serving.
struct Server {
    channel: Channel,
    buffer: Buffer,
    operations: Arc<Operations>,
}

impl Server {
    fn new(device: &OwnedFd, operations: &Arc<Operations>) -> io::Result<Self> {
        Ok(Self {
            channel: Channel::to(device)?,
            buffer: Buffer::new()?,
            operations: Arc::clone(operations),
        })
    }

    /// Answers what `next` takes from the channel, until it takes nothing more.
    fn serve(mut self, mut next: impl FnMut(&Channel, &mut [u8]) -> Next) -> io::Result<()> {
        while let Some(len) = next(&self.channel, self.buffer.space())? {
            self.answer(len)?;
        }
        Ok(())
    }

    fn answer(&mut self, len: usize) -> io::Result<()> {
        let request = self.buffer.request(len)?;
        let (operation, unique) = (request.header.opcode, request.header.unique);
        let answer = dispatch(&self.operations, request);
        if is_answered(operation) {
            let answer = answer.map(|len| self.buffer.answer(operation, len));
            self.channel.answer(unique, answer);
        }
        Ok(())
    }
}

/// Length of the next request; `None` when the filesystem is unmounted.
type Next = io::Result<Option<usize>>;

/// A thread that takes turns with others; when it ends, for whatever reason, those that stand by end too.
struct InTurns(Arc<Turns>);

impl InTurns {
    fn next(&self, channel: &Channel, space: &mut [u8]) -> Next {
        loop {
            let mut taken = channel.take(space)?;
            if let Taken::Nothing = taken {
                taken = self.wait(channel, space)?;
            }
            match taken {
                Taken::Request(len) => return Ok(Some(len)),
                Taken::End => return Ok(None),
                Taken::Nothing => {}
            }
        }
    }

    fn wait(&self, channel: &Channel, space: &mut [u8]) -> io::Result<Taken> {
        let mut place = self.0.wait(Instant::now());
        if place == Place::Awake {
            let awake = stay_awake(LINGER, || match channel.take(space) {
                Ok(Taken::Nothing) => None,
                taken => Some(taken),
            });
            match self.0.tire(awake) {
                Ok(taken) => return taken,
                Err(next) => place = next,
            }
        }
        if place == Place::StandBy {
            return Ok(match self.0.stand_by() {
                true => Taken::Nothing,
                false => Taken::End,
            });
        }
        channel.sleep()?;
        self.0.wake();
        Ok(Taken::Nothing)
    }
}

impl Drop for InTurns {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A thread for FORGET alone, with the time of its last rest. One that waits for the next would be woken, often from
/// another processor, for each file that a program removes: while it rests they gather to one batch.
struct WithRests(Instant);

impl WithRests {
    fn next(&mut self, channel: &Channel, space: &mut [u8]) -> Next {
        if self.0.elapsed() > FORGET_RUN {
            thread::sleep(FORGET_REST);
            self.0 = Instant::now();
        }
        loop {
            match channel.take(space)? {
                Taken::Request(len) => return Ok(Some(len)),
                Taken::End => return Ok(None),
                Taken::Nothing => channel.sleep()?,
            }
        }
    }
}
