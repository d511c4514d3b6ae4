//! `okapi image export`: an image becomes a file of some format.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Args;

use super::super::mounts::Mount;
use super::super::outcome::{Failure, Outcome};
use super::super::progress::Progress;
use super::directory::{failed, open_image};
use super::part::Part;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Name;
use crate::image::format::{
    Disk, FileSource, Format, NamedBacking, Qcow2Writer, Raw, RawWriter, VhdxWriter, Writer, copy, open,
};

/// Write an image to a file: raw, qcow2 or vhdx
///
/// What is zeros is left out. The file gets its name when it is whole. An image that is in use is written as its bytes are
/// when they are read: export a clone of it to have those of one moment.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The image
    image: String,
    /// The file to be made; - writes a raw disk to stdout
    file: PathBuf,
    /// raw, qcow2 or vhdx [default: what the name of FILE ends with, else raw]
    #[arg(long)]
    format: Option<Format>,
    /// Write only what differs from this image, in qcow2
    ///
    /// BASE is to be exported first, beside FILE: FILE names that file as its backing file.
    #[arg(long, value_name = "BASE")]
    backing: Option<String>,
    /// The exported BASE as FILE is to name it: relative to the directory of FILE [default: BASE.qcow2]
    #[arg(long, value_name = "PATH", requires = "backing")]
    backing_file: Option<String>,
    /// Replace FILE where it is there already
    #[arg(long)]
    force: bool,
}

pub(super) fn run(arguments: &Arguments, drive: &Mount) -> Outcome {
    let format = arguments.format()?;
    let (mut disk, mode) = image_of(drive, &arguments.image)?;
    if arguments.is_stdout() {
        return to_stdout(&mut disk);
    }
    let base = match &arguments.backing {
        Some(base) => Some(arguments.base(base, image_of(drive, base)?.0)?),
        None => None,
    };
    let part = Part::create(&arguments.file, arguments.force, mode)?;
    to_file(&mut disk, base, format, &part.file).map_err(|error| in_file(&arguments.file, error))?;
    part.finish(arguments.force)?;
    Ok(())
}

/// The image below the new file's disk, and how that names it.
struct Base {
    disk: Raw,
    backing: NamedBacking,
}

impl Arguments {
    fn format(&self) -> Result<Format, Failure> {
        let format = match self.format {
            Some(format) => format,
            None => by_name(&self.file)?.unwrap_or(Format::Raw),
        };
        if self.is_stdout() && format != Format::Raw {
            return Err(Failure::Usage(format!(
                "{format} cannot be written to a pipe, because its parts are written in any order\n\
                 hint: name a file"
            )));
        }
        if self.backing.is_some() && format != Format::Qcow2 {
            return Err(Failure::Usage(format!(
                "{format} knows no backing files here\nhint: --format qcow2 does"
            )));
        }
        Ok(format)
    }

    fn is_stdout(&self) -> bool {
        self.file == Path::new("-")
    }

    /// Checks that the backing file is there and may be the image, because a wrong one shows nonsense without a word.
    fn base(&self, name: &str, disk: Raw) -> Result<Base, Failure> {
        let file = self
            .backing_file
            .clone()
            .unwrap_or_else(|| format!("{name}.qcow2"));
        let format = by_name(Path::new(&file))?.ok_or_else(|| {
            Failure::Usage(format!(
                "the format of the backing file '{file}' is not known\nhint: its name ends with .qcow2, .vhdx, .raw or .img"
            ))
        })?;
        let path = self.file.parent().unwrap_or(Path::new("")).join(&file);
        let exported = open(&path, Some(format), true).map_err(|error| {
            let context = format!(
                "the backing file that is to be named cannot be read: {error}\n\
                 hint: export it first: okapi image export {name} {} --format {format}",
                path.display()
            );
            Error::new(error.kind(), context)
        })?;
        self.refuse_to_replace(&exported.files)?;
        let (size, wanted) = (exported.disk.size(), disk.size());
        if size != wanted && size != wanted.next_multiple_of(512) {
            return Err(Failure::failed(
                ErrorKind::InvalidArgument,
                format!(
                    "{} is a disk of {size} bytes, and the image {name} one of {wanted}: they are not the same\n\
                     hint: export {name} there, or name its file with --backing-file",
                    path.display()
                ),
            ));
        }
        let backing = NamedBacking {
            name: as_path(file),
            format,
        };
        Ok(Base { disk, backing })
    }

    /// Refuses a file that is in the chain below the new one, which would lose the bytes that it is made of.
    fn refuse_to_replace(&self, chain: &[(u64, u64)]) -> Outcome {
        match fs::symlink_metadata(&self.file) {
            Ok(there) if chain.contains(&(there.dev(), there.ino())) => Err(Failure::Usage(format!(
                "{} is the backing file itself, or one below it\nhint: choose another name for the new file",
                self.file.display()
            ))),
            _ => Ok(()),
        }
    }
}

