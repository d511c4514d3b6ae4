//! Clients of an export: accepted, bounded in number and in time, each served by a thread of its own.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::Shutdown;
use parking_lot::{Condvar, Mutex};
use tracing::{debug, warn};

use super::handshake::negotiate;
use super::socket::{Attentive, Listener, Stream, Timed};
use super::transmission::Transmission;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Images;
use crate::limits::{NBD_CLOSING_SECS, NBD_CONNECTIONS_MAX, NBD_HANDSHAKE_SECS, NBD_HANDSHAKES_MAX};

/// Wait after a connection that could not be accepted, for want of descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Stack of a thread that serves a client.
const STACK_BYTES: usize = 512 << 10;

/// An export of a drive's images. Dropping it ends it: requests under way are done, later ones are refused.
pub struct Server {
    listener: Arc<Listener>,
    export: Arc<Export>,
    thread: Option<JoinHandle<()>>,
}

/// What the threads of an export share.
struct Export {
    images: Arc<Images>,
    peers: Mutex<Peers>,
    /// Rung when a client has left.
    left: Condvar,
    closing: AtomicBool,
}

/// The clients.
#[derive(Default)]
struct Peers {
    next: u64,
    /// Those in their handshake, oldest first.
    greeted: VecDeque<(u64, Arc<Stream>)>,
    /// Those that have chosen an image.
    served: HashMap<u64, Arc<Stream>>,
    /// Threads, also of those that were sent away and have not noticed yet.
    threads: usize,
}

impl Server {
    /// Serves whoever connects to `listener`.
    ///
    /// # Errors
    /// `NoMemory` where no thread can be started.
    pub fn start(listener: Listener, images: Arc<Images>) -> Result<Self> {
        let listener = Arc::new(listener);
        let export = Arc::new(Export {
            images,
            peers: Mutex::default(),
            left: Condvar::new(),
            closing: AtomicBool::new(false),
        });
        let (accepting, clients) = (Arc::clone(&listener), Arc::clone(&export));
        let thread = thread::Builder::new()
            .name("nbd".into())
            .spawn(move || accept(&accepting, &clients))
            .map_err(|source| Error::new(ErrorKind::NoMemory, "cannot start a thread").with_source(source))?;
        Ok(Self {
            listener,
            export,
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.export.closing.store(true, Ordering::Release);
        if let (true, Some(thread)) = (self.listener.close(), self.thread.take()) {
            let _ = thread.join();
        }
        self.export.send_away();
    }
}

/// Serves a client whose bytes come from `input`, without a bound on its time: for streams that are no sockets.
///
/// # Errors
/// Those of the streams, and `InvalidData` where the client does not keep to the protocol.
pub fn converse(mut input: impl Read, mut output: impl Write, images: &Arc<Images>) -> io::Result<()> {
    let mut both = Both {
        input: &mut input,
        output: &mut output,
    };
    let Some(agreed) = negotiate(&mut both, images)? else {
        return Ok(());
    };
    Transmission::new(input, output, agreed, &AtomicBool::new(false)).run()
}

/// Two streams as one.
struct Both<I, O> {
    input: I,
    output: O,
}

impl<I: Read, O> Read for Both<I, O> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.input.read(bytes)
    }
}

impl<I, O: Write> Write for Both<I, O> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

fn accept(listener: &Listener, export: &Arc<Export>) {
    loop {
        match listener.accept() {
            Ok(stream) => admit(Arc::new(stream), export),
            // The listener was shut down.
            Err(_) if export.closing.load(Ordering::Acquire) => return,
            Err(error) => {
                warn!("NBD connection not accepted: {error}");
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

fn admit(stream: Arc<Stream>, export: &Arc<Export>) {
    let Some(peer) = Peer::admit(&stream, export) else {
        debug!("NBD connection refused: {NBD_CONNECTIONS_MAX} are served");
        return;
    };
    let spawned = thread::Builder::new()
        .name("nbd-peer".into())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            if let Err(error) = peer.serve(&stream) {
                debug!("NBD connection: {error}");
            }
        });
    if let Err(error) = spawned {
        warn!("NBD connection not served: {error}");
    }
}

/// A client in the list of all; dropping it takes it off.
struct Peer {
    export: Arc<Export>,
    number: u64,
}

impl Peer {
    /// Notes a new client; `None` where there is no place. A handshake makes way for a younger one: clients that mean
    /// to work are through with theirs in a moment.
    fn admit(stream: &Arc<Stream>, export: &Arc<Export>) -> Option<Self> {
        let mut peers = export.peers.lock();
        let is_full = peers.greeted.len() + peers.served.len() >= NBD_CONNECTIONS_MAX;
        if is_full || peers.greeted.len() >= NBD_HANDSHAKES_MAX {
            let (_, oldest) = peers.greeted.pop_front()?;
            oldest.shutdown(Shutdown::Both);
        }
        let number = peers.next;
        peers.next += 1;
        peers.threads += 1;
        peers.greeted.push_back((number, Arc::clone(stream)));
        Some(Self {
            export: Arc::clone(export),
            number,
        })
    }

    fn serve(&self, stream: &Stream) -> io::Result<()> {
        let time = Duration::from_secs(NBD_HANDSHAKE_SECS);
        let Some(agreed) = negotiate(&mut Timed::new(stream, time), &self.export.images)? else {
            return Ok(());
        };
        if !self.promote() {
            return Ok(());
        }
        stream.set_timeout(None)?;
        Transmission::new(Attentive::new(stream), stream, agreed, &self.export.closing).run()
    }

    /// The handshake is over; `false` where the client was sent away meanwhile.
    fn promote(&self) -> bool {
        let mut peers = self.export.peers.lock();
        let place = peers
            .greeted
            .iter()
            .position(|(number, _)| *number == self.number);
        let Some((number, stream)) = place.and_then(|place| peers.greeted.remove(place)) else {
            return false;
        };
        peers.served.insert(number, stream);
        true
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let mut peers = self.export.peers.lock();
        peers.greeted.retain(|(number, _)| *number != self.number);
        peers.served.remove(&self.number);
        peers.threads -= 1;
        self.export.left.notify_all();
    }
}

impl Export {
    /// Ends all connections: at first those that wait for a request, then those that will not end.
    fn send_away(&self) {
        let mut peers = self.peers.lock();
        peers
            .greeted
            .drain(..)
            .for_each(|(_, stream)| stream.shutdown(Shutdown::Both));
        for how in [Shutdown::Read, Shutdown::Both] {
            peers.served.values().for_each(|stream| stream.shutdown(how));
            let deadline = Instant::now() + Duration::from_secs(NBD_CLOSING_SECS);
            while peers.threads > 0 && !self.left.wait_until(&mut peers, deadline).timed_out() {}
        }
    }
}
