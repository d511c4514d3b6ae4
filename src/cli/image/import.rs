//! `okapi image import`: a disk in a file of some format becomes an image.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Args;
use nix::sys::statvfs::statvfs;
use rustix::fs::copy_file_range;
use rustix::io::Errno;

use super::super::mounts::{self, Mount};
use super::super::outcome::Outcome;
use super::super::progress::Progress;
use super::super::size::human;
use super::part::{Part, failed, sweep};
use crate::error::{Error, ErrorKind, Result};
use crate::image::Name;
use crate::image::format::{Disk, Format, RawWriter, copy, copy_stream, open};

/// Bytes of a clone on the drive that are asked for at a time.
const CLONE_PIECE: usize = 1 << 30;

/// Make an image of a disk in a file: raw, qcow2 or vhdx
///
/// Holes stay holes, and pages of zeros become holes. Nobody sees the image before it is whole; where it does not fit, or
/// the command is interrupted, nothing is left of it. A raw file on the same drive shares its memory with the image.
///
/// The format is what the first bytes of FILE say, raw where they say nothing. Say --format raw for a raw disk of which
/// somebody else chose the first bytes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The file; - reads a raw disk from stdin
    file: PathBuf,
    /// The name of the image
    #[arg(long)]
    name: String,
    /// The format of FILE: raw, qcow2 or vhdx [default: what its first bytes say]
    #[arg(long)]
    format: Option<Format>,
    /// Read the backing files that a qcow2 file names too: it can name any file that you may read
    #[arg(long)]
    follow_backing: bool,
    /// Replace an image of that name
    #[arg(long)]
    force: bool,
}

pub(super) fn run(arguments: &Arguments, drive: &Mount) -> Outcome {
    let name = Name::new(&arguments.name)?;
    let directory = images_of(&drive.mountpoint)?;
    sweep(&directory)?;
    let part = Part::create(&directory.join(name.as_str()), arguments.force)?;
    if arguments.file == Path::new("-") {
        from_stdin(arguments, &part.file, &directory)?;
    } else {
        from_file(arguments, &part.file, &directory)?;
    }
    part.finish(arguments.force)?;
    Ok(())
}

/// The directory of images, made where there is none.
fn images_of(mountpoint: &Path) -> Result<PathBuf> {
    let directory = mountpoint.join("images");
    match fs::create_dir(&directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(failed("cannot make", &directory, error));
        }
        _ => (),
    }
    match mounts::look_at(&directory)?.is_dir() {
        true => Ok(directory),
        false => Err(Error::new(
            ErrorKind::NotDirectory,
            format!("{} is no directory, where images would be", directory.display()),
        )),
    }
}

fn from_stdin(arguments: &Arguments, mut image: &File, directory: &Path) -> Result<()> {
    if let Some(format) = arguments.format.filter(|format| *format != Format::Raw) {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "{format} cannot be read from a pipe, because its parts lie in any order\nhint: name a file"
            ),
        ));
    }
    let free = free_bytes(directory)?;
    let mut read_bytes = 0;
    let copied = copy_stream(&mut io::stdin().lock(), &mut image, &mut |size| {
        read_bytes = size;
        Ok(())
    });
    match copied {
        Err(error) if error.kind() == ErrorKind::NoSpace => Err(no_space(
            &format!("the first {} of stdin", human(read_bytes)),
            free,
        )),
        copied => copied.map(drop),
    }
}

fn from_file(arguments: &Arguments, image: &File, directory: &Path) -> Result<()> {
    let path = &arguments.file;
    let mut disk = open(path, arguments.format, arguments.follow_backing)?;
    if disk.format == Format::Raw && cloned(path, image)? {
        return Ok(());
    }
    let disk = &mut *disk.disk;
    let free = free_bytes(directory)?;
    let size = disk.size();
    let mut bar = Progress::new("importing", size);
    let copied = copy(disk, None, &mut RawWriter::new(image, size), &mut |done| {
        bar.at(done);
        Ok(())
    });
    drop(bar);
    match copied {
        Err(error) if error.kind() == ErrorKind::NoSpace => Err(no_space(
            &format!("up to {} of {}", human(data_bytes(disk)?), path.display()),
            free,
        )),
        copied => copied.map_err(|error| Error::new(error.kind(), format!("{}: {error}", path.display()))),
    }
}

/// Clones a regular file of the same filesystem; `false` where that is not possible.
fn cloned(path: &Path, image: &File) -> Result<bool> {
    let unread = |source| failed("cannot read", path, source);
    let file = File::open(path).map_err(unread)?;
    let from = file.metadata().map_err(unread)?;
    let device = image.metadata().map_err(unread)?.dev();
    if from.dev() != device || !from.is_file() {
        return Ok(false);
    }
    let mut bar = Progress::new("importing", from.len());
    let mut done = 0;
    while done < from.len() {
        match copy_file_range(&file, None, image, None, CLONE_PIECE) {
            Ok(0) => break,
            Ok(more) => done += more as u64,
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) if done == 0 => {
                return Ok(false);
            }
            Err(errno) => return Err(failed("cannot clone", path, errno.into())),
        }
        bar.at(done);
    }
    // Where the file got shorter meanwhile, the rest is a hole.
    image.set_len(from.len()).map_err(unread)?;
    Ok(true)
}

/// Bytes that a drive has left, as df(1) shows them.
fn free_bytes(directory: &Path) -> Result<u64> {
    let stat = statvfs(directory).map_err(|errno| failed("cannot look at", directory, errno.into()))?;
    Ok(stat.blocks_available() * stat.fragment_size())
}

/// Bytes of a disk that are no holes.
fn data_bytes(disk: &mut dyn Disk) -> Result<u64> {
    let (mut at, mut bytes) = (0, 0);
    while at < disk.size() {
        let run = disk.run(at)?;
        bytes += if run.is_zero { 0 } else { run.end - at };
        at = run.end;
    }
    Ok(bytes)
}

fn no_space(needed: &str, free: u64) -> Error {
    Error::new(
        ErrorKind::NoSpace,
        format!(
            "the drive has no room for {needed}: {} of it were free\n\
             hint: remove something, or mount a drive with a larger --size",
            human(free)
        ),
    )
}
