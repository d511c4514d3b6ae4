//! The VMM and the driver of a vhost-user disk, well behaved or not: one mapping stands for the guest's memory.
//!
//! ```text
//! memory:  QUEUE_BYTES for each queue:  descriptors | available | used | header, status, table | data
//! ```

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

use crate::sys::Mapping;

/// Types of requests (virtio 1.2, 5.2.6).
pub mod kind {
    /// Read.
    pub const IN: u32 = 0;
    /// Write.
    pub const OUT: u32 = 1;
    /// Flush.
    pub const FLUSH: u32 = 4;
    /// Tell the disk's name.
    pub const GET_ID: u32 = 8;
    /// Give memory back.
    pub const DISCARD: u32 = 11;
    /// Make zeros.
    pub const WRITE_ZEROES: u32 = 13;
}

/// How requests end.
pub mod status {
    /// Done.
    pub const OK: u8 = 0;
    /// Failed.
    pub const IOERR: u8 = 1;
    /// Unknown.
    pub const UNSUPP: u8 = 2;
}

/// Bits of features.
pub mod feature {
    /// No writes.
    pub const RO: u64 = 1 << 5;
    /// Discard.
    pub const DISCARD: u64 = 1 << 13;
    /// Write zeroes.
    pub const WRITE_ZEROES: u64 = 1 << 14;
    /// Descriptors in tables of their own.
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// Notifications by index.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// Virtio 1.
    pub const VERSION_1: u64 = 1 << 32;
}

/// Flags of descriptors.
pub mod flag {
    /// Another one follows.
    pub const NEXT: u16 = 1;
    /// The disk writes there.
    pub const WRITE: u16 = 2;
    /// It names a table of descriptors.
    pub const INDIRECT: u16 = 4;
}

/// Descriptors of a queue.
pub const QUEUE_SIZE: u16 = 256;
/// Bytes of memory for a queue.
pub const QUEUE_BYTES: u64 = 4 << 20;
/// Where the guest's memory begins in its own eyes.
pub const MEMORY_START: u64 = 1 << 30;
/// Where it would begin in the VMM's memory: a name for the disk, nothing else.
const USER_START: u64 = 0x7f00_0000_0000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x4000;
const HEADER: u64 = 0x8000;
const STATUS: u64 = 0x9000;
const TABLE: u64 = 0xa000;
/// Where a queue's data begin.
const DATA: u64 = 0x10000;
/// Data of one request at most: a status comes behind them.
pub const DATA_MAX: usize = (QUEUE_BYTES - DATA - 512) as usize;
/// What a status is before the disk writes it.
const NO_STATUS: u8 = 0xee;
/// Upper bound for what should take milliseconds.
const PATIENCE_MS: i32 = 20_000;

/// `struct virtq_desc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// In the guest's memory.
    pub address: u64,
    /// Bytes.
    pub len: u32,
    /// Of [`flag`].
    pub flags: u16,
    /// Place of the next one.
    pub next: u16,
}

/// What a request moves.
#[derive(Debug, Clone, Copy)]
pub enum Data<'d> {
    /// Bytes to the disk.
    Out(&'d [u8]),
    /// So many bytes from the disk.
    In(usize),
}

/// How the disk has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Of [`status`].
    pub status: u8,
    /// Bytes that it says to have written.
    pub written: u32,
    /// What is where it should have put data.
    pub data: Vec<u8>,
}

/// How requests are laid out.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Bytes of data for each descriptor.
    pub segment_bytes: usize,
    /// Whether header and data, data and status share descriptors where they can.
    pub joined: bool,
    /// Whether descriptors are in a table of their own.
    pub indirect: bool,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            segment_bytes: 65_536,
            joined: false,
            indirect: false,
        }
    }
}

/// A virtual machine without a processor, connected to a disk.
pub struct Machine {
    frontend: Frontend,
    memory: Mapping,
    queues: Vec<Queue>,
    features: u64,
    /// How the next requests are laid out.
    pub layout: Layout,
}

struct Queue {
    kick: EventFd,
    call: EventFd,
    /// Waits for `call`.
    calls: Epoll,
    available: u16,
    used: u16,
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

    /// Has a request done.
    ///
    /// # Panics
    /// Where no answer comes.
    pub fn request(&mut self, queue: usize, kind: u32, sector: u64, data: Data<'_>) -> Answer {
        self.submit(queue, kind, sector, data);
        let written = self.answered(queue);
        self.answer(queue, written, data)
    }

