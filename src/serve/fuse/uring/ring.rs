//! One ring: the entries of some of the kernel's queues, in memory shared with the kernel.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use memmap2::MmapMut;
use zerocopy::{FromBytes, IntoBytes};

use super::abi::{
    ARGUMENTS_SIZE, COMMAND_COMMIT_AND_FETCH, COMMAND_REGISTER, CommandArguments, EntryInOut, EntryOutcome,
    HEADER_SIZE, IN_OUT_SIZE, InHeader, OutHeader,
};
use super::dispatch::Request;
use crate::limits::PAGE_SIZE;
use crate::serve::fuse::errno::Answer;

/// Parts of the memory that a registration hands over: the headers, and the payload.
const PARTS: u32 = 2;

/// What an entry of a ring is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The kernel's queue: the number of the processor whose requests it takes.
    pub(super) queue: u16,
}

/// Buffers for one request at a time.
struct Entry {
    place: Place,
    /// A page with the headers, then the payload. Nothing refers to it while the kernel has the entry.
    memory: MmapMut,
    /// By which the kernel knows the request.
    commit_id: u64,
    unique: u64,
}

/// What has become of an entry that the kernel has given back.
pub(super) enum Event {
    /// It has a request.
    Request,
    /// The filesystem is unmounted; the entry is of no more use.
    Unmounted,
    /// The kernel refuses it.
    Refused(io::Error),
}

/// A submission queue with entries that wait for requests.
pub(super) struct Ring {
    ring: IoUring<squeue::Entry128, cqueue::Entry>,
    device: RawFd,
    entries: Vec<Entry>,
}

impl Ring {
    /// A ring with one entry for each place; each has room for `payload_size` bytes.
    ///
    /// `device` must stay open while the ring lives.
    pub(super) fn new(device: BorrowedFd<'_>, places: &[Place], payload_size: usize) -> io::Result<Self> {
        let entries: io::Result<Vec<Entry>> = places
            .iter()
            .map(|&place| Entry::new(place, payload_size))
            .collect();
        Ok(Self {
            ring: build(places.len() as u32)?,
            device: device.as_raw_fd(),
            entries: entries?,
        })
    }

    /// Hands all entries to the kernel.
    pub(super) fn register(&mut self) -> io::Result<()> {
        for number in 0..self.entries.len() {
            let entry = &mut self.entries[number];
            let parts = entry.parts();
            let arguments = CommandArguments {
                queue: entry.place.queue,
                ..CommandArguments::default()
            };
            let command = command(self.device, COMMAND_REGISTER, arguments)
                .addr(Some(parts.as_ptr() as u64))
                .build()
                .user_data(number as u64);
            self.push(with_len(command, PARTS))?;
            // The kernel copies the list of parts before this returns.
            self.ring.submit()?;
        }
        Ok(())
    }

    /// Sends the answers that were given, and waits until the kernel gives entries back; appends what became of them.
    pub(super) fn wait(&mut self, events: &mut Vec<(usize, Event)>) -> io::Result<()> {
        match self.ring.submit_and_wait(1) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // More completions are waiting than the ring has room for: take them first.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(error),
        }
        self.take(events);
        Ok(())
    }

    /// Appends what became of the entries that the kernel has given back so far.
    pub(super) fn take(&mut self, events: &mut Vec<(usize, Event)>) {
        events.extend(self.ring.completion().map(|completion| {
            let event = match -completion.result() {
                ..=0 => Event::Request,
                libc::ENOTCONN | libc::ECONNABORTED | libc::ENODEV => Event::Unmounted,
                errno => Event::Refused(io::Error::from_raw_os_error(errno)),
            };
            (completion.user_data() as usize, event)
        }));
    }

    /// The request in an entry that the kernel has given back.
    pub(super) fn request(&mut self, number: usize) -> Request<'_> {
        self.entries[number].request()
    }

    /// Answers the entry's request with the first bytes of its payload, when [`Ring::wait`] is called next.
    pub(super) fn answer(&mut self, number: usize, answer: Answer<usize>) -> io::Result<()> {
        let entry = &mut self.entries[number];
        entry.finish(answer);
        let arguments = CommandArguments {
            queue: entry.place.queue,
            commit_id: entry.commit_id,
            ..CommandArguments::default()
        };
        let command = command(self.device, COMMAND_COMMIT_AND_FETCH, arguments)
            .build()
            .user_data(number as u64);
        self.push(command)
    }

    fn push(&mut self, command: squeue::Entry128) -> io::Result<()> {
        // SAFETY: the memory that the command names, if any, belongs to an entry of this ring, which outlives the
        // kernel's use of it: dropping the ring's descriptor cancels the command before the memory is unmapped.
        let pushed = unsafe { self.ring.submission().push(&command) };
        // The queue has room for all entries, and each is in it at most once.
        pushed.map_err(|_full| io::ErrorKind::StorageFull.into())
    }
}

