//! The switch by which root allows FUSE over io_uring.

use std::fs;
use std::io;

/// The kernel's switch for FUSE over io_uring: a parameter of its module `fuse`, `Y` or `N`.
pub const URING_SWITCH: &str = "/sys/module/fuse/parameters/enable_uring";

/// Whether the kernel has FUSE over io_uring, and whether it is switched on.
pub fn uring_switch() -> Option<bool> {
    let state = fs::read_to_string(URING_SWITCH).ok()?;
    Some(state.trim() == "Y")
}

/// Switches FUSE over io_uring on, until the kernel's module `fuse` is loaded afresh. Mounts made before stay as they
/// are.
///
/// # Errors
/// Those of writing to [`URING_SWITCH`], which is root's.
pub fn enable_uring() -> io::Result<()> {
    fs::write(URING_SWITCH, "Y")
}
