//! The socket of a disk: one virtual machine after the other.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{Shutdown, shutdown};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tracing::{debug, warn};
use vhost::vhost_user::Listener;
use vhost_user_backend::{ShutdownHandle, VhostUserDaemon};
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

use super::backend::Backend;
use super::request::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Images;
use crate::limits::{VHOST_CLOSING_SECS, VHOST_QUEUES_MAX};

/// Wait after a virtual machine that could not be served, for want of descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A disk to be served.
#[derive(Debug, Clone)]
pub struct Disk {
    /// Name of the image.
    pub image: String,
    /// Queues that virtual machines may use: 1 to `VHOST_QUEUES_MAX`.
    pub queues: u16,
}

/// An export of one image. Dropping it ends it: the virtual machine is cut off, and so are requests under way. They count
/// as never taken, and are done anew when the virtual machine has found another export.
pub struct Server {
    shared: Arc<Shared>,
    /// Hangs up when the thread has ended.
    ended: Receiver<()>,
}

/// What the serving thread and the export's end share.
struct Shared {
    /// The listening socket, beside the library's own handle on it.
    socket: UnixListener,
    images: Arc<Images>,
    disk: Disk,
    closing: AtomicBool,
    connected: Mutex<Option<Connected>>,
}

/// What cuts off the virtual machine that is connected.
struct Connected {
    backend: Arc<Backend>,
    messages: ShutdownHandle,
}

impl Connected {
    fn cut(&self) {
        self.backend.close();
        self.messages.shutdown();
    }
}

impl Server {
    /// Serves the disk to whoever connects to `listener`, one at a time; others wait for their turn.
    ///
    /// # Errors
    /// `NotFound` where there is no such image, `OutOfRange` for a number of queues, `NoMemory` where no thread can be
    /// started.
    pub fn start(listener: UnixListener, images: Arc<Images>, disk: Disk) -> Result<Self> {
        if !(1..=VHOST_QUEUES_MAX).contains(&disk.queues) {
            let context = format!(
                "{} queues are not possible\nhint: use 1 to {VHOST_QUEUES_MAX}",
                disk.queues
            );
            return Err(Error::new(ErrorKind::OutOfRange, context));
        }
        let shared = Shared {
            socket: listener.try_clone().map_err(no_memory)?,
            images,
            disk,
            closing: AtomicBool::new(false),
            connected: Mutex::new(None),
        };
        shared.open()?;
        let shared = Arc::new(shared);
        let (ending, ended) = mpsc::channel();
        let serving = Arc::clone(&shared);
        thread::Builder::new()
            .name("vhost".into())
            .spawn(move || serving.run(Listener::from(listener), ending))
            .map_err(no_memory)?;
        Ok(Self { shared, ended })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        // It wakes whoever waits for a virtual machine.
        let _ = shutdown(self.shared.socket.as_raw_fd(), Shutdown::Both);
        if let Some(connected) = &*self.shared.connected.lock() {
            connected.cut();
        }
        // A VMM can hold a thread up, for it has made the events and the memory that the thread reads and writes. It
        // changes nothing any more.
        let _ = self.ended.recv_timeout(Duration::from_secs(VHOST_CLOSING_SECS));
    }
}

impl Shared {
    fn run(&self, mut listener: Listener, _ending: Sender<()>) {
        // Virtual machines connect again each second, and would fill the log.
        let mut reported = None;
        while self.wait_for_client() {
            let failure = self.serve(&mut listener).err();
            if let Some(error) = &failure {
                if reported != Some(error.kind()) {
                    warn!("disk {}: {error}", self.disk.image);
                }
                thread::sleep(ACCEPT_PAUSE);
            }
            reported = failure.map(|error| error.kind());
        }
    }

    /// `false` where the export ends.
    fn wait_for_client(&self) -> bool {
        let mut ready = [PollFd::new(&self.socket, PollFlags::IN)];
        while poll(&mut ready, None) == Err(Errno::INTR) {}
        !self.closing.load(Ordering::Acquire)
    }

    fn open(&self) -> Result<Device> {
        let name = &self.disk.image;
        let missing = || {
            let context = format!(
                "there is no image `{name}`\nhint: images are the regular files in the directory `images` of the drive"
            );
            Error::new(ErrorKind::NotFound, context)
        };
        let image = match name.is_empty() {
            true => None,
            false => self.images.open(name.as_bytes())?,
        };
        Ok(Device::new(image.ok_or_else(missing)?, name))
    }

    /// Serves the virtual machine that waits, until it leaves. The image is looked up for each, so that what has its name
    /// by then is what it gets.
    fn serve(&self, listener: &mut Listener) -> Result<()> {
        let device = match self.open() {
            Ok(device) => device,
            Err(error) => {
                // It learns that there is nothing by the end of its connection.
                drop(listener.accept());
                return Err(error);
            }
        };
        let mut session = Session::new(device, self.disk.queues)?;
        session.daemon.start(listener).map_err(unusable)?;
        *self.connected.lock() = session.connected();
        if self.closing.load(Ordering::Acquire)
            && let Some(connected) = &*self.connected.lock()
        {
            connected.cut();
        }
        let left = session.daemon.wait();
        *self.connected.lock() = None;
        if let Err(error) = left {
            debug!("disk {}: {error}", self.disk.image);
        }
        Ok(())
    }
}

/// What serves one virtual machine: a thread for its messages, and one for each queue.
struct Session {
    /// Dropping it waits for the queues' threads.
    daemon: VhostUserDaemon<Arc<Backend>>,
    backend: Arc<Backend>,
}

impl Session {
    fn new(device: Device, queues: u16) -> Result<Self> {
        let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
        let backend = Arc::new(Backend::new(device, memory.clone(), queues).map_err(no_memory)?);
        match VhostUserDaemon::new("vhost-peer".into(), Arc::clone(&backend), memory) {
            Ok(daemon) => Ok(Self { daemon, backend }),
            Err(error) => {
                // The library leaves those threads behind that it has started by then.
                backend.close();
                Err(unusable(error))
            }
        }
    }

    fn connected(&self) -> Option<Connected> {
        Some(Connected {
            backend: Arc::clone(&self.backend),
            messages: self.daemon.shutdown_handle()?,
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.backend.close();
    }
}

fn no_memory(source: io::Error) -> Error {
    Error::new(ErrorKind::NoMemory, "cannot serve a disk").with_source(source)
}

fn unusable(error: vhost_user_backend::Error) -> Error {
    Error::new(
        ErrorKind::NoMemory,
        format!("cannot serve a virtual machine: {error}"),
    )
}
