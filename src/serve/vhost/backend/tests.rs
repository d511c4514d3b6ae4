//! Tests of what a VMM cannot bring about at will: an end in the middle of a request.

use std::mem::ManuallyDrop;
use std::sync::{Arc, OnceLock};

use virtio_bindings::virtio_blk::{VIRTIO_BLK_S_OK, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES};
use vm_memory::{GuestAddress, GuestMemoryAtomic};

use super::super::config::SECTOR;
use super::*;
use crate::clock::SystemClock;
use crate::fs::{Volume, VolumeConfig};
use crate::grid::{Grid, GridConfig};
use crate::image::Images;
use crate::limits::PAGE_SIZE;
use crate::vfs::{Caller, Ino, NewName, NewNode, SetAttr, Vfs};

const SIZE: u64 = 1 << 20;
const PAGE: u64 = PAGE_SIZE;

// The guest's memory: rings, and a page for each request's header, status and data.
const DESCRIPTORS: u64 = 0;
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
const REQUESTS: u64 = 0x10000;
const STATUS: u64 = 0x800;
const DATA: u64 = 0x1000;
const REQUEST_BYTES: u64 = 0x2000;
const QUEUE_SIZE: u16 = 16;
const NO_STATUS: u8 = 0xee;

/// An image `disk`, and who is closed as soon as others are told of a change.
struct Disk {
    images: Arc<Images>,
    closed_on_change: Arc<OnceLock<Arc<Backend>>>,
}

fn disk() -> Disk {
    let grid = Grid::new(GridConfig::with_size(16 << 20)).expect("the budget is fine");
    let namespace = grid.create_namespace("drive", None).expect("a fresh name");
    let fs =
        Volume::new(&grid, namespace, Arc::new(SystemClock), VolumeConfig::default()).expect("a root fits");
    let make = |parent, name: &[u8], node| {
        let at = NewName {
            parent,
            name,
            mode: 0o755,
            umask: 0,
        };
        fs.create(Caller::default(), at, node).expect("there is room").ino
    };
    let directory = make(Ino::ROOT, b"images", NewNode::Directory);
    let file = make(directory, b"disk", NewNode::Regular);
    let size = SetAttr {
        size: Some(SIZE),
        ..SetAttr::default()
    };
    fs.setattr(Caller::default(), file, &size).expect("a hole fits");
    let closed_on_change: Arc<OnceLock<Arc<Backend>>> = Arc::default();
    let closed = Arc::clone(&closed_on_change);
    let images = Images::new(fs, false, move |_| {
        if let Some(backend) = closed.get() {
            backend.close();
        }
    });
    Disk {
        images,
        closed_on_change,
    }
}

impl Disk {
    fn serve(&self, memory: &Memory) -> Arc<Backend> {
        let image = self.images.open(b"disk").expect("it can be read");
        let device = Device::new(image.expect("it is there"), "disk");
        Arc::new(Backend::new(device, memory.clone(), 1).expect("there are descriptors"))
    }

    fn bytes(&self, offset: u64) -> Vec<u8> {
        let image = self.images.open(b"disk").expect("it can be read");
        let mut bytes = vec![0; PAGE as usize];
        let read = image.expect("it is there").read(offset, &mut bytes);
        read.expect("nothing is damaged");
        bytes
    }
}

fn memory() -> Memory {
    let range = [(GuestAddress(0), 1 << 20)];
    GuestMemoryAtomic::new(GuestMemoryMmap::from_ranges(&range).expect("a megabyte is there"))
}

fn poke(memory: &Memory, address: u64, bytes: &[u8]) {
    let memory = memory.memory();
    let written = memory.write_slice(bytes, GuestAddress(address));
    written.expect("the guest has a megabyte");
}

fn peek<const N: usize>(memory: &Memory, address: u64) -> [u8; N] {
    let mut bytes = [0; N];
    let read = memory.memory().read_slice(&mut bytes, GuestAddress(address));
    read.expect("the guest has a megabyte");
    bytes
}

