//! Exports inside the program that serves a drive: listeners for servers of its images.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::{Error, ErrorKind, Result};
use crate::image::Images;
use crate::serve::control::{DeviceNumber, Export, ExportRequest, ListenAt, SocketFile};
use crate::serve::nbd::{self, Listener};
use crate::serve::vhost::{self, Disk};

/// Starts exports of one drive.
pub(super) struct Exporter {
    pub(super) images: Arc<Images>,
    pub(super) device: DeviceNumber,
}

/// An export's threads, and its name in the filesystem, which goes when nobody listens any more.
struct Running<S> {
    _server: S,
    _file: Option<SocketFile>,
}

impl Exporter {
    pub(super) fn start(&self, wanted: &ExportRequest) -> Result<Export> {
        allow_descriptors();
        match wanted {
            ExportRequest::Nbd { listen, read_only } => self.start_nbd(listen, *read_only),
            ExportRequest::VhostUserBlk {
                image,
                socket,
                read_only,
                queues,
            } => {
                let disk = Disk {
                    image: image.clone(),
                    queues: *queues,
                };
                self.start_vhost(socket, disk, *read_only)
            }
        }
    }

    fn start_nbd(&self, listen: &ListenAt, read_only: bool) -> Result<Export> {
        let (file, listener, address) = self.listen(listen)?;
        let running = Running {
            _server: nbd::Server::start(listener, self.images.for_server(read_only))?,
            _file: file,
        };
        Ok(Export {
            address,
            running: Box::new(running),
        })
    }

    fn start_vhost(&self, socket: &Path, disk: Disk, read_only: bool) -> Result<Export> {
        let (file, listener) = SocketFile::listen_at(socket)?;
        let running = Running {
            _server: vhost::Server::start(listener, self.images.for_server(read_only), disk)?,
            _file: Some(file),
        };
        Ok(Export {
            address: socket.display().to_string(),
            running: Box::new(running),
        })
    }

    /// Returns the address as an NBD URI too.
    fn listen(&self, at: &ListenAt) -> Result<(Option<SocketFile>, Listener, String)> {
        let (file, listener) = match at {
            ListenAt::Own => SocketFile::listen_beside(self.device, "nbd")?,
            ListenAt::Unix(path) => SocketFile::listen_at(path)?,
            ListenAt::Tcp(address) => {
                let (listener, bound) = listen_tcp(*address)?;
                return Ok((None, Listener::Tcp(listener), format!("nbd://{bound}/")));
            }
        };
        let address = format!("nbd+unix:///?socket={}", escaped(file.path()));
        Ok((Some(file), Listener::Unix(listener), address))
    }
}

/// A virtual machine takes 13 descriptors, more with several queues, and the usual bound is 1024: as many as the system
/// grants are taken.
fn allow_descriptors() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        let all = Rlimit {
            current: maximum,
            maximum,
        };
        // Where that fails, clients are refused when they are too many.
        let _ = setrlimit(Resource::Nofile, all);
    }
}

fn listen_tcp(address: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    TcpListener::bind(address)
        .and_then(|listener| {
            let bound = listener.local_addr()?;
            Ok((listener, bound))
        })
        .map_err(|source| {
            Error::new(ErrorKind::NotPermitted, format!("cannot listen on {address}")).with_source(source)
        })
}

/// A path as the query of a URI has it (RFC 3986).
fn escaped(path: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~:@".contains(&byte);
    let bytes = path.as_os_str().as_encoded_bytes().iter();
    bytes
        .map(|&byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_escaped_where_a_uri_needs_it() {
        assert_eq!(
            escaped(Path::new("/run/okapi/0:45.nbd.sock")),
            "/run/okapi/0:45.nbd.sock"
        );
        assert_eq!(escaped(Path::new("/a b&c%/é")), "/a%20b%26c%25/%C3%A9");
    }
}
