//! The rings of a queue, as a driver uses them: whole requests, and pieces of bad ones.

use std::sync::atomic::{Ordering, fence};

use super::machine::{
    AVAILABLE, DATA, HEADER, MEMORY_START, Machine, NO_STATUS, QUEUE_BYTES, STATUS, TABLE, USED,
};
use super::wire::{Descriptor, QUEUE_SIZE, encoded, feature};

impl Machine {
    /// Where a queue's data begin in the guest's memory.
    pub fn data_address(&self, queue: usize) -> u64 {
        MEMORY_START + QUEUE_BYTES * queue as u64 + DATA
    }

    /// Where a queue's headers, status and table of descriptors are in the guest's memory.
    pub fn request_addresses(&self, queue: usize) -> (u64, u64, u64) {
        let area = MEMORY_START + QUEUE_BYTES * queue as u64;
        (area + HEADER, area + STATUS, area + TABLE)
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
        self.make_all_available(queue, &[head]);
    }

    /// Makes the chains that begin at `heads` available at once, and kicks.
    ///
    /// # Panics
    /// Where the event cannot be sent.
    pub fn make_all_available(&mut self, queue: usize, heads: &[u16]) {
        let ring = MEMORY_START + QUEUE_BYTES * queue as u64 + AVAILABLE;
        let mut count = self.queues[queue].available;
        for head in heads {
            self.poke(ring + 4 + 2 * u64::from(count % QUEUE_SIZE), &head.to_le_bytes());
            count = count.wrapping_add(1);
        }
        self.set_available(queue, count);
    }

    /// Waits for the disk to say that requests are done.
    ///
    /// # Panics
    /// Where it says nothing.
    pub fn expect_signal(&self, queue: usize) {
        assert!(self.queues[queue].is_called(), "no signal on queue {queue}");
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
        self.await_used(queue);
        self.take_used(queue).1
    }

    /// The status that the disk has written last.
    pub fn status(&self, queue: usize) -> u8 {
        self.peek(self.request_addresses(queue).1, 1)[0]
    }
    /// Makes requests available, and kicks if the disk asks for it.
    pub(super) fn publish(&mut self, queue: usize, count: u16) {
        let area = MEMORY_START + QUEUE_BYTES * queue as u64;
        let before = self.queues[queue].available;
        let after = before.wrapping_add(count);
        self.queues[queue].available = after;
        fence(Ordering::SeqCst);
        self.poke(area + AVAILABLE + 2, &after.to_le_bytes());
        fence(Ordering::SeqCst);
        let event = self.peek(area + USED + 4 + 8 * u64::from(QUEUE_SIZE), 2);
        let event = u16::from_le_bytes([event[0], event[1]]);
        let wanted = after.wrapping_sub(event).wrapping_sub(1) < after.wrapping_sub(before);
        if wanted || self.features & feature::EVENT_IDX == 0 {
            self.queues[queue].kick.write(1).expect("events can be sent");
        }
    }

    /// Waits until a request is done.
    pub(super) fn await_used(&mut self, queue: usize) {
        let ring = MEMORY_START + QUEUE_BYTES * queue as u64 + AVAILABLE;
        let used = self.queues[queue].used;
        self.poke(ring + 4 + 2 * u64::from(QUEUE_SIZE), &used.to_le_bytes());
        fence(Ordering::SeqCst);
        while self.used_count(queue) == used {
            assert!(self.queues[queue].is_called(), "no answer on queue {queue}");
        }
    }

    /// Passes over the next request that is done; returns its first place in the table, and the length that is told.
    pub(super) fn take_used(&mut self, queue: usize) -> (u32, u32) {
        let ring = &mut self.queues[queue];
        let place = u64::from(ring.used % QUEUE_SIZE);
        ring.used = ring.used.wrapping_add(1);
        fence(Ordering::SeqCst);
        let bytes = self.peek(
            MEMORY_START + QUEUE_BYTES * queue as u64 + USED + 4 + 8 * place,
            8,
        );
        let number =
            |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes are 4 bytes"));
        (number(0), number(4))
    }
}
