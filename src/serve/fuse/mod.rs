//! A [`Vfs`] as a mounted filesystem, by the Linux kernel's FUSE.
//!
//! ```text
//! kernel ─┬─ /dev/fuse ── device ─┬── dispatch ── operations ── Vfs
//!         └─ io_uring ─── uring ──┘
//! ```

mod abi;
mod caches;
mod counters;
mod decode;
mod device;
mod dispatch;
mod encode;
mod errno;
mod host;
mod mount;
mod negotiate;
mod operations;
mod page_cache;
mod switch;
mod threads;
mod transport;
mod uring;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fuser::Notifier;
use tracing::warn;

use crate::error::{Error, ErrorKind, Result};
use crate::vfs::Vfs;

pub use caches::KernelCaches;
pub use counters::Counters;
pub use host::Host;
pub use mount::{Detach, FILESYSTEM_TYPE, MountConfig, unmount};
use negotiate::{Wishes, greet};
use operations::Operations;
use page_cache::Dropper;
pub use switch::{URING_SWITCH, enable_uring, uring_switch};
use threads::Threads;
pub use transport::{Running, Transport};

/// A mounted filesystem, served until it is unmounted.
pub struct Session {
    mountpoint: PathBuf,
    counters: Arc<Counters>,
    running: Running,
    served: Served,
}

/// What serves a session.
struct Served {
    threads: Threads,
    /// Number of queues of io_uring.
    queues: usize,
    notifier: Notifier,
    dropper: Dropper,
}

impl Session {
    /// Mounts and serves. When this returns, the mount answers.
    ///
    /// # Errors
    /// `NotFound` without /dev/fuse or fusermount3, `NotPermitted`, `NotSupported` by the kernel, `Corrupt` where the
    /// kernel and the program do not come to terms.
    pub fn mount(fs: &Arc<dyn Vfs>, config: &MountConfig) -> Result<Self> {
        let reason = match config.transport {
            Transport::Classic => "it was asked for".to_owned(),
            Transport::Uring => {
                uring::probe().map_err(|reason| no_uring(&reason))?;
                return Self::serve(fs, config, None);
            }
            Transport::Auto => match uring::probe().map(|()| Self::serve(fs, config, None)) {
                Err(reason) => reason,
                // Not where the mount itself has failed: it would fail again.
                Ok(Err(error)) if error.kind() == ErrorKind::Corrupt => {
                    warn!("{error}");
                    error.to_string()
                }
                Ok(session) => return session,
            },
        };
        Self::serve(fs, config, Some(reason))
    }

    /// Mounts, and serves by io_uring unless there is a reason not to.
    fn serve(fs: &Arc<dyn Vfs>, config: &MountConfig, not_uring: Option<String>) -> Result<Self> {
        let counters = Arc::new(Counters::new());
        let operations = Arc::new(Operations::new(Arc::clone(fs), Arc::clone(&counters)));
        let device = mount::mount(config)?;
        let started = start(&device, &operations, Wishes::of(config, not_uring.is_none()));
        let served = started.map_err(|source| {
            let _ = unmount(&config.mountpoint, Detach::Lazy);
            let context = format!("cannot serve {}", config.mountpoint.display());
            Error::new(ErrorKind::Corrupt, context).with_source(source)
        })?;
        Ok(Self {
            mountpoint: config.mountpoint.clone(),
            counters,
            running: match not_uring {
                Some(reason) => Running::Classic { reason },
                None => Running::Uring {
                    queues: served.queues,
                },
            },
            served,
        })
    }

    /// Where the filesystem is mounted.
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// By what the requests come.
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// The counters of requests, which outlive the session.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// What the kernel remembers of the filesystem.
    pub fn caches(&self) -> KernelCaches {
        KernelCaches::new(self.served.notifier.clone())
    }

    /// Waits until the filesystem is unmounted, by whomever, nobody uses it any more, and no thread of it is left.
    ///
    /// # Errors
    /// `Corrupt` where a serving thread failed.
    pub fn join(self) -> Result<()> {
        self.served.threads.join().map_err(|source| {
            let context = format!("serving {} failed", self.mountpoint.display());
            Error::new(ErrorKind::Corrupt, context).with_source(source)
        })?;
        self.served.dropper.join();
        Ok(())
    }
}

/// Comes to terms with the kernel and starts the threads that serve it.
fn start(device: &OwnedFd, operations: &Arc<Operations>, wishes: Wishes) -> io::Result<Served> {
    let notifier = greet(device.try_clone()?, operations, wishes)?;
    let dropper = Dropper::start(&operations.page_cache, KernelCaches::new(notifier.clone()))?;
    let mut threads = Threads::new();
    let mut queues = 0;
    if wishes.uring {
        queues = uring::start(device, operations, &mut threads)?;
        device::start_beside_uring(device, operations, &mut threads)?;
    } else {
        device::start(device, operations, &mut threads)?;
    }
    Ok(Served {
        threads,
        queues,
        notifier,
        dropper,
    })
}

fn no_uring(reason: &str) -> Error {
    let context = format!(
        "the transport io_uring cannot be used: {reason}\nhint: `okapi doctor` says what to do; `--transport auto` does without"
    );
    Error::new(ErrorKind::NotSupported, context)
}
