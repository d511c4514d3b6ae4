//! Opening a disk by the path of its file, with the files that it names below it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::disk::Disk;
use super::fields::{damaged, unsupported};
use super::file::FileSource;
use super::kind::Format;
use super::qcow2::{Backing, Qcow2, Qcow2Header};
use super::raw::Raw;
use super::vhdx::Vhdx;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::BACKING_CHAIN_MAX;

/// A disk that was opened.
pub struct Opened {
    /// The format of its file.
    pub format: Format,
    /// What the file shows, with the files below it.
    pub disk: Box<dyn Disk>,
    /// The file itself.
    pub file: File,
    /// Device and inode number of the file and of those below it.
    pub files: Vec<(u64, u64)>,
    /// The permission bits that all of them have.
    pub mode: u32,
}

/// Opens the disk in a file, in the format given or in that which its first bytes tell.
///
/// A qcow2 file can name any file as the one below it, and then shows its bytes. So such a name is an error unless
/// `follow_backing`; then it is followed, from the directory of the file that has it, to regular files alone, at most
/// [`BACKING_CHAIN_MAX`] of them. Where the name comes without a format the file below is taken for what its first bytes
/// tell, and may name none in turn: whoever wrote to a raw disk would choose the file otherwise.
///
/// # Errors
/// `NotSupported` where a file uses something that is not, `Corrupt` where it makes no sense; as open(2) fails else.
/// The message names the file.
pub fn open(path: &Path, format: Option<Format>, follow_backing: bool) -> Result<Opened> {
    let mut chain = Chain {
        files: Vec::new(),
        mode: 0o777,
        follow_backing,
    };
    let first = chain.file(path)?;
    let file = first
        .try_clone()
        .map_err(|source| Error::new(ErrorKind::NoMemory, "cannot open a file again").with_source(source))?;
    let (format, disk) = chain.open(first, path, format)?;
    Ok(Opened {
        format,
        disk,
        file,
        files: chain.files,
        mode: chain.mode,
    })
}

/// The files that were opened on the way down.
struct Chain {
    /// Device and inode number.
    files: Vec<(u64, u64)>,
    mode: u32,
    follow_backing: bool,
}

impl Chain {
    fn open(&mut self, file: File, path: &Path, format: Option<Format>) -> Result<(Format, Box<dyn Disk>)> {
        let in_file = |error: Error| Error::new(error.kind(), format!("{}: {error}", path.display()));
        let source = FileSource::new(file).map_err(in_file)?;
        let format = match format {
            Some(format) => format,
            None => Format::detect(&source).map_err(in_file)?,
        };
        let disk: Box<dyn Disk> = match format {
            Format::Raw => Box::new(Raw::new(Box::new(source))),
            Format::Vhdx => Box::new(Vhdx::new(Box::new(source)).map_err(in_file)?),
            Format::Qcow2 => {
                let header = Qcow2Header::read(&source).map_err(in_file)?;
                let below = match &header.backing {
                    Some(backing) => Some(self.open_below(path, backing)?),
                    None => None,
                };
                Box::new(Qcow2::new(Box::new(source), header, below))
            }
        };
        Ok((format, disk))
    }

    fn open_below(&mut self, above: &Path, backing: &Backing) -> Result<Box<dyn Disk>> {
        let in_file = |error: Error| Error::new(error.kind(), format!("{}: {error}", above.display()));
        if !self.follow_backing && self.files.len() > 1 {
            return Err(in_file(Error::new(
                ErrorKind::NotPermitted,
                format!(
                    "a part of the disk is in the backing file `{}`, which is not followed, because this file is named \
                     without its format: as a raw disk it could name any\n\
                     hint: where you trust it, have `qemu-img rebase -u -F FORMAT` name the format in the file above",
                    backing.name
                ),
            )));
        }
        if !self.follow_backing {
            return Err(in_file(Error::new(
                ErrorKind::NotPermitted,
                format!(
                    "a part of the disk is in the backing file `{}`\n\
                     hint: --follow-backing reads it too: only where you trust whoever made the file, as it can name any",
                    backing.name
                ),
            )));
        }
        let path = path_below(above, &backing.name).map_err(in_file)?;
        let format = match &backing.format {
            Some(name) => Some(name.parse().map_err(|_| {
                in_file(unsupported(format!(
                    "a backing file of format `{name}` is not supported"
                )))
            })?),
            None => {
                self.follow_backing = false;
                None
            }
        };
        let file = self.file(&path)?;
        let (_, disk) = self.open(file, &path, format)?;
        Ok(disk)
    }

    /// Opens a file: the first may be a block device too.
    fn file(&mut self, path: &Path) -> Result<File> {
        let failed = |source: io::Error| {
            let kind = match source.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::NotADirectory => ErrorKind::NotDirectory,
                _ => ErrorKind::AccessDenied,
            };
            Error::new(kind, format!("cannot open {}", path.display())).with_source(source)
        };
        // Before it is opened, because that alone has effects on some devices; and behind, because it may be another.
        self.check_kind(path, &fs::metadata(path).map_err(failed)?)?;
        let mut options = File::options();
        let file = options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        let file = file.open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        self.check_kind(path, &metadata)?;
        let id = (metadata.dev(), metadata.ino());
        if self.files.contains(&id) {
            return Err(damaged(format!("{} is below itself", path.display())));
        }
        if self.files.len() == BACKING_CHAIN_MAX {
            return Err(unsupported(format!(
                "{} is below {BACKING_CHAIN_MAX} files already, as many as are followed",
                path.display()
            )));
        }
        self.files.push(id);
        self.mode &= metadata.mode();
        Ok(file)
    }

    fn check_kind(&self, path: &Path, metadata: &fs::Metadata) -> Result<()> {
        let kind = metadata.file_type();
        if kind.is_file() || kind.is_block_device() && self.files.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("{} is no regular file", path.display()),
        ))
    }
}

/// Where a backing file is: beside the file that names it, unless it has an absolute path.
fn path_below(above: &Path, name: &str) -> Result<PathBuf> {
    let first = name.find(['/', ':']);
    if first.is_some_and(|at| name.as_bytes()[at] == b':') {
        return Err(unsupported(format!(
            "the backing file `{name}` is an address of QEMU's own kind, which is not supported"
        )));
    }
    Ok(match above.parent() {
        Some(directory) => directory.join(name),
        None => PathBuf::from(name),
    })
}
