//! `okapi mount`: what is asked for, whether it can be, and who serves it.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use clap::Args;
use nix::unistd::{getegid, geteuid};
use serde::{Deserialize, Serialize};

use super::options::{Options, parse_block_size, parse_group, parse_inodes, parse_mode, parse_user};
use super::size::{Size, human};
use super::{Failure, Outcome, daemon, mounts};
use crate::ErrorKind;
use crate::fs::VolumeConfig;
use crate::grid::GridConfig;
use crate::limits::{BLOCK_SIZE_DEFAULT, GRID_SIZE_MIN};
use crate::serve::fuse::MountConfig;

/// Mount a RAM drive
///
/// Returns when the drive answers, and leaves a program behind that serves it until `okapi umount` (or umount(8),
/// or SIGTERM). Everything on the drive is gone then.
#[derive(Debug, Args)]
#[command(after_long_help = OPTIONS_HELP)]
pub(super) struct Arguments {
    /// Existing directory to mount on
    mountpoint: PathBuf,
    /// Most memory to take: 4G, 512M, or a part of this machine's memory [default: 50%]
    ///
    /// Bounds what files, names and attributes take together; a write beyond it fails with ENOSPC. Memory is taken
    /// as files grow, not at once.
    #[arg(long, value_name = "SIZE")]
    size: Option<Size>,
    /// Largest block: a power of two from 4K to 1M [default: 64K]
    #[arg(long, value_name = "SIZE", value_parser = parse_block_size)]
    block_size: Option<u32>,
    /// Most files, directories and so on [default: as many as fit]
    #[arg(long, value_name = "N", value_parser = parse_inodes)]
    inodes: Option<u64>,
    /// Permissions of the root directory, octal [default: 1777 for root, else 700]
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    mode: Option<u16>,
    /// Owner of the root directory, a name or number [default: you]
    #[arg(long, value_name = "USER", value_parser = parse_user)]
    uid: Option<u32>,
    /// Group of the root directory, a name or number [default: yours]
    #[arg(long, value_name = "GROUP", value_parser = parse_group)]
    gid: Option<u32>,
    /// Refuse every change
    #[arg(long)]
    read_only: bool,
    /// Let other users in, as permissions allow [default: yes for root, else no]
    ///
    /// Users other than root need the line `user_allow_other` in /etc/fuse.conf. `--allow-other=false` keeps a
    /// drive of root to root.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    allow_other: Option<bool>,
    /// Serve from this process, in the foreground, until unmounted or interrupted
    ///
    /// The log goes to stderr; OKAPI_LOG=debug or OKAPI_LOG=okapi::serve=trace make it say more.
    #[arg(long)]
    foreground: bool,
    /// Options as mount(8) takes them: size=2G,mode=755,noexec,...
    #[arg(short, value_name = "OPTIONS")]
    options: Vec<String>,
}

const OPTIONS_HELP: &str = "\
Options for -o, and for fstab:
  size=  block_size=  inodes= (nr_inodes=)  mode=  uid=  gid=  ro  rw  allow_other
                            as the flags above, which count where both are given
  noexec                    run no programs from the drive
  suid, dev                 honour set-user-ID bits, honour device nodes (for root alone)
  noatime, relatime, sync and their like, defaults, auto, nofail, user, _netdev, x-*
                            accepted, and without effect here";

/// A drive to be made and mounted, with every default filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    size_bytes: u64,
    block_size: u32,
    inodes_max: Option<u64>,
    root_mode: u16,
    uid: u32,
    gid: u32,
    source: String,
    read_only: bool,
    allow_other: bool,
    suid: bool,
    dev: bool,
    exec: bool,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let options = arguments.options().map_err(Failure::Usage)?;
    let plan = Plan::new(&options, "okapi".into())?;
    let mountpoint = free_mountpoint(&arguments.mountpoint)?;
    if arguments.foreground {
        daemon::serve(&plan, &mountpoint, super::print)
    } else {
        super::print(daemon::start(&plan, &mountpoint)?)
    }
}

impl Arguments {
    fn options(&self) -> Result<Options, String> {
        let mut options = Options::default();
        for list in &self.options {
            options.parse(list, false)?;
        }
        Ok(Options {
            size: self.size.or(options.size),
            block_size: self.block_size.or(options.block_size),
            inodes: self.inodes.or(options.inodes),
            mode: self.mode.or(options.mode),
            uid: self.uid.or(options.uid),
            gid: self.gid.or(options.gid),
            read_only: self.read_only.then_some(true).or(options.read_only),
            allow_other: self.allow_other.or(options.allow_other),
            ..options
        })
    }
}

impl Plan {
    pub(super) fn new(options: &Options, source: String) -> Result<Self, Failure> {
        let root = geteuid().is_root();
        for (set, name) in [(options.suid, "suid"), (options.dev, "dev")] {
            if set == Some(true) && !root {
                return Err(Failure::failed(
                    ErrorKind::NotPermitted,
                    format!("the mount option `{name}` is for root alone"),
                ));
            }
        }
        Ok(Self {
            size_bytes: size_within_memory(options.size.unwrap_or(Size::PercentOfMemory(50)))?,
            block_size: options.block_size.unwrap_or(BLOCK_SIZE_DEFAULT),
            inodes_max: options.inodes,
            root_mode: options.mode.unwrap_or(if root { 0o1777 } else { 0o700 }),
            uid: options.uid.unwrap_or_else(|| geteuid().as_raw()),
            gid: options.gid.unwrap_or_else(|| getegid().as_raw()),
            source,
            read_only: options.read_only.unwrap_or(false),
            allow_other: options.allow_other.unwrap_or(root),
            suid: options.suid.unwrap_or(false),
            dev: options.dev.unwrap_or(false),
            exec: options.exec.unwrap_or(true),
        })
    }

