//! What kernel and filesystem agree upon at the start (FUSE_INIT).

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use fuser::{Config, InitFlags, KernelConfig, Notifier, Session, SessionACL};

use super::mount::MountConfig;
use super::operations::{Agreement, Operations};
use crate::limits::{FUSE_BACKGROUND_MAX, FUSE_WRITE_MAX};

/// Asked for one by one, where the kernel offers them. Missing on purpose:
/// - writeback cache: a write must reach the volume at once, so that the writer sees ENOSPC;
/// - POSIX and flock locks: the kernel keeps them itself for a filesystem with one host.
const CAPABILITIES: [InitFlags; 10] = [
    InitFlags::FUSE_ASYNC_READ,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_DONT_MASK,
    InitFlags::FUSE_POSIX_ACL,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_EXPLICIT_INVAL_DATA,
    InitFlags::FUSE_ASYNC_DIO,
    InitFlags::FUSE_EXPORT_SUPPORT,
];

/// What the filesystem would like beyond the ordinary.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wishes {
    /// The volume clears set-user-ID bits, and the kernel need not ask before each write whether there is anything
    /// to clear.
    pub(super) kill_privileges: bool,
    /// Requests come over io_uring.
    pub(super) uring: bool,
}

impl Wishes {
    /// With `suid`, the bits that the kernel remembers decide what a program may become when it is executed, and the
    /// kernel does not learn that a write has cleared them: then it has to clear them itself.
    pub(super) fn of(config: &MountConfig, uring: bool) -> Self {
        Self {
            kill_privileges: !config.suid,
            uring,
        }
    }
}

/// Greets the kernel on a device that nobody reads yet, and tells the operations what was agreed upon; returns what
/// sends the kernel notifications. fuser reads no request but the first.
///
/// # Errors
/// `Unsupported` where io_uring is wished for and not offered; those of the device.
pub(super) fn greet(device: OwnedFd, operations: &Arc<Operations>, wishes: Wishes) -> io::Result<Notifier> {
    let greeting = Greeting {
        operations: Arc::clone(operations),
        wishes,
    };
    // The kernel itself keeps others out unless `allow_other` is set.
    let session = Session::from_fd(greeting, device, SessionACL::All, Config::default())?;
    Ok(session.notifier())
}

/// What of a filesystem fuser needs.
struct Greeting {
    operations: Arc<Operations>,
    wishes: Wishes,
}

impl fuser::Filesystem for Greeting {
    fn init(&mut self, _: &fuser::Request, config: &mut KernelConfig) -> io::Result<()> {
        self.operations.agree(negotiate(self.wishes, config)?);
        Ok(())
    }
}

/// Accepts what the kernel offers and the filesystem wants.
///
/// # Errors
/// `Unsupported` where io_uring is wished for and not offered.
fn negotiate(wishes: Wishes, config: &mut KernelConfig) -> io::Result<Agreement> {
    let mut offers = |capability| config.add_capabilities(capability).is_ok();
    for capability in CAPABILITIES {
        offers(capability);
    }
    if wishes.uring && !offers(InitFlags::FUSE_OVER_IO_URING) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    if wishes.kill_privileges {
        offers(InitFlags::FUSE_HANDLE_KILLPRIV_V2);
    }
    let agreement = Agreement {
        no_open: offers(InitFlags::FUSE_NO_OPEN_SUPPORT),
        no_opendir: offers(InitFlags::FUSE_NO_OPENDIR_SUPPORT),
    };
    // Both are within the bounds that fuser sets. The buffers have no room for more; of requests in the background
    // fuser's own number is as good.
    config
        .set_max_write(FUSE_WRITE_MAX)
        .map_err(|_nearest| io::ErrorKind::Unsupported)?;
    let _ = config.set_max_background(FUSE_BACKGROUND_MAX);
    Ok(agreement)
}