    /// Reads so many bytes.
    ///
    /// # Panics
    /// Where that fails.
    pub fn read(&mut self, queue: usize, offset: u64, len: usize) -> Vec<u8> {
        let answer = self.request(queue, kind::IN, offset / 512, Data::In(len));
        assert_eq!((answer.status, answer.written), (status::OK, len as u32 + 1));
        answer.data
    }

    /// Writes bytes.
    ///
    /// # Panics
    /// Where that fails.
    pub fn write(&mut self, queue: usize, offset: u64, bytes: &[u8]) {
        let answer = self.request(queue, kind::OUT, offset / 512, Data::Out(bytes));
        assert_eq!((answer.status, answer.written), (status::OK, 1));
    }

    /// Discards or makes zeros of ranges of offset, length and flags; returns the status.
    ///
    /// # Panics
    /// Where no answer comes.
    pub fn zero(&mut self, queue: usize, kind: u32, ranges: &[(u64, u64, u32)]) -> u8 {
        let mut bytes = Vec::new();
        for (offset, len, flags) in ranges {
            bytes.extend_from_slice(&(offset / 512).to_le_bytes());
            bytes.extend_from_slice(&((len / 512) as u32).to_le_bytes());
            bytes.extend_from_slice(&flags.to_le_bytes());
        }
        self.request(queue, kind, 0, Data::Out(&bytes)).status
    }

    // Below the level of requests -------------------------------------------------------------------------------

    /// Where a queue's data begin in the guest's memory.
    pub fn data_address(&self, queue: usize) -> u64 {
        MEMORY_START + QUEUE_BYTES * queue as u64 + DATA
    }

    /// Where a queue's headers, status and table of descriptors are in the guest's memory.
    pub fn request_addresses(&self, queue: usize) -> (u64, u64, u64) {
        let area = MEMORY_START + QUEUE_BYTES * queue as u64;
        (area + HEADER, area + STATUS, area + TABLE)
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

    /// Writes a header where a queue has it.
    pub fn poke_header(&mut self, queue: usize, kind: u32, sector: u64) {
        let mut header = [0; 16];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..].copy_from_slice(&sector.to_le_bytes());
        let (address, status, _) = self.request_addresses(queue);
        self.poke(address, &header);
        self.poke(status, &[NO_STATUS]);
    }

    /// Writes descriptors into a queue's table, from the first place on.
    pub fn poke_descriptors(&mut self, queue: usize, descriptors: &[Descriptor]) {
        let table = MEMORY_START + QUEUE_BYTES * queue as u64;
        self.poke(table, &encoded(descriptors));
    }

    /// Makes the chain that begins at `head` available, and kicks.
    ///
    /// # Panics
    /// Where the event cannot be sent.
    pub fn make_available(&mut self, queue: usize, head: u16) {
        let ring = MEMORY_START + QUEUE_BYTES * queue as u64 + AVAILABLE;
        let (count, used) = (self.queues[queue].available, self.queues[queue].used);
        self.poke(ring + 4 + 2 * u64::from(count % QUEUE_SIZE), &head.to_le_bytes());
        // Asks for a notification of the next request that is done.
        self.poke(ring + 4 + 2 * u64::from(QUEUE_SIZE), &used.to_le_bytes());
        self.set_available(queue, count.wrapping_add(1));
    }

    /// Says that so many chains were made available since the beginning, and kicks.
    ///
    /// # Panics
    /// Where the event cannot be sent.
    pub fn set_available(&mut self, queue: usize, count: u16) {
        let ring = MEMORY_START + QUEUE_BYTES * queue as u64 + AVAILABLE;
        self.queues[queue].available = count;
        self.poke(ring + 2, &count.to_le_bytes());
        self.queues[queue].kick.write(1).expect("events can be sent");
    }

    /// How many requests of a queue are done, as the disk says.
    pub fn used_count(&self, queue: usize) -> u16 {
        let ring = MEMORY_START + QUEUE_BYTES * queue as u64 + USED;
        let bytes = self.peek(ring + 2, 2);
        u16::from_le_bytes([bytes[0], bytes[1]])
    }

