//! A VMM without a machine: it connects, hands memory over, and starts and stops queues.

use std::error::Error;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::sys::memfd::{MFdFlags, memfd_create};
use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserProtocolFeatures, VhostUserVirtioFeatures,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::wire::{Layout, QUEUE_SIZE};
use crate::sys::Mapping;

/// Bytes of memory for a queue.
pub const QUEUE_BYTES: u64 = 4 << 20;
/// Where the guest's memory begins in its own eyes.
pub const MEMORY_START: u64 = 1 << 30;
/// Where it would begin in the VMM's memory: a name for the disk, nothing else.
const USER_START: u64 = 0x7f00_0000_0000;
pub(super) const AVAILABLE: u64 = 0x2000;
pub(super) const USED: u64 = 0x4000;
pub(super) const HEADER: u64 = 0x8000;
pub(super) const STATUS: u64 = 0x9000;
pub(super) const TABLE: u64 = 0xa000;
/// Where a queue's data begin.
pub(super) const DATA: u64 = 0x10000;
/// What a status is before the disk writes it.
pub(super) const NO_STATUS: u8 = 0xee;
/// Upper bound for what should take milliseconds.
const PATIENCE_MS: i32 = 20_000;
/// A virtual machine without a processor, connected to a disk.
pub struct Machine {
    frontend: Frontend,
    memory: Mapping,
    pub(super) queues: Vec<Queue>,
    pub(super) features: u64,
    /// How the next requests are laid out.
    pub layout: Layout,
}

/// A queue's events, and how far its rings are.
pub(super) struct Queue {
    pub(super) kick: EventFd,
    call: EventFd,
    /// Waits for `call`.
    calls: Epoll,
    pub(super) available: u16,
    pub(super) used: u16,
}
impl Machine {
    /// Connects with so many queues, and takes all features that the disk has.
    ///
    /// # Panics
    /// Where that fails.
    pub fn connect(socket: &Path, queues: usize) -> Self {
        Self::try_connect(socket, queues, u64::MAX)
            .unwrap_or_else(|error| panic!("{}: {error}", socket.display()))
    }

    /// As [`Machine::connect`], with no other features than `wanted`.
    ///
    /// # Errors
    /// Where the disk refuses something, or nobody listens.
    ///
    /// # Panics
    /// Where the disk lacks a part of the protocol that QEMU needs.
    pub fn try_connect(socket: &Path, queues: usize, wanted: u64) -> Result<Self, Box<dyn Error>> {
        let mut frontend = Frontend::connect(socket, queues as u64)?;
        let features = agree(&mut frontend, wanted)?;
        let file = File::from(memfd_create("guest", MFdFlags::MFD_CLOEXEC)?);
        let len = QUEUE_BYTES * queues as u64;
        file.set_len(len)?;
        frontend.set_mem_table(&[VhostUserMemoryRegionInfo {
            guest_phys_addr: MEMORY_START,
            memory_size: len,
            userspace_addr: USER_START,
            mmap_offset: 0,
            mmap_handle: file.as_raw_fd(),
        }])?;
        let mut machine = Self {
            frontend,
            memory: Mapping::new(&file, 0, usize::try_from(len)?, true)?,
            queues: Vec::new(),
            features,
            layout: Layout::default(),
        };
        for queue in 0..queues {
            machine.queues.push(Queue::new()?);
            machine.try_start_queue(queue)?;
        }
        Ok(machine)
    }

    /// The features that were agreed on.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// Queues that the disk has.
    ///
    /// # Panics
    /// Where it does not say.
    pub fn queues_max(&mut self) -> u64 {
        self.frontend.get_queue_num().expect("the disk has queues")
    }

    /// A part of the configuration space.
    ///
    /// # Panics
    /// Where the disk does not tell it.
    pub fn config(&mut self, offset: u32, len: u32) -> Vec<u8> {
        let space = vec![0; len as usize];
        let flags = VhostUserConfigFlags::empty();
        let told = self.frontend.get_config(offset, len, flags, &space);
        told.expect("the disk has a configuration space").1
    }

