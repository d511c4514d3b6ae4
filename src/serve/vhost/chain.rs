//! What a request names in the guest's memory: walked once, checked, and never looked up in the guest's tables again.

use virtio_queue::DescriptorChain;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Address, Bytes, GuestAddress, GuestMemory, GuestMemoryMmap, Permissions};

use crate::limits::VHOST_DESCRIPTORS_MAX;

/// The guest breaks the rules in such a way that it cannot even be told: its queue is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

/// The memory of one request; used again for the next one.
#[derive(Default)]
pub(super) struct Chain {
    /// What the guest has written for the disk: the header, and the data of a write.
    pub(super) readable: Segments,
    /// Where the disk puts data, without the status.
    pub(super) writable: Segments,
    /// Where the disk puts the status.
    pub(super) status: GuestAddress,
    /// Whether all of it is memory of the guest.
    pub(super) in_memory: bool,
}

impl Chain {
    /// Takes a request's descriptors in.
    ///
    /// # Errors
    /// `Malformed` where the chain does not end (it is cut, is too long, goes round, names no descriptor), has memory to
    /// read behind memory to write, or no place for a status.
    pub(super) fn take(
        &mut self,
        memory: &GuestMemoryMmap,
        descriptors: DescriptorChain<&GuestMemoryMmap>,
    ) -> Result<(), Malformed> {
        self.readable.clear();
        self.writable.clear();
        self.in_memory = true;
        let mut has_next = true;
        for (number, descriptor) in descriptors.enumerate() {
            if number == VHOST_DESCRIPTORS_MAX {
                return Err(Malformed("a request has too many descriptors"));
            }
            has_next = descriptor.has_next();
            self.add(memory, &descriptor)?;
        }
        if has_next {
            return Err(Malformed("a request's chain of descriptors does not end"));
        }
        let status = self.writable.split_last_byte();
        self.status = status.ok_or(Malformed("a request has no place for its status"))?;
        match memory.check_range(self.status, 1, Permissions::Write) {
            true => Ok(()),
            false => Err(Malformed("a request's status is outside of memory")),
        }
    }

    fn add(&mut self, memory: &GuestMemoryMmap, descriptor: &Descriptor) -> Result<(), Malformed> {
        let (address, len) = (descriptor.addr(), descriptor.len());
        let (segments, access) = match descriptor.is_write_only() {
            true => (&mut self.writable, Permissions::Write),
            false if self.writable.len > 0 => {
                return Err(Malformed("a request has what is read behind what is written"));
            }
            false => (&mut self.readable, Permissions::Read),
        };
        self.in_memory &= memory.check_range(address, len as usize, access);
        segments.push(address, len);
        Ok(())
    }
}

/// Stretches of the guest's memory that are read or written one after the other.
#[derive(Default)]
pub(super) struct Segments {
    parts: Vec<(GuestAddress, u32)>,
    /// Bytes in all: below 2^32, for no longer chain is walked.
    len: u32,
}

impl Segments {
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Goes through them from the beginning.
    pub(super) fn cursor<'s>(&'s self, memory: &'s GuestMemoryMmap) -> Cursor<'s> {
        Cursor {
            memory,
            parts: &self.parts,
            done: 0,
        }
    }

    fn clear(&mut self) {
        self.parts.clear();
        self.len = 0;
    }

    fn push(&mut self, address: GuestAddress, len: u32) {
        if len > 0 {
            self.parts.push((address, len));
            self.len = self.len.saturating_add(len);
        }
    }

    fn split_last_byte(&mut self) -> Option<GuestAddress> {
        let (address, len) = self.parts.last_mut()?;
        *len -= 1;
        self.len -= 1;
        let last = address.checked_add(u64::from(*len));
        if *len == 0 {
            self.parts.pop();
        }
        last
    }
}

/// A place in segments.
pub(super) struct Cursor<'s> {
    memory: &'s GuestMemoryMmap,
    parts: &'s [(GuestAddress, u32)],
    /// Bytes of the first part that are done.
    done: u32,
}

/// The segments end before, or the memory is the guest's no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault;

impl Cursor<'_> {
    /// Fills `out` with what comes next.
    pub(super) fn read(&mut self, out: &mut [u8]) -> Result<(), Fault> {
        let mut at = 0;
        while at < out.len() {
            let (address, len) = self.next(out.len() - at)?;
            let part = &mut out[at..at + len];
            self.memory.read_slice(part, address).map_err(|_| Fault)?;
            at += len;
        }
        Ok(())
    }

    /// Writes `bytes` to what comes next.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let mut at = 0;
        while at < bytes.len() {
            let (address, len) = self.next(bytes.len() - at)?;
            let part = &bytes[at..at + len];
            self.memory.write_slice(part, address).map_err(|_| Fault)?;
            at += len;
        }
        Ok(())
    }

    /// Passes over the next bytes of one part, at most `most`.
    fn next(&mut self, most: usize) -> Result<(GuestAddress, usize), Fault> {
        let (&(start, len), rest) = self.parts.split_first().ok_or(Fault)?;
        let address = start.checked_add(u64::from(self.done)).ok_or(Fault)?;
        let left = (len - self.done) as usize;
        if left <= most {
            self.parts = rest;
            self.done = 0;
            return Ok((address, left));
        }
        self.done += most as u32;
        Ok((address, most))
    }
}
