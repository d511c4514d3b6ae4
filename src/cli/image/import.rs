//! `okapi image import`: a disk in a file of some format becomes an image.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Args;
use nix::sys::statvfs::fstatvfs;
use rustix::fs::copy_file_range;
use rustix::io::Errno;

use super::super::mounts::Mount;
use super::super::outcome::{Outcome, complain};
use super::super::progress::Progress;
use super::super::size::human;
use super::directory::{Directory, failed};
use super::part::{Part, sweep};
use crate::error::{Error, ErrorKind, Result};
use crate::image::Name;
use crate::image::format::{Format, Opened, RawWriter, copy, copy_stream, open};
use crate::limits::SECTOR_SIZE;

/// Bytes of a clone on the drive that are asked for at a time.
const CLONE_PIECE: usize = 1 << 30;

/// Permission bits of an image that comes from stdin, of which nobody knows who may read it.
const STDIN_MODE: u32 = 0o600;

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
    /// Replace an image of that name, unless a client of an export uses it
    #[arg(long)]
    force: bool,
}

pub(super) fn run(arguments: &Arguments, drive: &Mount) -> Outcome {
    let name = Name::new(&arguments.name)?;
    let directory = images_of(drive)?;
    sweep(&directory)?;
    let input = Input::open(arguments)?;
    if arguments.force {
        // Rather now than behind hours of copying; and again then.
        drive.connect()?.check_replaceable_image(name.as_str())?;
    }
    let mode = input.mode();
    let part = Part::create_in(directory, name.as_str().as_ref(), arguments.force, mode)?;
    input.copy(arguments, &part.file)?;
    if arguments.force {
        // A connection does not stay open while nothing is asked.
        drive.connect()?.check_replaceable_image(name.as_str())?;
    }
    part.finish(arguments.force)?;
    Ok(())
}

/// The directory of images, made where there is none.
fn images_of(drive: &Mount) -> Result<Directory> {
    let path = drive.mountpoint.join("images");
    match fs::create_dir(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(failed("cannot make", &path, error))
        }
        _ => Directory::of_images(drive),
    }
}

/// What is imported.
enum Input {
    /// What was read of stdin to see what it is.
    Stdin(Vec<u8>),
    Disk(Opened),
}

impl Input {
    fn open(arguments: &Arguments) -> Result<Self> {
        if arguments.file == Path::new("-") {
            return stdin_start(arguments.format).map(Self::Stdin);
        }
        open(&arguments.file, arguments.format, arguments.follow_backing).map(Self::Disk)
    }

    /// Permission bits for the image.
    fn mode(&self) -> u32 {
        match self {
            Self::Stdin(_) => STDIN_MODE,
            Self::Disk(disk) => disk.mode,
        }
    }

    fn copy(self, arguments: &Arguments, image: &File) -> Result<()> {
        match self {
            Self::Stdin(start) => from_stdin(&start, image),
            Self::Disk(disk) => from_disk(disk, &arguments.file, image),
        }
    }
}

/// The first bytes of stdin, unless they say, or `format` does, that it is no raw disk.
fn stdin_start(format: Option<Format>) -> Result<Vec<u8>> {
    let mut start = Vec::new();
    let format = match format {
        Some(format) => format,
        None => {
            let mut first = io::stdin().lock().take(Format::START_LEN as u64);
            first
                .read_to_end(&mut start)
                .map_err(|source| Error::new(ErrorKind::Corrupt, "cannot read stdin").with_source(source))?;
            Format::of_start(&start).map_err(|error| Error::new(error.kind(), format!("stdin: {error}")))?
        }
    };
    match format {
        Format::Raw => Ok(start),
        format => Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "{format} cannot be read from a pipe, because its parts lie in any order\n\
                 hint: make a file of it first, and name that; --format raw takes the bytes as they are"
            ),
        )),
    }
}

fn from_stdin(start: &[u8], mut image: &File) -> Result<()> {
    let free = free_bytes(image)?;
    let mut done = 0;
    let copied = copy_stream(&mut start.chain(io::stdin().lock()), &mut image, &mut |size| {
        done = size;
        Ok(())
    });
    match copied {
        Err(error) if error.kind() == ErrorKind::NoSpace => {
            let reached = format!("the copy had come to {}", human(done));
            Err(no_space("stdin", &reached, free))
        }
        copied => copied.map(drop),
    }
}

fn from_disk(mut disk: Opened, path: &Path, image: &File) -> Result<()> {
    if disk.format == Format::Raw && cloned(&disk.file, path, image)? {
        return Ok(());
    }
    let disk = &mut *disk.disk;
    if disk.sector_len() != SECTOR_SIZE {
        complain(&format_args!(
            "{}: the disk has sectors of {len} bytes: attach it with logical_block_size={len}, or its partitions are not found",
            path.display(),
            len = disk.sector_len(),
        ));
    }
    let free = free_bytes(image)?;
    let (size, mut done) = (disk.size(), 0);
    let mut bar = Progress::new("importing", size);
    let copied = copy(disk, None, &mut RawWriter::new(image, size), &mut |at| {
        done = at;
        bar.at(done);
        Ok(())
    });
    drop(bar);
    match copied {
        Err(error) if error.kind() == ErrorKind::NoSpace => {
            let reached = format!("the copy had come to {} of {}", human(done), human(size));
            Err(no_space(&path.display().to_string(), &reached, free))
        }
        copied => copied.map_err(|error| Error::new(error.kind(), format!("{}: {error}", path.display()))),
    }
}

/// Clones a regular file of the same filesystem; `false` where that is not possible.
fn cloned(file: &File, path: &Path, image: &File) -> Result<bool> {
    let unread = |source| failed("cannot read", path, source);
    let from = file.metadata().map_err(unread)?;
    let device = image.metadata().map_err(unread)?.dev();
    if from.dev() != device || !from.is_file() {
        return Ok(false);
    }
    let mut bar = Progress::new("importing", from.len());
    let mut done = 0;
    while done < from.len() {
        // It goes on by itself; the file's own offset is that of whoever reads it besides.
        match copy_file_range(file, Some(&mut done), image, None, CLONE_PIECE) {
            Ok(0) => break,
            Ok(_) => (),
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
fn free_bytes(image: &File) -> Result<u64> {
    let stat = fstatvfs(image).map_err(|errno| {
        Error::new(ErrorKind::Corrupt, "cannot see how much is free on the drive").with_source(errno)
    })?;
    Ok(stat.blocks_available() * stat.fragment_size())
}

fn no_space(what: &str, reached: &str, free: u64) -> Error {
    Error::new(
        ErrorKind::NoSpace,
        format!(
            "the drive has no room for {what}: {reached}, {} were free\n\
             hint: remove something, or mount a drive with a larger --size",
            human(free)
        ),
    )
}
