//! Requests of a well-behaved driver, laid out in several ways.

use super::machine::{AVAILABLE, DATA, MEMORY_START, Machine, NO_STATUS, QUEUE_BYTES};
use super::wire::{Descriptor, QUEUE_SIZE, encoded, flag, kind, linked, status};

/// Data of one request at most: a status comes behind them.
pub const DATA_MAX: usize = (QUEUE_BYTES - DATA - 512) as usize;
/// Requests that [`Machine::read_pages`] has under way at most.
pub const DEPTH_MAX: usize = QUEUE_SIZE as usize / 3;
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

impl Machine {
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
    /// Reads pages of 4096 bytes, `depth` requests at a time (1 to [`DEPTH_MAX`]), and shows each as it comes.
    ///
    /// # Panics
    /// Where a request fails, or no answer comes.
    pub fn read_pages(
        &mut self,
        queue: usize,
        pages: &[u64],
        depth: usize,
        mut seen: impl FnMut(u64, &[u8]),
    ) {
        assert!((1..=DEPTH_MAX).contains(&depth), "a depth of {depth}");
        let mut slots = vec![0; depth];
        let mut free: Vec<usize> = (0..depth).collect();
        let mut waiting = pages.iter();
        loop {
            let mut posted = 0;
            while let (Some(&slot), Some(&page)) = (free.last(), waiting.as_slice().first()) {
                (slots[slot], posted) = (page, posted + 1);
                self.post_page(queue, slot, page, posted);
                free.pop();
                waiting.next();
            }
            self.publish(queue, posted);
            if free.len() == depth {
                return;
            }
            self.await_used(queue);
            while self.used_count(queue) != self.queues[queue].used {
                let slot = usize::try_from(self.take_used(queue).0 / 3).expect("a place fits");
                let (_, status_at, _) = self.request_addresses(queue);
                assert_eq!(self.peek(status_at + slot as u64, 1), [status::OK]);
                seen(
                    slots[slot],
                    &self.peek(self.data_address(queue) + 4096 * slot as u64, 4096),
                );
                free.push(slot);
            }
        }
    }

    /// Lays a read out in the memory and the descriptors of a slot, as the `number`th that is not published.
    fn post_page(&mut self, queue: usize, slot: usize, page: u64, number: u16) {
        let (header, status_at, _) = self.request_addresses(queue);
        let place = slot as u64;
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&(page * 8).to_le_bytes());
        self.poke(header + 16 * place, &bytes);
        self.poke(status_at + place, &[NO_STATUS]);
        let first = 3 * slot as u16;
        let mut chain = linked(&[
            (header + 16 * place, 16, false),
            (self.data_address(queue) + 4096 * place, 4096, true),
            (status_at + place, 1, true),
        ]);
        chain.iter_mut().for_each(|part| part.next += first);
        let area = MEMORY_START + QUEUE_BYTES * queue as u64;
        self.poke(area + 16 * u64::from(first), &encoded(&chain));
        let at = self.queues[queue].available.wrapping_add(number - 1) % QUEUE_SIZE;
        self.poke(area + AVAILABLE + 4 + 2 * u64::from(at), &first.to_le_bytes());
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
