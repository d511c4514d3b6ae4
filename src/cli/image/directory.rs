//! Directories that are opened once and used by their descriptors, so that nobody can put others in their places.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, openat, statat};
use rustix::io::Errno;

use super::super::mounts::Mount;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Name;

/// A directory, whatever becomes of its name.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    file: Arc<File>,
    /// Where it was found, for messages.
    pub(super) path: PathBuf,
}

impl Directory {
    /// Opens the directory of a file's path.
    pub(super) fn above(path: &Path) -> Result<Self> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        Self::open(parent.unwrap_or(Path::new(".")), 0)
    }

    /// Opens the directory of images of a drive. It is no symbolic link: on somebody else's drive that could lead anywhere.
    pub(super) fn of_images(drive: &Mount) -> Result<Self> {
        Self::open(&drive.mountpoint.join("images"), libc::O_NOFOLLOW)
    }

    fn open(path: &Path, flags: i32) -> Result<Self> {
        let mut options = File::options();
        let options = options
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY | flags);
        let file = options
            .open(path)
            .map_err(|source| failed("cannot use the directory", path, source))?;
        Ok(Self {
            file: Arc::new(file),
            path: path.to_path_buf(),
        })
    }

    /// Opens a regular file in it; `None` where there is none of that name.
    pub(super) fn regular_file(&self, name: &OsStr) -> Result<Option<File>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        // Before it is opened, because that alone has effects on some devices; and behind, because it may be another.
        let is_other = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile;
        if statat(self, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| is_other(&stat)) {
            return Ok(None);
        }
        let file = match openat(self, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            // A symbolic link, a socket, a device without a driver.
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::NODEV) => return Ok(None),
            Err(errno) => return Err(failed("cannot open", &self.path.join(name), errno.into())),
        };
        let metadata = file
            .metadata()
            .map_err(|source| failed("cannot look at", &self.path.join(name), source))?;
        Ok(metadata.is_file().then_some(file))
    }

    /// Opens it for what needs more than its names.
    pub(super) fn readable(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(File::from(openat(self, ".", flags, Mode::empty())?))
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Opens the file of an image.
pub(super) fn open_image(drive: &Mount, name: &Name) -> Result<File> {
    let found = match Directory::of_images(drive) {
        Ok(directory) => directory.regular_file(name.as_str().as_ref())?,
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    found.ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            format!("there is no image `{name}`\nhint: `okapi image ls` lists them"),
        )
    })
}

pub(super) fn failed(what: &str, path: &Path, source: io::Error) -> Error {
    let kind = match source.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::NotADirectory => ErrorKind::NotDirectory,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
        io::ErrorKind::ReadOnlyFilesystem => ErrorKind::ReadOnly,
        _ => ErrorKind::AccessDenied,
    };
    Error::new(kind, format!("{what} {}", path.display())).with_source(source)
}