/// Whether this process may make a ring of the kind that the transport needs.
pub(super) fn probe() -> io::Result<()> {
    build(1).map(drop)
}

fn build(entries: u32) -> io::Result<IoUring<squeue::Entry128, cqueue::Entry>> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_coop_taskrun()
        .setup_defer_taskrun()
        .build(entries.next_power_of_two())
}

fn command(device: RawFd, operation: u32, arguments: CommandArguments) -> opcode::UringCmd80 {
    let mut bytes = [0; size_of::<CommandArguments>()];
    bytes.copy_from_slice(arguments.as_bytes());
    opcode::UringCmd80::new(types::Fd(device), operation).cmd(bytes)
}

/// Sets the field `len` of a submission, which io-uring 0.7 leaves zero for commands.
fn with_len(command: squeue::Entry128, len: u32) -> squeue::Entry128 {
    /// Offset of `len` in `struct io_uring_sqe`.
    const LEN: usize = 24;
    let mut command = command;
    // SAFETY: an `Entry128` is a `struct io_uring_sqe` of 128 bytes without padding (`repr(C)`), in which the four
    // bytes from `LEN` on are an aligned u32.
    unsafe {
        (&raw mut command).cast::<u8>().add(LEN).cast::<u32>().write(len);
    }
    command
}

impl Entry {
    fn new(place: Place, payload_size: usize) -> io::Result<Self> {
        Ok(Self {
            place,
            memory: MmapMut::map_anon(PAGE_SIZE as usize + payload_size)?,
            commit_id: 0,
            unique: 0,
        })
    }

    /// Headers and payload, as a registration names them.
    fn parts(&mut self) -> [libc::iovec; PARTS as usize] {
        let (headers, payload) = self.memory.split_at_mut(PAGE_SIZE as usize);
        [&mut headers[..HEADER_SIZE], payload].map(|part| libc::iovec {
            iov_base: part.as_mut_ptr().cast(),
            iov_len: part.len(),
        })
    }

    fn request(&mut self) -> Request<'_> {
        let (headers, payload) = self.memory.split_at_mut(PAGE_SIZE as usize);
        let (in_out, rest) = headers.split_at_mut(IN_OUT_SIZE);
        let (arguments, rest) = rest
            .split_first_chunk::<ARGUMENTS_SIZE>()
            .expect("a page has room for the headers");
        let (header, _) = InHeader::read_from_prefix(in_out).expect("the space is longer than the header");
        let (entry, _) = EntryInOut::read_from_prefix(rest).expect("a page has room for the headers");
        self.commit_id = entry.commit_id;
        self.unique = header.unique;
        Request {
            header,
            arguments,
            len: payload.len().min(entry.payload_size as usize),
            payload,
        }
    }

    /// Writes the headers of an answer.
    fn finish(&mut self, answer: Answer<usize>) {
        let (error, len) = match answer {
            Ok(len) => (0, len as u32),
            Err(refusal) => (-refusal.0, 0),
        };
        let out = OutHeader {
            len: size_of::<OutHeader>() as u32 + len,
            error,
            unique: self.unique,
        };
        let entry = EntryOutcome {
            payload_size: len,
            ..EntryOutcome::default()
        };
        self.memory[..size_of::<OutHeader>()].copy_from_slice(out.as_bytes());
        self.memory[IN_OUT_SIZE + ARGUMENTS_SIZE..HEADER_SIZE].copy_from_slice(entry.as_bytes());
    }
}