    /// Sets a queue up from its beginning.
    ///
    /// # Panics
    /// Where the disk does not take it.
    pub fn start_queue(&mut self, queue: usize) {
        self.try_start_queue(queue).expect("the disk takes the queue");
    }

    fn try_start_queue(&mut self, queue: usize) -> vhost::Result<()> {
        let area = QUEUE_BYTES * queue as u64;
        self.memory.write(area as usize, &vec![0; HEADER as usize]);
        let (ring, frontend) = (&mut self.queues[queue], &mut self.frontend);
        (ring.available, ring.used) = (0, 0);
        let place = VringConfigData {
            queue_max_size: QUEUE_SIZE,
            queue_size: QUEUE_SIZE,
            flags: 0,
            desc_table_addr: USER_START + area,
            avail_ring_addr: USER_START + area + AVAILABLE,
            used_ring_addr: USER_START + area + USED,
            log_addr: None,
        };
        frontend.set_vring_num(queue, QUEUE_SIZE)?;
        frontend.set_vring_addr(queue, &place)?;
        frontend.set_vring_base(queue, 0)?;
        frontend.set_vring_call(queue, &ring.call)?;
        frontend.set_vring_kick(queue, &ring.kick)?;
        frontend.set_vring_enable(queue, true)
    }

    /// Stops a queue; returns how many requests the disk has taken from it.
    ///
    /// # Panics
    /// Where the disk does not answer.
    pub fn stop_queue(&mut self, queue: usize) -> u32 {
        let stopped = self.frontend.get_vring_base(queue);
        stopped.expect("the disk stops queues")
    }
    /// One past the last byte of the guest's memory.
    pub fn memory_end(&self) -> u64 {
        MEMORY_START + QUEUE_BYTES * self.queues.len() as u64
    }

    /// Writes into the guest's memory.
    ///
    /// # Panics
    /// Where there is none.
    pub fn poke(&mut self, address: u64, bytes: &[u8]) {
        self.memory.write((address - MEMORY_START) as usize, bytes);
    }

    /// Reads from the guest's memory.
    ///
    /// # Panics
    /// Where there is none.
    pub fn peek(&self, address: u64, len: usize) -> Vec<u8> {
        self.memory.read_part((address - MEMORY_START) as usize, len)
    }
}

/// Agrees on features and parts of the protocol; returns the features.
fn agree(frontend: &mut Frontend, wanted: u64) -> vhost::Result<u64> {
    frontend.set_owner()?;
    let parts = VhostUserProtocolFeatures::CONFIG
        | VhostUserProtocolFeatures::MQ
        | VhostUserProtocolFeatures::REPLY_ACK;
    let protocol = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
    let features = frontend.get_features()? & (wanted | protocol);
    frontend.set_features(features)?;
    let offered = frontend.get_protocol_features()?;
    assert!(offered.contains(parts), "{offered:?}");
    frontend.set_protocol_features(parts)?;
    frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
    Ok(features)
}
impl Queue {
    fn new() -> io::Result<Self> {
        let (kick, call) = (EventFd::new(EFD_NONBLOCK)?, EventFd::new(EFD_NONBLOCK)?);
        let calls = Epoll::new()?;
        let event = EpollEvent::new(EventSet::IN, 0);
        calls.ctl(ControlOperation::Add, call.as_raw_fd(), event)?;
        Ok(Self {
            kick,
            call,
            calls,
            available: 0,
            used: 0,
        })
    }

    /// Waits for a notification; `false` where none comes.
    pub(super) fn is_called(&self) -> bool {
        let mut events = [EpollEvent::default()];
        let count = self.calls.wait(PATIENCE_MS, &mut events);
        count.is_ok_and(|count| count > 0) && self.call.read().is_ok()
    }
}