/// The format that the name of a file tells; those that are not written are refused.
fn by_name(file: &Path) -> Result<Option<Format>, Failure> {
    let Some(extension) = file.extension().and_then(OsStr::to_str) else {
        return Ok(None);
    };
    let cure = match &*extension.to_ascii_lowercase() {
        "qcow2" => return Ok(Some(Format::Qcow2)),
        "vhdx" => return Ok(Some(Format::Vhdx)),
        "raw" | "img" => return Ok(Some(Format::Raw)),
        "vmdk" | "vdi" | "vhd" | "vpc" | "qed" => {
            "export qcow2, of which `qemu-img convert -O FORMAT` makes another one"
        }
        "gz" | "xz" | "zst" => "export to - and pipe that into the program that packs it",
        _ => return Ok(None),
    };
    Err(Failure::Usage(format!(
        "{} has a name for what is not written here\nhint: {cure}; or say what it is to be with --format",
        file.display()
    )))
}

/// A name that QEMU takes for a path: what has a `:` before the first `/` is an address to it.
fn as_path(name: String) -> String {
    match name.find(['/', ':']) {
        Some(at) if name.as_bytes()[at] == b':' => format!("./{name}"),
        _ => name,
    }
}

/// The disk of an image, and the permission bits of its file.
fn image_of(drive: &Mount, name: &str) -> Result<(Raw, u32)> {
    let name = Name::new(name)?;
    let file = open_image(drive, &name)?;
    let mode = file
        .metadata()
        .map_err(|source| failed("cannot look at", name.as_str().as_ref(), source))?
        .mode();
    Ok((Raw::new(Box::new(FileSource::new(file)?)), mode))
}

fn to_file(disk: &mut Raw, base: Option<Base>, format: Format, file: &File) -> Result<()> {
    let size = disk.size();
    let (mut below, backing) = match base {
        Some(base) => (Some(base.disk), Some(base.backing)),
        None => (None, None),
    };
    let mut writer: Box<dyn Writer + '_> = match format {
        Format::Raw => Box::new(RawWriter::new(file, size)),
        Format::Qcow2 => Box::new(Qcow2Writer::new(file, size, backing)?),
        Format::Vhdx => Box::new(VhdxWriter::new(file, size, random_ids()?)?),
    };
    let mut bar = Progress::new("exporting", size);
    let below = below.as_mut().map(|below| below as &mut dyn Disk);
    copy(disk, below, &mut *writer, &mut |done| {
        bar.at(done);
        Ok(())
    })
}

fn to_stdout(disk: &mut Raw) -> Outcome {
    let size = disk.size();
    let mut writer = Stream {
        out: io::stdout().lock(),
        size,
        at: 0,
        is_closed: false,
    };
    let mut bar = Progress::new("exporting", size);
    let copied = copy(disk, None, &mut writer, &mut |done| {
        bar.at(done);
        Ok(())
    });
    match copied {
        Err(_) if writer.is_closed => Err(Failure::ClosedPipe),
        copied => Ok(copied?),
    }
}

/// A raw disk that is written from its start to its end, zeros and all.
struct Stream<W: Write> {
    out: W,
    size: u64,
    /// Bytes that were written.
    at: u64,
    /// Whether the reader has gone.
    is_closed: bool,
}

impl<W: Write> Stream<W> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|source| {
            self.is_closed = source.kind() == io::ErrorKind::BrokenPipe;
            unwritten(source)
        })?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn zeros_until(&mut self, end: u64) -> Result<()> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        while self.at < end {
            let len = (end - self.at).min(ZEROS.len() as u64) as usize;
            self.put(&ZEROS[..len])?;
        }
        Ok(())
    }
}

impl<W: Write> Writer for Stream<W> {
    fn unit(&self) -> usize {
        4096
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.zeros_until(offset)?;
        self.put(bytes)
    }

    fn zero(&mut self, _offset: u64, _len: u64) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.zeros_until(self.size)?;
        self.out.flush().map_err(unwritten)
    }
}

fn unwritten(source: io::Error) -> Error {
    let kind = match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
        _ => ErrorKind::Corrupt,
    };
    Error::new(kind, "cannot write to stdout").with_source(source)
}

fn random_ids() -> Result<[[u8; 16]; 3]> {
    let mut ids = [[0; 16]; 3];
    let path = Path::new("/dev/urandom");
    File::open(path)
        .and_then(|mut random| ids.iter_mut().try_for_each(|id| random.read_exact(id)))
        .map_err(|source| failed("cannot read", path, source))?;
    Ok(ids)
}

fn in_file(path: &Path, error: Error) -> Error {
    match error.kind() {
        ErrorKind::NoSpace => Error::new(
            ErrorKind::NoSpace,
            format!(
                "{}: {error}\nhint: free some there, or choose another place",
                path.display()
            ),
        ),
        kind => Error::new(kind, format!("{}: {error}", path.display())),
    }
}
