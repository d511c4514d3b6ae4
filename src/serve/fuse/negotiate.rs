//! What kernel and filesystem agree upon at the start (FUSE_INIT).

use std::io;

use fuser::{InitFlags, KernelConfig};

use super::mount::MountConfig;
use super::operations::Agreement;
use crate::limits::{FUSE_BACKGROUND_MAX, FUSE_WRITE_MAX};

/// Asked for one by one, where the kernel offers them. Missing on purpose:
/// - writeback cache: a write must reach the volume at once, so that the writer sees ENOSPC;
/// - POSIX and flock locks: the kernel keeps them itself for a filesystem with one host.
const CAPABILITIES: [InitFlags; 11] = [
    InitFlags::FUSE_ASYNC_READ,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_DONT_MASK,
    InitFlags::FUSE_POSIX_ACL,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_EXPLICIT_INVAL_DATA,
    InitFlags::FUSE_ASYNC_DIO,
    InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
    InitFlags::FUSE_EXPORT_SUPPORT,
];

/// The first release that drops cached pages once more after a direct write ("fuse: Invalidate the page cache after
/// FOPEN_DIRECT_IO write", in Linux 6.19 and since January 2026 in 6.18). Before, a reader at the wrong moment could
/// leave old bytes in the page cache.
const DIRECT_WRITES_ARE_COHERENT: (u32, u32, u32) = (6, 18, 10);

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

/// Accepts what the kernel offers and the filesystem wants.
///
/// # Errors
/// `Unsupported` where io_uring is wished for and not offered.
pub(super) fn negotiate(wishes: Wishes, config: &mut KernelConfig) -> io::Result<Agreement> {
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
        // A direct write does not remove set-user-ID bits from what the kernel remembers of a file.
        direct_create: wishes.kill_privileges && probe_direct_create().is_ok(),
    };
    // Both are within the bounds that fuser sets, and its default is as good where they were not.
    let _ = config.set_max_write(FUSE_WRITE_MAX);
    let _ = config.set_max_background(FUSE_BACKGROUND_MAX);
    Ok(agreement)
}

/// Whether new files may bypass the page cache; the reason where not.
pub(super) fn probe_direct_create() -> Result<(), String> {
    match kernel_release() {
        Some(release) if release >= DIRECT_WRITES_ARE_COHERENT => Ok(()),
        _ => {
            Err("the kernel is older than Linux 6.18.10, where old bytes could stay in the page cache".into())
        }
    }
}

/// The kernel's version, as uname(2) has it.
fn kernel_release() -> Option<(u32, u32, u32)> {
    let names = nix::sys::utsname::uname().ok()?;
    parse_release(names.release().to_str()?)
}

/// The numbers of a release like `6.18.44-generic`.
fn parse_release(text: &str) -> Option<(u32, u32, u32)> {
    let mut numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|number| number.parse().ok());
    Some((numbers.next()?, numbers.next()?, numbers.next().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_as_numbers() {
        assert_eq!(parse_release("6.18.44-fc"), Some((6, 18, 44)));
        assert_eq!(parse_release("7.0-rc1"), Some((7, 0, 0)));
        assert_eq!(parse_release("x"), None);
        assert!(parse_release("6.18.9") < Some(DIRECT_WRITES_ARE_COHERENT));
        assert!(parse_release("6.19.0-rc8") > Some(DIRECT_WRITES_ARE_COHERENT));
    }
}
