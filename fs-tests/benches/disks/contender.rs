//! What is measured: files, and servers of disks on UNIX sockets, each with an image full of bytes.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use fs_tests::bench::program::is_installed;
use fs_tests::bench::stream::Stream;
use fs_tests::export::Export;
use fs_tests::harness::{Drive, Place, Scratch, Tmpfs};

use crate::options::Options;

/// What everything else is compared with.
pub(crate) const YARDSTICK: &str = "raw file";
/// How large a drive or tmpfs may grow beside its image.
const SPARE_BYTES: u64 = 64 << 20;
/// For a server that begins.
const PATIENCE: Duration = Duration::from_secs(10);

/// A disk that may be measured.
pub(crate) struct Recipe {
    pub(crate) name: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    /// A raw file on tmpfs.
    Raw,
    /// The image's file below the mountpoint.
    OkapiFile,
    /// `okapi export nbd`.
    OkapiNbd,
    /// A program that serves the raw file at a UNIX socket, and its arguments: SOCKET and FILE stand for the paths, SIZE
    /// for the bytes.
    Server(&'static str, &'static [&'static str]),
}

/// All of them, the yardstick first. What this machine does not have is told and left out.
pub(crate) const RECIPES: [Recipe; 6] = [
    recipe(YARDSTICK, Kind::Raw),
    recipe("okapi file", Kind::OkapiFile),
    recipe("okapi NBD", Kind::OkapiNbd),
    recipe(
        "qemu-nbd",
        Kind::Server(
            "qemu-nbd",
            &[
                "--persistent",
                "--shared=16",
                "--format=raw",
                "--cache=none",
                "--aio=io_uring",
                "--export-name=disk",
                "--socket=SOCKET",
                "FILE",
            ],
        ),
    ),
    recipe(
        "nbdkit file",
        Kind::Server(
            "nbdkit",
            &[
                "--foreground",
                "--exit-with-parent",
                "--unix=SOCKET",
                "file",
                "FILE",
            ],
        ),
    ),
    recipe(
        "nbdkit memory",
        Kind::Server(
            "nbdkit",
            &[
                "--foreground",
                "--exit-with-parent",
                "--unix=SOCKET",
                "memory",
                "SIZE",
            ],
        ),
    ),
];

const fn recipe(name: &'static str, kind: Kind) -> Recipe {
    Recipe { name, kind }
}

/// Where a client finds the disk.
pub(crate) enum Target {
    File(PathBuf),
    /// A URI of the NBD protocol.
    Nbd(String),
}

/// A disk that is there; goes with the value.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) target: Target,
    /// In the order in which they have to go.
    _export: Option<Export>,
    _server: Option<Server>,
    _drive: Option<Drive>,
    _tmpfs: Option<Tmpfs>,
}

impl Recipe {
    /// Makes the disk and fills it, or tells why that cannot be done here.
    pub(crate) fn open(&self, options: &Options) -> Result<Contender, String> {
        let mut contender = Contender {
            name: self.name,
            target: Target::File(PathBuf::new()),
            _export: None,
            _server: None,
            _drive: None,
            _tmpfs: None,
        };
        let size = options.image_bytes;
        match self.kind {
            Kind::Raw => {
                let tmpfs = Tmpfs::mount(&(size + SPARE_BYTES).to_string());
                contender.target = Target::File(full_image(tmpfs.path(), size)?);
                contender._tmpfs = Some(tmpfs);
            }
            Kind::OkapiFile => {
                let (drive, image) = drive(size)?;
                contender.target = Target::File(image);
                contender._drive = Some(drive);
            }
            Kind::OkapiNbd => {
                let (drive, _) = drive(size)?;
                let export = Export::start(&drive);
                contender.target = Target::Nbd(export.uri(IMAGE_NAME));
                contender._export = Some(export);
                contender._drive = Some(drive);
            }
            Kind::Server(program, arguments) => {
                if !is_installed(program) {
                    return Err(format!("{program} is not installed"));
                }
                let tmpfs = Tmpfs::mount(&(size + SPARE_BYTES).to_string());
                let image = full_image(tmpfs.path(), size)?;
                let server = Server::start(program, arguments, &image, size)?;
                // What serves one export only takes the empty name too.
                let name = if program == "qemu-nbd" { IMAGE_NAME } else { "" };
                let socket = server.socket();
                contender.target = Target::Nbd(format!("nbd+unix:///{name}?socket={}", socket.display()));
                contender._server = Some(server);
                contender._tmpfs = Some(tmpfs);
            }
        }
        Ok(contender)
    }
}

const IMAGE_NAME: &str = "disk";

/// A drive with the image. Equal blocks stay apart: of what the clients write many are, which says nothing about disks.
fn drive(size: u64) -> Result<(Drive, PathBuf), String> {
    let drive = Drive::mount(&["--size", &(size + SPARE_BYTES).to_string(), "--dedup", "off"]);
    let images = drive.path().join("images");
    fs::create_dir(&images).map_err(|error| format!("{}: {error}", images.display()))?;
    let image = full_image(&images, size)?;
    Ok((drive, image))
}

/// An image without holes.
fn full_image(directory: &Path, size: u64) -> Result<PathBuf, String> {
    let path = directory.join(IMAGE_NAME);
    let fill = || {
        let file = File::create_new(&path)?;
        Stream::new(1).write(&file, usize::try_from(size).expect("an image fits the memory"))
    };
    fill().map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

/// A server of a disk, ended on drop.
struct Server {
    child: Child,
    directory: Scratch,
}

impl Server {
    fn start(program: &str, arguments: &[&str], image: &Path, size: u64) -> Result<Self, String> {
        let directory = Scratch::new();
        let socket = directory.path().join("s");
        let arguments = arguments.iter().map(|argument| {
            argument
                .replace("SOCKET", &socket.to_string_lossy())
                .replace("FILE", &image.to_string_lossy())
                .replace("SIZE", &size.to_string())
        });
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // That somebody connects and leaves is worth a line to nbdkit.
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        let mut server = Self { child, directory };
        server.wait_until_ready(program)?;
        Ok(server)
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    fn wait_until_ready(&mut self, program: &str) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while UnixStream::connect(self.socket()).is_err() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("{program} has ended with {status}"));
            }
            if Instant::now() > deadline {
                return Err(format!("{program} does not listen"));
            }
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(self.socket());
    }
}
