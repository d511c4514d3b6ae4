//! The listening side of the control socket.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{Shutdown, getsockopt, shutdown};
use nix::unistd::geteuid;
use tracing::{debug, warn};

use super::protocol::{Answer, ExportRequest, Request, receive, send};
use super::service::Service;
use super::socket::{DeviceNumber, SocketFile};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{CONTROL_CONNECTIONS_MAX, CONTROL_TIMEOUT_SECS, EXPORTS_MAX};

/// Wait after a connection that could not be accepted, for want of descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A control socket; dropping it closes and removes the socket.
pub struct Server {
    listener: Arc<UnixListener>,
    thread: Option<JoinHandle<()>>,
    /// Last, so that the name goes when nobody listens any more.
    _file: SocketFile,
}

impl Server {
    /// Listens for the mount with that device number.
    ///
    /// # Errors
    /// `NotPermitted` where the directory for sockets cannot be made or is open to others.
    pub fn start(device: DeviceNumber, service: Service) -> Result<Self> {
        let (file, listener) = SocketFile::listen(device)?;
        let listener = Arc::new(listener);
        let accepting = Arc::clone(&listener);
        let shared = Arc::new(Shared {
            service,
            connections: Arc::new(Places::new(CONTROL_CONNECTIONS_MAX)),
            exports: Arc::new(Places::new(EXPORTS_MAX)),
        });
        let thread = thread::Builder::new()
            .name("control".into())
            .spawn(move || accept(&accepting, &shared))
            .map_err(|source| Error::new(ErrorKind::NoMemory, "cannot start a thread").with_source(source))?;
        Ok(Self {
            listener,
            thread: Some(thread),
            _file: file,
        })
    }
}

impl Drop for Server {
    /// Wakes and ends the accepting thread. Open connections are left to the end of the process, which is what
    /// a client that awaits the end waits for.
    fn drop(&mut self) {
        let woken = shutdown(self.listener.as_raw_fd(), Shutdown::Both).is_ok();
        if let (true, Some(thread)) = (woken, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

/// What the threads of all connections share.
struct Shared {
    service: Service,
    connections: Arc<Places>,
    /// For connections that export, which last.
    exports: Arc<Places>,
}

fn accept(listener: &UnixListener, shared: &Arc<Shared>) {
    loop {
        match listener.accept() {
            Ok((stream, _)) => admit(stream, shared),
            // The listener was shut down.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
            Err(error) => {
                warn!("control connection not accepted: {error}");
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

fn admit(mut stream: UnixStream, shared: &Arc<Shared>) {
    let Some(place) = shared.connections.take() else {
        // So short an answer does not wait for its reader.
        let _ = refuse(
            &mut stream,
            ErrorKind::Busy,
            "too many control connections\nhint: try again",
        );
        return;
    };
    let shared = Arc::clone(shared);
    let spawned = thread::Builder::new().name("control-peer".into()).spawn(move || {
        if let Err(error) = serve(stream, &shared, place) {
            debug!("control connection: {error}");
        }
    });
    if let Err(error) = spawned {
        warn!("control connection not served: {error}");
    }
}

/// A bound on what may be open at a time.
struct Places {
    open: AtomicUsize,
    max: usize,
}

/// One of the places; dropping it makes it free.
struct Place(Arc<Places>);

impl Places {
    fn new(max: usize) -> Self {
        Self {
            open: AtomicUsize::new(0),
            max,
        }
    }

    fn take(self: &Arc<Self>) -> Option<Place> {
        self.open
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| {
                (open < self.max).then_some(open + 1)
            })
            .ok()
            .map(|_| Place(Arc::clone(self)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A connection that exports takes a place among the exports instead of its own.
fn serve(mut stream: UnixStream, shared: &Shared, place: Place) -> io::Result<()> {
    let timeout = Some(Duration::from_secs(CONTROL_TIMEOUT_SECS));
    stream.set_read_timeout(timeout)?;
    stream.set_write_timeout(timeout)?;
    let peer = getsockopt(&stream, PeerCredentials)?.uid();
    if peer != 0 && peer != geteuid().as_raw() {
        return refuse(&mut stream, ErrorKind::NotPermitted, "not your drive");
    }
    while let Some((request, payload)) = receive::<Request>(&mut stream)? {
        if request == Request::AwaitEnd {
            return wait_for_end(&mut stream);
        }
        if let Request::Export(wanted) = &request {
            drop(place);
            return export(&mut stream, shared, wanted);
        }
        let (answer, payload) = shared.service.answer(&request, &payload);
        send(&mut stream, &answer, &payload)?;
    }
    Ok(())
}

/// Exports until the client leaves.
fn export(stream: &mut UnixStream, shared: &Shared, wanted: &ExportRequest) -> io::Result<()> {
    let Some(_place) = shared.exports.take() else {
        return refuse(
            stream,
            ErrorKind::Busy,
            "too many exports\nhint: stop one: `okapi export nbd` shows all images at once",
        );
    };
    match shared.service.export(wanted) {
        Ok(export) => {
            send(stream, &Answer::Exported(export.address), &[])?;
            let left = wait_for_end(stream);
            // Before the client learns of it by the end of the connection.
            drop(export.running);
            left
        }
        Err(error) => refuse(stream, error.kind(), &error.to_string()),
    }
}

fn refuse(stream: &mut UnixStream, kind: ErrorKind, message: &str) -> io::Result<()> {
    let message = message.to_owned();
    send(stream, &Answer::Failed { kind, message }, &[])
}

/// Holds the connection until the client leaves, or the end of the process closes it.
fn wait_for_end(stream: &mut UnixStream) -> io::Result<()> {
    stream.set_read_timeout(None)?;
    receive::<Request>(stream).map(drop)
}