    /// Waits for the next request that is done; returns the length that the disk tells.
    ///
    /// # Panics
    /// Where none comes.
    pub fn answered(&mut self, queue: usize) -> u32 {
        while self.used_count(queue) == self.queues[queue].used {
            assert!(self.queues[queue].is_called(), "no answer on queue {queue}");
        }
        let ring = &mut self.queues[queue];
        let place = u64::from(ring.used % QUEUE_SIZE);
        ring.used = ring.used.wrapping_add(1);
        let element = MEMORY_START + QUEUE_BYTES * queue as u64 + USED + 4 + 8 * place;
        let bytes = self.peek(element + 4, 4);
        u32::from_le_bytes(bytes.try_into().expect("4 bytes are 4 bytes"))
    }

    /// The status that the disk has written last.
    pub fn status(&self, queue: usize) -> u8 {
        self.peek(self.request_addresses(queue).1, 1)[0]
    }

    fn submit(&mut self, queue: usize, kind: u32, sector: u64, data: Data<'_>) {
        self.poke_header(queue, kind, sector);
        let at = self.data_address(queue);
        match data {
            Data::Out(bytes) => self.poke(at, bytes),
            Data::In(len) => self.poke(at + len as u64, &[NO_STATUS]),
        }
        let mut chain = self.chain(queue, data);
        if self.layout.indirect {
            let (_, _, table) = self.request_addresses(queue);
            self.poke(table, &encoded(&chain));
            chain = vec![Descriptor {
                address: table,
                len: 16 * chain.len() as u32,
                flags: flag::INDIRECT,
                next: 0,
            }];
        }
        self.poke_descriptors(queue, &chain);
        self.make_available(queue, 0);
    }

    /// Header, data, status; joined, the header and the status lie where the data begin and end.
    fn chain(&mut self, queue: usize, data: Data<'_>) -> Vec<Descriptor> {
        let (header, status, _) = self.request_addresses(queue);
        let start = self.data_address(queue);
        let (len, writes) = match data {
            Data::Out(bytes) => (bytes.len(), false),
            Data::In(len) => (len, true),
        };
        let mut parts = vec![(header, 16, false)];
        let mut at = 0;
        while at < len {
            let piece = self.layout.segment_bytes.min(len - at);
            parts.push((start + at as u64, piece, writes));
            at += piece;
        }
        parts.push((status, 1, true));
        if self.layout.joined {
            self.join(queue, &mut parts);
        }
        linked(&parts)
    }

    /// Moves the header before the first data to the disk, or the status behind the last data from it.
    fn join(&mut self, queue: usize, parts: &mut Vec<(u64, usize, bool)>) {
        let (header, ..) = self.request_addresses(queue);
        if parts[1].2 && parts.len() > 2 {
            parts.pop();
            let last = parts.len() - 1;
            parts[last].1 += 1;
        } else if !parts[1].2 {
            let bytes = self.peek(header, 16);
            self.poke(parts[1].0 - 16, &bytes);
            parts[1].0 -= 16;
            parts[1].1 += 16;
            parts.remove(0);
        }
    }

    fn answer(&self, queue: usize, written: u32, data: Data<'_>) -> Answer {
        let start = self.data_address(queue);
        let (data, end) = match data {
            Data::In(len) => (self.peek(start, len), Some(start + len as u64)),
            Data::Out(_) => (Vec::new(), None),
        };
        let status = match end {
            Some(end) if self.layout.joined && end > start => self.peek(end, 1)[0],
            _ => self.status(queue),
        };
        Answer {
            status,
            written,
            data,
        }
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
    fn is_called(&self) -> bool {
        let mut events = [EpollEvent::default()];
        let count = self.calls.wait(PATIENCE_MS, &mut events);
        count.is_ok_and(|count| count > 0) && self.call.read().is_ok()
    }
}

fn encoded(descriptors: &[Descriptor]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for descriptor in descriptors {
        bytes.extend_from_slice(&descriptor.address.to_le_bytes());
        bytes.extend_from_slice(&descriptor.len.to_le_bytes());
        bytes.extend_from_slice(&descriptor.flags.to_le_bytes());
        bytes.extend_from_slice(&descriptor.next.to_le_bytes());
    }
    bytes
}

/// A chain of address, length, and whether the disk writes there.
pub fn linked(parts: &[(u64, usize, bool)]) -> Vec<Descriptor> {
    let last = parts.len().saturating_sub(1);
    let link = |(place, &(address, len, writes)): (usize, &(u64, usize, bool))| Descriptor {
        address,
        len: len as u32,
        flags: if writes { flag::WRITE } else { 0 } | if place < last { flag::NEXT } else { 0 },
        next: if place < last { place as u16 + 1 } else { 0 },
    };
    parts.iter().enumerate().map(link).collect()
}
