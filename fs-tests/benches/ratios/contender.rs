//! What is measured, and how each comes to be mounted.

use fs_tests::harness::{Place, Scratch, Tmpfs, binary, run};
use nix::mount::{MntFlags, umount2};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What everything else is compared with.
pub(crate) const YARDSTICK: &str = "tmpfs";
/// How large each filesystem may grow, as mount(8) takes it.
const SIZE: &str = "4G";
/// Length of the file in which a filesystem of the kernel lives.
const IMAGE_BYTES: u64 = 3 << 30;
const URING_SWITCH: &str = "/sys/module/fuse/parameters/enable_uring";

/// A filesystem that may be measured.
pub(crate) struct Recipe {
    pub(crate) name: &'static str,
    kind: Kind,
}

enum Kind {
    Tmpfs,
    /// `okapi mount` with these options besides.
    Okapi(&'static [&'static str]),
    /// A program that shows a tmpfs through FUSE, and its arguments: SHOWN and POINT stand for the directories.
    Shown(&'static str, &'static [&'static str]),
    /// A filesystem of the kernel in a file on tmpfs: the program that makes it and its arguments before the file.
    Image(&'static str, &'static [&'static str]),
}

/// All of them, the yardstick first. What this machine does not have is told and left out.
pub(crate) const RECIPES: [Recipe; 11] = [
    recipe(YARDSTICK, Kind::Tmpfs),
    recipe("okapi", Kind::Okapi(&[])),
    recipe("okapi classic", Kind::Okapi(&["--transport", "classic"])),
    recipe("okapi io_uring", Kind::Okapi(&["--transport", "uring"])),
    recipe("bindfs", Kind::Shown("bindfs", &["SHOWN", "POINT"])),
    recipe(
        "passthrough_ll",
        Kind::Shown("passthrough_ll", &["-o", "source=SHOWN", "POINT"]),
    ),
    recipe(
        "passthrough_ll io_uring",
        Kind::Shown(
            "passthrough_ll",
            &["-o", "io_uring", "-o", "source=SHOWN", "POINT"],
        ),
    ),
    recipe(
        "passthrough_hp",
        Kind::Shown("passthrough_hp", &["SHOWN", "POINT"]),
    ),
    recipe(
        "passthrough_hp io_uring",
        Kind::Shown("passthrough_hp", &["-o", "io_uring", "SHOWN", "POINT"]),
    ),
    recipe(
        "ext4",
        Kind::Image(
            "mkfs.ext4",
            &["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
        ),
    ),
    recipe("xfs", Kind::Image("mkfs.xfs", &["-q"])),
];

const fn recipe(name: &'static str, kind: Kind) -> Recipe {
    Recipe { name, kind }
}

impl Recipe {
    /// Mounts it, or tells why that cannot be done here.
    pub(crate) fn mount(&self) -> Result<Contender, String> {
        let point = Scratch::new();
        let on_tmpfs = matches!(self.kind, Kind::Shown(..) | Kind::Image(..));
        let below = on_tmpfs.then(|| Tmpfs::mount(SIZE));
        let below_path = below.as_ref().map_or(Path::new(""), Place::path);
        succeed(&mut self.mount_command(point.path(), below_path)?)?;
        let contender = Contender {
            name: self.name,
            counts: matches!(self.kind, Kind::Okapi(_)),
            point,
            _below: below,
        };
        contender.expect_mounted()?;
        Ok(contender)
    }

    fn mount_command(&self, point: &Path, below: &Path) -> Result<Command, String> {
        let mut command;
        match self.kind {
            Kind::Tmpfs => {
                command = Command::new("mount");
                command.args(["-t", "tmpfs", "-o"]);
                command.arg(format!("size={SIZE},nr_inodes=0")).arg("tmpfs");
                command.arg(point);
            }
            Kind::Okapi(options) => {
                command = Command::new(binary());
                command.args(["mount", "--size", SIZE]).args(options).arg(point);
            }
            Kind::Shown(program, arguments) => {
                if arguments.contains(&"io_uring") {
                    expect_uring()?;
                }
                command = Command::new(peer(program));
                command.args(arguments.iter().map(|argument| {
                    argument
                        .replace("SHOWN", &below.to_string_lossy())
                        .replace("POINT", &point.to_string_lossy())
                }));
            }
            Kind::Image(program, arguments) => {
                let image = below.join("image");
                make_image(&image).map_err(|err| format!("{}: {err}", image.display()))?;
                succeed(Command::new(program).args(arguments).arg(&image))?;
                // the loop device goes with the mount
                command = Command::new("mount");
                command.args(["-o", "loop"]).arg(image).arg(point);
            }
        }
        Ok(command)
    }
}

fn make_image(image: &Path) -> std::io::Result<()> {
    File::create_new(image)?.set_len(IMAGE_BYTES)
}

/// Programs fall back to the classic device without a word where the kernel has io_uring switched off.
fn expect_uring() -> Result<(), String> {
    match fs::read_to_string(URING_SWITCH) {
        Ok(text) if text.starts_with('Y') => Ok(()),
        Ok(_) => Err(format!(
            "the kernel has it switched off; `echo Y >{URING_SWITCH}` switches it on"
        )),
        Err(_) => Err("the kernel has none for FUSE".to_owned()),
    }
}

/// Where a program is: what `scripts/peers` built goes first.
fn peer(program: &str) -> PathBuf {
    let bench = std::env::current_exe().expect("a running program has a path");
    let target = bench
        .ancestors()
        .nth(3)
        .expect("a bench lies in target/release/deps");
    let built = target.join("peers").join(program);
    if built.exists() { built } else { program.into() }
}

/// Runs a program; its complaint in one line where it fails or is not there.
fn succeed(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|err| match err.kind() {
        std::io::ErrorKind::NotFound => format!("{program} is not installed"),
        _ => format!("{program}: {err}"),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let first = complaint.lines().find(|line| !line.trim().is_empty());
    Err(first.map_or_else(|| format!("{program}: {}", output.status), str::to_owned))
}

/// An empty mount; goes with the value.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// Whether `okapi stat` tells its requests.
    pub(crate) counts: bool,
    point: Scratch,
    /// What is shown, or holds the image.
    _below: Option<Tmpfs>,
}

impl Contender {
    pub(crate) fn path(&self) -> &Path {
        self.point.path()
    }

    fn expect_mounted(&self) -> Result<(), String> {
        let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev());
        let parent = self.path().parent().expect("a scratch directory lies in another");
        match (device(self.path()), device(parent)) {
            (Ok(point), Ok(parent)) if point != parent => Ok(()),
            (Err(err), _) | (_, Err(err)) => Err(err.to_string()),
            _ => Err("the program ended well, but nothing is mounted".to_owned()),
        }
    }

    /// How often the kernel has asked for which operation so far; empty where nobody counts.
    pub(crate) fn requests(&self) -> BTreeMap<String, u64> {
        if !self.counts {
            return BTreeMap::new();
        }
        let output = run(Command::new(binary()).args(["stat", "--json"]).arg(self.path()));
        let stat: serde_json::Value =
            serde_json::from_slice(&output.stdout).expect("okapi stat --json prints JSON");
        let requests = stat["requests"]
            .as_object()
            .expect("okapi stat --json tells the requests");
        requests
            .iter()
            .map(|(name, count)| (name.clone(), count.as_u64().unwrap_or_default()))
            .collect()
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        // after a run that failed, files may still be open: then the mount goes when they do
        if umount2(self.path(), MntFlags::empty()).is_err() {
            let _ = umount2(self.path(), MntFlags::MNT_DETACH);
        }
    }
}
