//! A [`Vfs`] as a mounted filesystem, by the Linux kernel's FUSE.
//!
//! ```text
//! kernel ─┬─ /dev/fuse ── fuser ── adapter ──┬── operations ── Vfs
//!         └─ io_uring ─── uring ── dispatch ─┘
//! ```

mod adapter;
mod caches;
mod convert;
mod counters;
mod decode;
mod errno;
mod host;
mod mount;
mod negotiate;
mod operations;
mod page_cache;
mod switch;
mod transport;
mod uring;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use fuser::{BackgroundSession, Config, SessionACL};
use tracing::warn;

use crate::error::{Error, ErrorKind, Result};
use crate::limits::FUSE_THREADS_MAX;
use crate::vfs::Vfs;

use adapter::FuseAdapter;
pub use caches::KernelCaches;
pub use counters::Counters;
pub use host::Host;
pub use mount::{Detach, FILESYSTEM_TYPE, MountConfig, unmount};
use negotiate::Wishes;
use operations::Operations;
use page_cache::Dropper;
pub use switch::{URING_SWITCH, enable_uring, uring_switch};
pub use transport::{Running, Transport};
use uring::Queues;

/// A mounted filesystem, served until it is unmounted.
pub struct Session {
    mountpoint: PathBuf,
    counters: Arc<Counters>,
    running: Running,
    served: Served,
}

/// The threads of a session.
struct Served {
    device: BackgroundSession,
    queues: Option<Queues>,
    _dropper: Dropper,
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
        let started = start(device, &operations, Wishes::of(config, not_uring.is_none()));
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
                    queues: served.queues.as_ref().map_or(0, Queues::count),
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
        KernelCaches::new(self.served.device.notifier())
    }

    /// Waits until the filesystem is unmounted, by whomever, and nobody uses it any more.
    ///
    /// # Errors
    /// `Corrupt` where a serving thread failed.
    pub fn join(self) -> Result<()> {
        let failed = |source| {
            let context = format!("serving {} failed", self.mountpoint.display());
            Error::new(ErrorKind::Corrupt, context).with_source(source)
        };
        // Where a queue is given up, its requests wait until this process has let go of the device: nothing may wait
        // for an unmount before that.
        self.served.queues.map_or(Ok(()), Queues::join).map_err(failed)?;
        self.served.device.join().map_err(failed)
    }
}

/// Comes to terms with the kernel and starts the threads that serve it.
fn start(device: OwnedFd, operations: &Arc<Operations>, wishes: Wishes) -> io::Result<Served> {
    let rings_device = wishes.uring.then(|| device.try_clone()).transpose()?;
    let adapter = FuseAdapter::new(Arc::clone(operations), wishes);
    // The kernel itself keeps others out unless `allow_other` is set.
    let session = fuser::Session::from_fd(adapter, device, SessionACL::All, session_config(wishes.uring))?;
    let dropper = Dropper::start(&operations.page_cache, KernelCaches::new(session.notifier()))?;
    let queues = rings_device
        .map(|device| Queues::start(&device, operations))
        .transpose()?;
    Ok(Served {
        device: session.spawn()?,
        queues,
        _dropper: dropper,
    })
}

/// Threads enough to use the machine; two at least, so that a long request does not stop the others. Beside io_uring,
/// one that takes what still comes by the device.
fn session_config(uring: bool) -> Config {
    let cores = thread::available_parallelism().map_or(2, usize::from);
    let mut config = Config::default();
    config.n_threads = Some(if uring {
        1
    } else {
        cores.clamp(2, FUSE_THREADS_MAX)
    });
    config.clone_fd = mount::device_opens();
    config
}

fn no_uring(reason: &str) -> Error {
    let context = format!(
        "the transport io_uring cannot be used: {reason}\nhint: `okapi doctor` says what to do; `--transport auto` does without"
    );
    Error::new(ErrorKind::NotSupported, context)
}
