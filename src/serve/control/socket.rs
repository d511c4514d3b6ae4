//! Where control sockets are, and who may have put them there.

use std::fmt;
use std::fs::{DirBuilder, remove_file, symlink_metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

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

/// Where a process of this user keeps its sockets, made if missing and refused if others could reach into it.
pub(super) fn own_directory() -> Result<PathBuf> {
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
    for path in candidates(device, owner) {
        let refused =
            UnixStream::connect(&path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if refused {
            // Another's directory keeps it, and the next drive of that number replaces it.
            let _ = remove_file(path);
        }
    }
}

pub(super) fn socket_path(directory: &Path, device: DeviceNumber) -> PathBuf {
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
