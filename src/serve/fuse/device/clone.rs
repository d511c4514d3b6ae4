//! A second descriptor of a mount's device, with a list of its own for the requests that are read from it.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

/// `FUSE_DEV_IOC_CLONE`
const CLONE: Opcode = opcode::read::<u32>(229, 0);

/// Makes `fresh`, which was opened just now, a descriptor of the mount that `device` belongs to.
pub(super) fn attach(fresh: &File, device: &OwnedFd) -> io::Result<()> {
    let number = device.as_raw_fd().cast_unsigned();
    // SAFETY: the call takes a pointer to 32 bits and only reads them (drivers/char: fs/fuse/dev.c); a descriptor of
    // anything but the FUSE device refuses it. No safe interface passes a call to a driver.
    unsafe { ioctl(fresh, Setter::<CLONE, u32>::new(number)) }.map_err(io::Error::from)
}
