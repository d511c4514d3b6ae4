//! The listening side of the control socket.

use std::fs::{Permissions, remove_file, set_permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{Shutdown, getsockopt, shutdown};
use nix::unistd::geteuid;
use tracing::{debug, warn};

use super::protocol::{Answer, Request, receive, send};
use super::service::Service;
use super::socket::{DeviceNumber, own_directory, socket_path};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{CONTROL_CONNECTIONS_MAX, CONTROL_TIMEOUT_SECS};

/// A control socket; dropping it closes and removes the socket.
pub struct Server {
    path: PathBuf,
    listener: Arc<UnixListener>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens for the mount with that device number. A socket of that name was left by a killed program, as living
    /// mounts differ in their numbers: it is replaced.
    ///
    /// # Errors
    /// `NotPermitted` where the directory for sockets cannot be made or is open to others.
    pub fn start(device: DeviceNumber, service: Service) -> Result<Self> {
        let path = socket_path(&own_directory()?, device);
        let listener = listen(&path).map_err(|source| {
            let context = format!("cannot listen on {}", path.display());
            Error::new(ErrorKind::NotPermitted, context).with_source(source)
        })?;
        let listener = Arc::new(listener);
        let (accepting, service) = (Arc::clone(&listener), Arc::new(service));
        let thread = thread::Builder::new()
            .name("control".into())
            .spawn(move || accept(&accepting, &service))
            .map_err(|source| Error::new(ErrorKind::NoMemory, "cannot start a thread").with_source(source))?;
        Ok(Self {
            path,
            listener,
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    /// Wakes and ends the accepting thread. Open connections are left to the end of the process, which is what
    /// [`Request::AwaitEnd`] waits for.
    fn drop(&mut self) {
        let _ = remove_file(&self.path);
        let woken = shutdown(self.listener.as_raw_fd(), Shutdown::Both).is_ok();
        if let (true, Some(thread)) = (woken, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

fn listen(path: &PathBuf) -> io::Result<UnixListener> {
    match remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn accept(listener: &UnixListener, service: &Arc<Service>) {
    let connections = Arc::new(AtomicUsize::new(0));
    while let Ok((stream, _)) = listener.accept() {
        let place = Place::take(&connections);
        let service = Arc::clone(service);
        let spawned = thread::Builder::new().name("control-peer".into()).spawn(move || {
            match serve(stream, &service, place.is_some()) {
                Ok(()) => drop(place),
                Err(error) => debug!("control connection: {error}"),
            }
        });
        if let Err(error) = spawned {
            warn!("control connection refused: {error}");
        }
    }
}

/// One of the connections that may be open at a time.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(connections: &Arc<AtomicUsize>) -> Option<Self> {
        connections
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| {
                (open < CONTROL_CONNECTIONS_MAX).then_some(open + 1)
            })
            .ok()
            .map(|_| Self(Arc::clone(connections)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn serve(mut stream: UnixStream, service: &Service, has_place: bool) -> io::Result<()> {
    let timeout = Some(Duration::from_secs(CONTROL_TIMEOUT_SECS));
    stream.set_read_timeout(timeout)?;
    stream.set_write_timeout(timeout)?;
    if !has_place {
        return refuse(&mut stream, ErrorKind::Busy, "too many control connections");
    }
    let peer = getsockopt(&stream, PeerCredentials)?.uid();
    if peer != 0 && peer != geteuid().as_raw() {
        return refuse(&mut stream, ErrorKind::NotPermitted, "not your drive");
    }
    while let Some((request, payload)) = receive::<Request>(&mut stream)? {
        if request == Request::AwaitEnd {
            return wait_for_end(&mut stream);
        }
        let (answer, payload) = service.answer(&request, &payload);
        send(&mut stream, &answer, &payload)?;
    }
    Ok(())
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
