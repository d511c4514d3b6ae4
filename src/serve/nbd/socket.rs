//! Sockets of either family, the bound on a handshake's time, and how the next request is waited for.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::sockopt::KeepAlive;
use nix::sys::socket::{MsgFlags, Shutdown, recv, setsockopt, shutdown};

use crate::linger::{Awake, Linger, stay_awake};

/// A socket that clients connect to.
pub enum Listener {
    /// In the filesystem.
    Unix(UnixListener),
    /// On the network.
    Tcp(TcpListener),
}

impl Listener {
    pub(super) fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Unix(listener) => Ok(Stream::Unix(listener.accept()?.0)),
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                // Replies are sent whole: to wait for more would only delay them.
                stream.set_nodelay(true)?;
                // Else a client whose machine has gone keeps its place for ever.
                setsockopt(&stream, KeepAlive, &true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }

    /// Wakes and ends whoever waits in [`Listener::accept`], with `InvalidInput`.
    pub(super) fn close(&self) -> bool {
        let socket = match self {
            Self::Unix(listener) => listener.as_raw_fd(),
            Self::Tcp(listener) => listener.as_raw_fd(),
        };
        shutdown(socket, Shutdown::Both).is_ok()
    }
}

/// A connection.
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    /// Ends reading, or both directions, also for a thread that waits in them.
    pub(super) fn shutdown(&self, how: Shutdown) {
        // It fails where the peer has ended the connection already.
        let _ = shutdown(self.as_fd().as_raw_fd(), how);
    }

    /// The longest wait for the peer, in either direction.
    pub(super) fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Unix(stream) => {
                stream.set_read_timeout(timeout)?;
                stream.set_write_timeout(timeout)
            }
            Self::Tcp(stream) => {
                stream.set_read_timeout(timeout)?;
                stream.set_write_timeout(timeout)
            }
        }
    }
}

impl Stream {
    /// What has come already; `None` where that is nothing.
    fn try_read(&self, bytes: &mut [u8]) -> Option<io::Result<usize>> {
        match recv(self.as_fd().as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT) {
            Err(Errno::EAGAIN | Errno::EINTR) => None,
            read => Some(read.map_err(io::Error::from)),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}

impl Read for &Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => (&*stream).read(bytes),
            Stream::Tcp(stream) => (&*stream).read(bytes),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => (&*stream).write(bytes),
            Stream::Tcp(stream) => (&*stream).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How long the reader of a connection stays awake. A client that keeps requests under way sends the next within 10 µs.
const LINGER: Duration = Duration::from_micros(30);

/// A connection whose reader stays awake for a moment where bytes come thick: to wake it costs its peer more than most
/// requests take.
pub(super) struct Attentive<'s> {
    stream: &'s Stream,
    linger: Linger,
}

impl<'s> Attentive<'s> {
    pub(super) fn new(stream: &'s Stream) -> Self {
        Self {
            stream,
            linger: Linger::new(),
        }
    }
}

impl Read for Attentive<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if let Some(read) = self.stream.try_read(bytes) {
            return read;
        }
        if self.linger.begin(Instant::now()) {
            let awake = stay_awake(LINGER, || self.stream.try_read(bytes));
            self.linger.end_strictly(&awake, Instant::now());
            if let Awake::Found(read) = awake {
                return read;
            }
        }
        let mut stream = self.stream;
        stream.read(bytes)
    }
}

/// A connection whose every wait ends at a deadline, however slowly the peer sends.
pub(super) struct Timed<'s> {
    stream: &'s Stream,
    deadline: Instant,
}

impl<'s> Timed<'s> {
    pub(super) fn new(stream: &'s Stream, time: Duration) -> Self {
        Self {
            stream,
            deadline: Instant::now() + time,
        }
    }

    fn arm(&self) -> io::Result<()> {
        match self.deadline.checked_duration_since(Instant::now()) {
            Some(left) if !left.is_zero() => self.stream.set_timeout(Some(left)),
            _ => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.arm()?;
        let mut stream = self.stream;
        stream.read(bytes)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.arm()?;
        let mut stream = self.stream;
        stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
