//! One ring with one entry: a request at a time, in memory shared with the kernel.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::thread;
use std::time::{Duration, Instant};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use memmap2::MmapMut;
use zerocopy::{FromBytes, IntoBytes};

use super::abi::{
    ARGUMENTS_SIZE, COMMAND_COMMIT_AND_FETCH, COMMAND_REGISTER, CommandArguments, EntryInOut, HEADER_SIZE,
    IN_OUT_SIZE,
};
use crate::limits::PAGE_SIZE;
use crate::linger::{LINGER, Linger, stay_awake};
use crate::serve::fuse::abi::{InHeader, OutHeader};
use crate::serve::fuse::dispatch::Request;
use crate::serve::fuse::errno::Answer;

/// Parts of the memory that a registration hands over: the headers, and the payload.
const PARTS: u32 = 2;

/// How long to wait before a call that could not be made is made again.
const SHORT_OF_MEMORY: Duration = Duration::from_millis(1);

/// A ring with one entry in one of the kernel's queues. It stays with the thread that made it.
pub(super) struct Ring {
    // Before the memory, so that it is closed before the memory is unmapped.
    ring: IoUring<squeue::Entry128, cqueue::Entry>,
    /// A page with the headers, then the payload. Nothing refers to it while the kernel has the entry.
    memory: MmapMut,
    device: RawFd,
    queue: u16,
    /// By which the kernel knows the request.
    commit_id: u64,
    unique: u64,
    /// A request has come while the entry was handed over.
    early: bool,
    linger: Linger,
}

impl Ring {
    /// A ring for a queue of the device, with room for `payload_size` bytes. `device` must stay open while it lives.
    pub(super) fn new(device: BorrowedFd<'_>, queue: u16, payload_size: usize) -> io::Result<Self> {
        Ok(Self {
            ring: build()?,
            memory: MmapMut::map_anon(PAGE_SIZE as usize + payload_size)?,
            device: device.as_raw_fd(),
            queue,
            commit_id: 0,
            unique: 0,
            early: false,
            linger: Linger::new(),
        })
    }

    /// Hands the entry to the kernel.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub(super) fn register(&mut self) -> io::Result<()> {
        let (headers, payload) = self.memory.split_at_mut(PAGE_SIZE as usize);
        let parts = [&mut headers[..HEADER_SIZE], payload].map(|part| libc::iovec {
            iov_base: part.as_mut_ptr().cast(),
            iov_len: part.len(),
        });
        let command = self
            .command(COMMAND_REGISTER)
            .addr(Some(parts.as_ptr() as u64))
            .build();
        self.push(&with_len(command, PARTS))?;
        // The kernel copies the list of parts before this returns, and says at once if it refuses them.
        while self.ring.submit()? == 0 {}
        match self
            .ring
            .completion()
            .next()
            .map(|completion| completion.result())
        {
            Some(errno) if errno < 0 => Err(io::Error::from_raw_os_error(-errno)),
            early => {
                self.early = early.is_some();
                Ok(())
            }
        }
    }

    /// Sends the answer that was given, and waits for a request. Returns whether there is one: there is none any more
    /// when the filesystem is unmounted.
    ///
    /// # Errors
    /// Where the kernel gives the entry up.
    pub(super) fn wait(&mut self) -> io::Result<bool> {
        if mem::take(&mut self.early) {
            return Ok(true);
        }
        self.linger()?;
        loop {
            if let Some(completion) = self.ring.completion().next() {
                return match -completion.result() {
                    ..=0 => Ok(true),
                    libc::ENOTCONN | libc::ECONNABORTED | libc::ENODEV => Ok(false),
                    errno => Err(io::Error::from_raw_os_error(errno)),
                };
            }
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if is_passing(&error) => thread::sleep(SHORT_OF_MEMORY),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends the answer, and stays awake for a moment where requests come thick.
    fn linger(&mut self) -> io::Result<()> {
        if !self.linger.begin(Instant::now()) {
            return Ok(());
        }
        if let Err(error) = self.ring.submit()
            && !is_passing(&error)
        {
            return Err(error);
        }
        let awake = stay_awake(LINGER, || self.ring.submission().taskrun().then_some(()));
        self.linger.end(&awake);
        Ok(())
    }

    /// The request that [`Ring::wait`] has brought.
    pub(super) fn request(&mut self) -> Request<'_> {
        let (headers, payload) = self.memory.split_at_mut(PAGE_SIZE as usize);
        let (in_out, rest) = headers.split_at_mut(IN_OUT_SIZE);
        let (arguments, rest) = rest.split_at(ARGUMENTS_SIZE);
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

    /// Answers the request with the first bytes of the payload, when [`Ring::wait`] is called next.
    pub(super) fn answer(&mut self, answer: Answer<usize>) -> io::Result<()> {
        let (error, len) = match answer {
            Ok(len) => (0, len as u32),
            Err(refusal) => (-refusal.0, 0),
        };
        let out = OutHeader {
            len: size_of::<OutHeader>() as u32 + len,
            error,
            unique: self.unique,
        };
        let entry = EntryInOut {
            payload_size: len,
            ..EntryInOut::default()
        };
        self.memory[..size_of::<OutHeader>()].copy_from_slice(out.as_bytes());
        self.memory[IN_OUT_SIZE + ARGUMENTS_SIZE..HEADER_SIZE].copy_from_slice(entry.as_bytes());
        let command = self.command(COMMAND_COMMIT_AND_FETCH).build();
        self.push(&command)
    }

    fn command(&self, operation: u32) -> opcode::UringCmd80 {
        let arguments = CommandArguments {
            queue: self.queue,
            commit_id: self.commit_id,
            ..CommandArguments::default()
        };
        let mut bytes = [0; size_of::<CommandArguments>()];
        bytes.copy_from_slice(arguments.as_bytes());
        opcode::UringCmd80::new(types::Fd(self.device), operation).cmd(bytes)
    }

    fn push(&mut self, command: &squeue::Entry128) -> io::Result<()> {
        // SAFETY: the kernel reads and writes the memory that a registration names only inside calls that this thread
        // makes into this ring (`setup_defer_taskrun`, without which this would not hold), and the ring is dropped
        // before the memory.
        let pushed = unsafe { self.ring.submission().push(command) };
        // There is one command at a time.
        pushed.map_err(|_full| io::ErrorKind::StorageFull.into())
    }
}

/// Whether a call into the ring can be made again: a signal came, or memory is short. What was not submitted stays in
/// the ring.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
    )
}

/// Whether this process may make a ring of the kind that the transport needs.
pub(super) fn probe() -> io::Result<()> {
    build().map(drop)
}

fn build() -> io::Result<IoUring<squeue::Entry128, cqueue::Entry>> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_coop_taskrun()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .build(1)
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
