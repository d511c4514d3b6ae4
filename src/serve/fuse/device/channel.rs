//! A descriptor of /dev/fuse: requests are read from it whole, and answers written to it whole.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionbio, read, writev};
use tracing::warn;
use zerocopy::IntoBytes;

use super::clone::attach;
use crate::serve::fuse::abi::OutHeader;
use crate::serve::fuse::errno::Answer;
use crate::serve::fuse::mount::open_device;

/// What a look at the device has brought.
pub(super) enum Taken {
    /// A request of so many bytes.
    Request(usize),
    /// There is none.
    Nothing,
    /// The filesystem is unmounted.
    End,
}

/// A descriptor that never blocks. What is read from it is answered by it.
pub(super) struct Channel(OwnedFd);

impl Channel {
    /// A channel of the device's own where the system allows it, else one that shares its queue of requests under way.
    pub(super) fn to(device: &OwnedFd) -> io::Result<Self> {
        let descriptor = own_descriptor(device).or_else(|_not_allowed| device.try_clone())?;
        ioctl_fionbio(&descriptor, true)?;
        Ok(Self(descriptor))
    }

    /// Takes a request into `buffer`, if there is one.
    ///
    /// # Errors
    /// Those of read(2) that mean no end: the device cannot be served any more.
    pub(super) fn take(&self, buffer: &mut [u8]) -> io::Result<Taken> {
        loop {
            return match read(&self.0, &mut *buffer) {
                Ok(len) => Ok(Taken::Request(len)),
                Err(Errno::AGAIN) => Ok(Taken::Nothing),
                // The program that asked has been killed meanwhile; or a signal came.
                Err(Errno::NOENT | Errno::INTR) => continue,
                Err(Errno::NODEV | Errno::CONNABORTED) => Ok(Taken::End),
                Err(other) => Err(other.into()),
            };
        }
    }

    /// Sleeps until there may be something to take.
    pub(super) fn sleep(&self) -> io::Result<()> {
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(other) => Err(other.into()),
        }
    }

    /// Answers the request that the kernel knows as `unique`.
    pub(super) fn answer(&self, unique: u64, answer: Answer<&[u8]>) {
        let (error, body) = match answer {
            Ok(body) => (0, body),
            Err(refusal) => (-refusal.0, &[][..]),
        };
        let header = OutHeader {
            len: (size_of::<OutHeader>() + body.len()) as u32,
            error,
            unique,
        };
        match writev(&self.0, &[IoSlice::new(header.as_bytes()), IoSlice::new(body)]) {
            // Nobody waits for it any more.
            Ok(_) | Err(Errno::NOENT) => {}
            Err(other) => warn!("the kernel does not take an answer: {other}"),
        }
    }
}

fn own_descriptor(device: &OwnedFd) -> io::Result<OwnedFd> {
    let fresh = open_device()?;
    attach(&fresh, device)?;
    Ok(fresh.into())
}
