//! The queues of a disk: requests are taken from them, done, and put back, one thread for each queue.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use parking_lot::Mutex;
use tracing::warn;
use vhost::vhost_user::message::VhostUserProtocolFeatures;
use vhost_user_backend::{VhostUserBackend, VringState, VringT};
use virtio_queue::{QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddressSpace, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{EventConsumer, EventNotifier};

use super::chain::{Chain, Malformed};
use super::config;
use super::exit::Exit;
use super::request::{Buffer, Device};
use super::ring::{Memory, Ring};
use crate::limits::{VHOST_BATCH_MAX, VHOST_QUEUE_SIZE_MAX};

type Vring = VringState<Memory>;

/// A disk while one VMM is connected.
pub(super) struct Backend {
    device: Device,
    memory: Memory,
    queues: Vec<Queue>,
    exit: Exit,
    /// Set when the operator has been told of the guest: it could fill the log else.
    was_reported: AtomicBool,
}

/// What a queue has beside its rings.
#[derive(Default)]
struct Queue {
    /// Set where the guest has broken the rules, until its driver or the VMM sets the queue up anew.
    is_broken: AtomicBool,
    work: Mutex<Work>,
}

/// Memory that one request after the other uses.
#[derive(Default)]
struct Work {
    chain: Chain,
    buffer: Buffer,
}

/// What comes after a batch of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// There are more.
    Batch,
    /// The guest will kick.
    Wait,
}

impl Backend {
    /// The guest's memory comes into `memory` when the VMM sends it.
    ///
    /// # Errors
    /// Where the process has too many descriptors.
    pub(super) fn new(device: Device, memory: Memory, queues: u16) -> io::Result<Self> {
        Ok(Self {
            device,
            memory,
            queues: (0..queues).map(|_| Queue::default()).collect(),
            exit: Exit::new(queues)?,
            was_reported: AtomicBool::new(false),
        })
    }

    /// Cuts off what the queues' threads are at, and ends them.
    pub(super) fn close(&self) {
        self.device.close();
        self.exit.notify();
    }

    /// Serves a queue until there is nothing in it, or it breaks.
    fn serve(&self, queue: &Queue, ring: &Ring) {
        let mut was_idle = false;
        while !self.device.is_closing() && !queue.is_broken.load(Ordering::Acquire) {
            match self.serve_batch(queue, ring, was_idle) {
                (done, Next::Batch) => was_idle = done == 0,
                (_, Next::Wait) => return,
            }
            // The lock is not fair: the VMM may wait to stop the ring.
            thread::yield_now();
        }
    }

    /// Does some requests, or gives the queue up. The ring's lock is held meanwhile, so that the VMM, when it stops the
    /// ring, finds all done that was taken, and no queue is given up that it has set up anew.
    fn serve_batch(&self, queue: &Queue, ring: &Ring, was_idle: bool) -> (usize, Next) {
        let vring = &mut *ring.get_mut();
        match self.take_batch(queue, vring) {
            // What is announced twice and is not there will never be.
            Ok((0, Next::Batch)) if was_idle => self.give_up(queue, Malformed("the ring names no request")),
            Ok(served) => return served,
            Err(malformed) => self.give_up(queue, malformed),
        }
        (0, Next::Wait)
    }

    fn give_up(&self, queue: &Queue, malformed: Malformed) {
        queue.is_broken.store(true, Ordering::Release);
        if !self.was_reported.swap(true, Ordering::AcqRel) {
            warn!(
                "a queue of disk {} is stopped: {}",
                self.device.name(),
                malformed.0
            );
        }
    }