/// Makes the `number`th request since the beginning available.
fn submit(memory: &Memory, number: u16, kind: u32, sector: u64, data: &[u8]) {
    let place = REQUESTS + REQUEST_BYTES * u64::from(number);
    let header = [u64::from(kind).to_le_bytes(), sector.to_le_bytes()].concat();
    poke(memory, place, &header);
    poke(memory, place + STATUS, &[NO_STATUS]);
    poke(memory, place + DATA, data);
    let parts = [
        (place, 16, 1),
        (place + DATA, data.len() as u32, 1),
        (place + STATUS, 1, 2),
    ];
    for (at, (address, len, flags)) in (3 * number..).zip(parts) {
        let mut descriptor = address.to_le_bytes().to_vec();
        descriptor.extend(len.to_le_bytes());
        descriptor.extend(u16::to_le_bytes(flags));
        descriptor.extend((at + 1).to_le_bytes());
        poke(memory, DESCRIPTORS + 16 * u64::from(at), &descriptor);
    }
    let entry = AVAILABLE + 4 + 2 * u64::from(number);
    poke(memory, entry, &(3 * number).to_le_bytes());
    poke(memory, AVAILABLE + 2, &(number + 1).to_le_bytes());
}

fn used_count(memory: &Memory) -> u16 {
    u16::from_le_bytes(peek(memory, USED + 2))
}

fn status(memory: &Memory, number: u16) -> u8 {
    let [status] = peek(memory, REQUESTS + REQUEST_BYTES * u64::from(number) + STATUS);
    status
}

/// The rings in that memory, as a VMM sets them up that has seen no request done.
fn ring(memory: &Memory) -> Ring {
    let ring = Ring::new(memory.clone(), QUEUE_SIZE).expect("16 is a size");
    ring.set_queue_size(QUEUE_SIZE);
    let placed = ring.set_queue_info(DESCRIPTORS, AVAILABLE, USED);
    placed.expect("they are aligned");
    ring.set_queue_ready(true);
    ring.set_enabled(true);
    ring
}

/// `struct virtio_blk_discard_write_zeroes` of a page.
fn page_of_zeros(offset: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&(offset / SECTOR).to_le_bytes());
    bytes[8..12].copy_from_slice(&((PAGE / SECTOR) as u32).to_le_bytes());
    bytes
}

#[test]
fn what_the_end_cuts_off_counts_as_never_taken_and_is_done_by_the_next_one() {
    let (disk, memory) = (disk(), memory());
    let full = [7; PAGE as usize];
    let image = disk.images.open(b"disk").expect("it can be read");
    let image = image.expect("it is there");
    for offset in [0, PAGE] {
        image.write(offset, &full).expect("there is room");
    }
    let zeros = [page_of_zeros(0), page_of_zeros(PAGE)].concat();
    submit(&memory, 0, VIRTIO_BLK_T_WRITE_ZEROES, 0, &zeros);
    submit(&memory, 1, VIRTIO_BLK_T_OUT, 2 * PAGE / SECTOR, &full);

    let (cut, rings) = (disk.serve(&memory), ring(&memory));
    let set = disk.closed_on_change.set(Arc::clone(&cut));
    assert!(set.is_ok(), "it is set once");
    cut.serve(&cut.queues[0], &rings);
    assert_eq!(disk.bytes(0), [0; PAGE as usize], "the change that ended it");
    assert_eq!(disk.bytes(PAGE), full, "the same request goes no further");
    assert_eq!(disk.bytes(2 * PAGE), [0; PAGE as usize], "nor does the next one");
    assert_eq!((used_count(&memory), rings.queue_next_avail()), (0, 0));
    assert_eq!([0, 1].map(|number| status(&memory, number)), [NO_STATUS; 2]);

    let (next, rings) = (disk.serve(&memory), ring(&memory));
    next.serve(&next.queues[0], &rings);
    assert_eq!((used_count(&memory), rings.queue_next_avail()), (2, 2));
    let done = VIRTIO_BLK_S_OK as u8;
    assert_eq!([0, 1].map(|number| status(&memory, number)), [done; 2]);
    assert_eq!(disk.bytes(PAGE), [0; PAGE as usize]);
    assert_eq!(disk.bytes(2 * PAGE), full);
}

#[test]
fn each_thread_that_is_started_can_be_ended() {
    let (disk, memory) = (disk(), memory());
    let backend = disk.serve(&memory);
    let (consumer, _notifier) = backend.exit_event(0).expect("there is one queue");
    // As the library has it, which does not close it.
    let consumer = ManuallyDrop::new(consumer);
    assert!(consumer.consume().is_err(), "it has not come yet");
    backend.close();
    consumer.consume().expect("it has come");
    assert!(backend.exit_event(1).is_none(), "there is no other queue");
}
