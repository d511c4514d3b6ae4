//! What is measured, and how each comes to be mounted.

use fs_tests::bench::mounted::{Image, Mounted};
use fs_tests::bench::program::target_dir;
use fs_tests::harness::{binary, run};
use std::collections::BTreeMap;
use std::fs;
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
        Ok(Contender {
            name: self.name,
            counts: matches!(self.kind, Kind::Okapi(_)),
            mounted: self.mounted()?,
        })
    }

    fn mounted(&self) -> Result<Mounted, String> {
        match self.kind {
            Kind::Tmpfs => Mounted::by(|point| {
                let mut command = Command::new("mount");
                command.args(["-t", "tmpfs", "-o"]);
                command.arg(format!("size={SIZE},nr_inodes=0")).arg("tmpfs");
                command.arg(point);
                command
            }),
            Kind::Okapi(options) => Mounted::by(|point| {
                let mut command = Command::new(binary());
                command.args(["mount", "--size", SIZE]).args(options).arg(point);
                command
            }),
            Kind::Shown(program, arguments) => {
                if arguments.contains(&"io_uring") {
                    expect_uring()?;
                }
                Mounted::above(SIZE, |point, shown| {
                    let mut command = Command::new(peer(program));
                    command.args(arguments.iter().map(|argument| {
                        argument
                            .replace("SHOWN", &shown.to_string_lossy())
                            .replace("POINT", &point.to_string_lossy())
                    }));
                    command
                })
            }
            Kind::Image(program, arguments) => Mounted::image(
                &Image {
                    mkfs: (program, arguments),
                    len_bytes: IMAGE_BYTES,
                },
                SIZE,
            ),
        }
    }
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
    let built = target_dir().join("peers").join(program);
    if built.exists() { built } else { program.into() }
}

/// An empty mount; goes with the value.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// Whether `okapi stat` tells its requests.
    pub(crate) counts: bool,
    mounted: Mounted,
}

impl Contender {
    pub(crate) fn path(&self) -> &Path {
        self.mounted.path()
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