    /// Does some requests, and tells the guest, also of those before a malformed one; returns how many.
    fn take_batch(&self, queue: &Queue, vring: &mut Vring) -> Result<(usize, Next), Malformed> {
        let memory = self.memory.memory();
        if !vring.is_enabled() || !vring.get_queue().ready() {
            return Ok((0, Next::Wait));
        }
        if !vring.get_queue().is_valid(&*memory) {
            return Err(Malformed("its rings are outside of memory"));
        }
        let outside = |_| Malformed("its rings are outside of memory");
        vring.disable_notification().map_err(outside)?;
        let (done, ended) = self.serve_some(&mut queue.work.lock(), &memory, vring);
        if done > 0 && vring.needs_notification().map_err(outside)? {
            // It fails where nobody listens, which then is nobody's loss.
            let _ = vring.signal_used_queue();
        }
        ended?;
        if self.device.is_closing() {
            // The rings may be another one's by now.
            return Ok((done, Next::Wait));
        }
        if done == VHOST_BATCH_MAX || vring.enable_notification().map_err(outside)? {
            return Ok((done, Next::Batch));
        }
        Ok((done, Next::Wait))
    }

    /// Does requests up to the bound of a batch; returns how many, and why no more where one is malformed.
    fn serve_some(
        &self,
        work: &mut Work,
        memory: &GuestMemoryMmap,
        vring: &mut Vring,
    ) -> (usize, Result<(), Malformed>) {
        for done in 0..VHOST_BATCH_MAX {
            match self.serve_one(work, memory, vring) {
                Ok(true) => {}
                Ok(false) => return (done, Ok(())),
                Err(malformed) => return (done, Err(malformed)),
            }
        }
        (VHOST_BATCH_MAX, Ok(()))
    }

    /// Does the next request; `false` where there is none, or it is cut off.
    fn serve_one(
        &self,
        work: &mut Work,
        memory: &GuestMemoryMmap,
        vring: &mut Vring,
    ) -> Result<bool, Malformed> {
        if self.device.is_closing() {
            return Ok(false);
        }
        let mut available = vring
            .get_queue_mut()
            .iter(memory)
            .map_err(|_| Malformed("its ring has more requests than places"))?;
        let Some(descriptors) = available.next() else {
            return Ok(false);
        };
        let head = descriptors.head_index();
        work.chain.take(memory, descriptors)?;
        let Some(outcome) = self.device.perform(memory, &work.chain, &mut work.buffer) else {
            let queue = vring.get_queue_mut();
            queue.set_next_avail(queue.next_avail().wrapping_sub(1));
            return Ok(false);
        };
        memory
            .write_obj(outcome.status, work.chain.status)
            .map_err(|_| Malformed("a request's status is outside of memory"))?;
        vring
            .add_used(head, outcome.written)
            .map_err(|_| Malformed("its rings are outside of memory"))?;
        Ok(true)
    }
}

impl VhostUserBackend for Backend {
    type Bitmap = ();
    type Vring = Ring;

    fn num_queues(&self) -> usize {
        self.queues.len()
    }

    fn max_queue_size(&self) -> usize {
        VHOST_QUEUE_SIZE_MAX.into()
    }

    fn features(&self) -> u64 {
        config::features(self.device.read_only())
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        config::protocol_features()
    }

    /// The rings know it.
    fn set_event_idx(&self, _enabled: bool) {}

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        config::read(self.device.capacity(), self.queues.len() as u16, offset, size)
    }

    /// `memory` is the one that this has been made with.
    fn update_memory(&self, _memory: Memory) -> io::Result<()> {
        Ok(())
    }

    fn queues_per_thread(&self) -> Vec<u64> {
        (0..self.queues.len()).map(|queue| 1 << queue).collect()
    }

    fn stop_vring(&self, index: u32) -> io::Result<()> {
        if let Some(queue) = self.queues.get(index as usize) {
            queue.is_broken.store(false, Ordering::Release);
        }
        Ok(())
    }

    fn exit_event(&self, _thread: usize) -> Option<(EventConsumer, EventNotifier)> {
        self.exit.lend()
    }

    /// A thread has one queue, the one of its own number. An error ends the thread.
    fn handle_event(&self, _event: u16, _events: EventSet, vrings: &[Ring], thread: usize) -> io::Result<()> {
        if let (Some(queue), [ring]) = (self.queues.get(thread), vrings) {
            self.serve(queue, ring);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
