//! A [`Vfs`] as a mounted filesystem, by the Linux kernel's FUSE.

mod adapter;
mod convert;
mod counters;
mod errno;
mod mount;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use fuser::{BackgroundSession, Config, SessionACL};

use crate::error::{Error, ErrorKind, Result};
use crate::limits::FUSE_THREADS_MAX;
use crate::vfs::Vfs;

use adapter::FuseAdapter;
pub use counters::Counters;
pub use mount::{Detach, FILESYSTEM_TYPE, MountConfig, unmount};

/// A mounted filesystem, served until it is unmounted.
pub struct Session {
    mountpoint: PathBuf,
    counters: Arc<Counters>,
    threads: BackgroundSession,
}

impl Session {
    /// Mounts and serves. When this returns, the mount answers.
    ///
    /// # Errors
    /// `NotFound` without /dev/fuse or fusermount3, `NotPermitted`, `NotSupported` by the kernel, `Corrupt` where the
    /// kernel and the program do not come to terms.
    pub fn mount(fs: Arc<dyn Vfs>, config: &MountConfig) -> Result<Self> {
        let counters = Arc::new(Counters::new());
        let device = mount::mount(config)?;
        // With `suid`, the bits that the kernel remembers decide what a program may become when it is executed, and
        // the kernel does not learn that a write has cleared them: then it has to clear them itself.
        let adapter = FuseAdapter::new(fs, Arc::clone(&counters), !config.suid);
        // The kernel itself keeps others out unless `allow_other` is set.
        fuser::Session::from_fd(adapter, device, SessionACL::All, session_config())
            .and_then(fuser::Session::spawn)
            .map(|threads| Self {
                mountpoint: config.mountpoint.clone(),
                counters,
                threads,
            })
            .map_err(|source| {
                let _ = unmount(&config.mountpoint, Detach::Lazy);
                let context = format!("cannot serve {}", config.mountpoint.display());
                Error::new(ErrorKind::Corrupt, context).with_source(source)
            })
    }

    /// Where the filesystem is mounted.
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// The counters of requests, which outlive the session.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Waits until the filesystem is unmounted, by whomever, and nobody uses it any more.
    ///
    /// # Errors
    /// `Corrupt` where a serving thread failed.
    pub fn join(self) -> Result<()> {
        self.threads.join().map_err(|source| {
            let context = format!("serving {} failed", self.mountpoint.display());
            Error::new(ErrorKind::Corrupt, context).with_source(source)
        })
    }
}

/// Threads enough to use the machine; two at least, so that a long request does not stop the others.
fn session_config() -> Config {
    let cores = thread::available_parallelism().map_or(2, usize::from);
    let mut config = Config::default();
    config.n_threads = Some(cores.clamp(2, FUSE_THREADS_MAX));
    config.clone_fd = mount::device_opens();
    config
}