    pub(super) fn grid(&self) -> GridConfig {
        GridConfig {
            size_bytes: self.size_bytes,
            block_size: self.block_size,
        }
    }

    pub(super) fn volume(&self) -> VolumeConfig {
        VolumeConfig {
            inodes_max: self.inodes_max,
            root_mode: self.root_mode,
            uid: self.uid,
            gid: self.gid,
        }
    }

    pub(super) fn mount(&self, mountpoint: &Path) -> MountConfig {
        MountConfig {
            mountpoint: mountpoint.to_owned(),
            source: self.source.clone(),
            read_only: self.read_only,
            allow_other: self.allow_other,
            suid: self.suid,
            dev: self.dev,
            exec: self.exec,
        }
    }

    /// The drive in a few words.
    pub(super) fn summary(&self) -> String {
        let block_size = human(self.block_size.into());
        format!("{}, blocks of {block_size}", human(self.size_bytes))
    }
}

fn size_within_memory(size: Size) -> Result<u64, Failure> {
    let memory_bytes = memory_bytes()?;
    let bytes = size.resolve(memory_bytes);
    if bytes < GRID_SIZE_MIN {
        let least = human(GRID_SIZE_MIN);
        return Err(Failure::Usage(format!(
            "a drive of {} is too small\nhint: give it a size of {least} or more",
            human(bytes)
        )));
    }
    if bytes > memory_bytes {
        return Err(Failure::failed(
            ErrorKind::NoMemory,
            format!(
                "a drive of {} does not fit in the memory of this machine, {}\nhint: give it a size like 50%",
                human(bytes),
                human(memory_bytes)
            ),
        ));
    }
    Ok(bytes)
}

/// Memory of this machine in bytes.
fn memory_bytes() -> Result<u64, Failure> {
    let table = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    table
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemTotal:")?
                .trim()
                .strip_suffix(" kB")?
                .parse()
                .ok()
        })
        .and_then(|kib: u64| kib.checked_mul(1 << 10))
        .ok_or_else(|| {
            Failure::failed(
                ErrorKind::NotFound,
                "/proc/meminfo does not tell how much memory there is\nhint: is /proc mounted?",
            )
        })
}

/// The absolute path of a directory on which a drive can be mounted.
pub(super) fn free_mountpoint(path: &Path) -> Result<PathBuf, Failure> {
    let mountpoint = match mounts::resolve(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let place = path.display();
            return Err(Failure::failed(
                ErrorKind::NotFound,
                format!("the mountpoint {place} does not exist\nhint: `mkdir -p {place}`"),
            ));
        }
        result => result?,
    };
    let place = mountpoint.display();
    if let Some(mount) = mounts::on(&mountpoint)?.filter(mounts::Mount::is_ours) {
        return Err(taken(&mount));
    }
    let metadata = fs::metadata(&mountpoint).map_err(|source| {
        crate::Error::new(
            ErrorKind::AccessDenied,
            format!("cannot use the mountpoint {place}"),
        )
        .with_source(source)
    })?;
    if !metadata.is_dir() {
        let kind = if metadata.file_type().is_block_device() {
            "a device"
        } else {
            "no directory"
        };
        return Err(Failure::failed(
            ErrorKind::NotDirectory,
            format!("the mountpoint {place} is {kind}\nhint: name a directory"),
        ));
    }
    Ok(mountpoint)
}

fn taken(mount: &mounts::Mount) -> Failure {
    let place = mount.mountpoint.display();
    let uid = geteuid();
    let state = match mount.connect() {
        Ok(_) => format!(
            "an okapi drive is mounted on {place} already\nhint: `okapi umount {place}` takes it away"
        ),
        Err(_) if uid.is_root() || uid.as_raw() == mount.owner => format!(
            "a drive whose program was killed is still mounted on {place}\nhint: `okapi umount {place}` clears it away"
        ),
        Err(_) => format!(
            "an okapi drive of user {} is mounted on {place} already",
            mount.owner
        ),
    };
    Failure::failed(ErrorKind::Busy, state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_filled_in() {
        let Ok(plan) = Plan::new(&Options::default(), "okapi".into()) else {
            panic!("the defaults are sound");
        };
        assert_eq!(plan.block_size, BLOCK_SIZE_DEFAULT);
        assert!(!plan.suid && !plan.dev && plan.exec && !plan.read_only);
        let memory = memory_bytes().ok().expect("/proc tells");
        assert!(plan.size_bytes <= memory / 2 && plan.size_bytes > memory / 2 - 100);
    }

    #[test]
    fn sizes_that_no_machine_has_are_refused() {
        assert!(matches!(
            size_within_memory(Size::Bytes(1 << 60)),
            Err(Failure::Failed(_))
        ));
        assert!(matches!(
            size_within_memory(Size::Bytes(4096)),
            Err(Failure::Usage(_))
        ));
        assert!(size_within_memory(Size::Bytes(GRID_SIZE_MIN)).is_ok());
    }
}
