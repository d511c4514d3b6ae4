//! What this host has of that which FUSE needs, told before a mount needs it.

use super::mount;
use super::uring;

/// What the host offers; each `Err` says in words what is missing.
#[derive(Clone, Debug)]
pub struct Host {
    /// The device /dev/fuse can be opened.
    pub device: Result<(), String>,
    /// fusermount3, which mounts for users other than root, is there.
    pub helper: Result<(), String>,
    /// FUSE over io_uring can be used.
    pub uring: Result<(), String>,
}

impl Host {
    /// Looks at this host, as the calling user sees it.
    pub fn look() -> Self {
        Self {
            device: mount::probe_device().map_err(|error| error.to_string()),
            helper: mount::probe_helper().map_err(|error| error.to_string()),
            uring: uring::probe(),
        }
    }
}
