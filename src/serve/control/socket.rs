//! Where sockets are, who may connect to them, and who may have put them there.

use std::fmt;
use std::fs::{DirBuilder, File, remove_file, symlink_metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::geteuid;

use crate::error::{Error, ErrorKind, Result};

/// Device number of a mount, as `st_dev` and /proc/self/mountinfo show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceNumber {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// The file of a listening socket; dropping it removes the file.
///
/// Device numbers are used again as soon as a mount is gone, so a new drive may want the name of one that is just
/// ending: a file is made and removed under a lock on its directory, and a drive removes only its own.
pub struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

/// What tells a file from a later one of the same name, even where the inode number is used again.
type Identity = (u64, i64, i64);

impl SocketFile {
    /// Listens for the mount with that device number. A socket of that name was left by a killed program, as living
    /// mounts differ in their numbers: it is replaced.
    pub(super) fn listen(device: DeviceNumber) -> Result<(Self, UnixListener)> {
        let directory = own_directory()?;
        let path = socket_path(&directory, device);
        let listen = || -> io::Result<(Identity, UnixListener)> {
            let _lock = lock(&directory)?;
            match remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let listener = listen_privately(&path)?;
            Ok((identity(&path)?, listener))
        };
        match listen() {
            Ok((identity, listener)) => Ok((Self { path, identity }, listener)),
            Err(source) => Err(cannot_listen(&path, source)),
        }
    }

    /// Listens at an absolute path, for this user alone. A socket there that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// `Busy` where somebody listens there, `Exists` where something else than a socket is there, `NotPermitted`.
    pub fn listen_at(path: &Path) -> Result<(Self, UnixListener)> {
        let directory = path.parent().unwrap_or(path);
        let failed = |source| cannot_listen(path, source);
        let _lock = lock(directory).map_err(failed)?;
        clear(path)?;
        let listener = listen_privately(path).map_err(failed)?;
        let path = path.to_owned();
        let identity = identity(&path).map_err(failed)?;
        Ok((Self { path, identity }, listener))
    }

    /// Listens beside the control socket of the mount with that device number, as [`SocketFile::listen_at`].
    ///
    /// # Errors
    /// As [`SocketFile::listen_at`].
    pub fn listen_beside(device: DeviceNumber, what: &str) -> Result<(Self, UnixListener)> {
        Self::listen_at(&own_directory()?.join(format!("{device}.{what}.sock")))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        remove_if(&self.path, |path| {
            identity(path).is_ok_and(|found| found == self.identity)
        });
    }
}

/// Removes a socket that nobody listens on any more, under the lock of its directory.
fn clear(path: &Path) -> Result<()> {
    let Ok(metadata) = symlink_metadata(path) else {
        return Ok(());
    };
    let place = path.display();
    if !metadata.file_type().is_socket() {
        return Err(Error::new(
            ErrorKind::Exists,
            format!("{place} exists and is no socket"),
        ));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            remove_file(path).map_err(|source| cannot_listen(path, source))
        }
        _ => Err(Error::new(
            ErrorKind::Busy,
            format!("somebody listens on {place} already\nhint: give another path"),
        )),
    }
}

/// A new socket that this user alone can connect to from its first moment on: bind(2) takes the mode of the socket for
/// that of its file.
fn listen_privately(path: &Path) -> io::Result<UnixListener> {
    let address = UnixAddr::new(path)?;
    let socket = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(socket.as_raw_fd(), &address)?;
    listen(&socket, Backlog::MAXCONN)?;
    Ok(socket.into())
}

fn cannot_listen(path: &Path, source: io::Error) -> Error {
    Error::new(
        ErrorKind::NotPermitted,
        format!("cannot listen on {}", path.display()),
    )
    .with_source(source)
}

/// Where a process of this user keeps its sockets, made if missing and refused if others could reach into it.
fn own_directory() -> Result<PathBuf> {
    let uid = geteuid();
    let directory = match std::env::var_os("XDG_RUNTIME_DIR") {
        _ if uid.is_root() => PathBuf::from("/run/okapi"),
        Some(runtime) if Path::new(&runtime).is_absolute() => Path::new(&runtime).join("okapi"),
        _ => PathBuf::from(format!("/tmp/okapi-{uid}")),
    };
    match DirBuilder::new().mode(0o700).create(&directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            let context = format!("cannot make {}", directory.display());
            return Err(Error::new(ErrorKind::NotPermitted, context).with_source(error));
        }
        _ => {}
    }
    verify_directory(&directory, uid.as_raw())?;
    Ok(directory)
}

/// Sockets that a mount of `owner` may have.
pub(super) fn candidates(device: DeviceNumber, owner: u32) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    if owner == 0 {
        directories.push(PathBuf::from("/run/okapi"));
    } else {
        if let Some(runtime) = std::env::var_os("XDG_RUNTIME_DIR") {
            directories.push(Path::new(&runtime).join("okapi"));
        }
        directories.push(PathBuf::from(format!("/run/user/{owner}/okapi")));
        directories.push(PathBuf::from(format!("/tmp/okapi-{owner}")));
    }
    directories.retain(|directory| verify_directory(directory, owner).is_ok());
    directories
        .into_iter()
        .map(|directory| socket_path(&directory, device))
        .collect()
}

/// Removes the socket that a killed program left behind, where nobody listens on it any more.
pub fn remove_stale_socket(device: DeviceNumber, owner: u32) {
    let refuses = |path: &Path| {
        UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    for path in candidates(device, owner) {
        remove_if(&path, refuses);
    }
}

/// Removes a socket unless another program has put its own there meanwhile. A file that stays does no harm: the next
/// drive of its number replaces it.
fn remove_if(path: &Path, condition: impl FnOnce(&Path) -> bool) {
    let Some(Ok(_lock)) = path.parent().map(lock) else {
        return;
    };
    if condition(path) {
        let _ = remove_file(path);
    }
}

fn lock(directory: &Path) -> io::Result<Flock<File>> {
    Flock::lock(File::open(directory)?, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
}

fn identity(path: &Path) -> io::Result<Identity> {
    let metadata = symlink_metadata(path)?;
    Ok((metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
}

fn socket_path(directory: &Path, device: DeviceNumber) -> PathBuf {
    directory.join(format!("{device}.sock"))
}

/// A directory in /tmp may have been put there by somebody else, to listen in.
pub(super) fn verify_directory(directory: &Path, owner: u32) -> Result<()> {
    let place = directory.display();
    let metadata = symlink_metadata(directory).map_err(|source| {
        Error::new(ErrorKind::NotFound, format!("cannot use {place}")).with_source(source)
    })?;
    if metadata.is_dir() && metadata.uid() == owner && metadata.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::NotPermitted,
        format!(
            "{place} is not a directory that only user {owner} can use\nhint: remove it, or `chmod 700` it"
        ),
    ))
}
