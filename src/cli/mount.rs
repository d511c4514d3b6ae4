//! `okapi mount`: what is asked for, whether it can be, and who serves it.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use clap::Args;
use nix::unistd::geteuid;

use super::options::{Options, parse_block_size, parse_group, parse_inodes, parse_mode, parse_user};
use super::outcome::{Failure, Outcome, print};
use super::plan::Plan;
use super::size::Size;
use super::{daemon, mounts};
use crate::error::{Error, ErrorKind};
use crate::fs::{Compress, Dedup};
use crate::serve::fuse::Transport;

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
    /// How the kernel's requests come: auto, uring or classic [default: auto]
    ///
    /// io_uring answers small requests in two thirds of the classic device's time. `auto` takes it where the kernel
    /// offers it (Linux 6.14, switched on: `okapi doctor` tells); `uring` refuses to do without.
    #[arg(long, value_name = "WAY")]
    transport: Option<Transport>,
    /// When equal blocks are looked for, to be held once: off, idle or inline [default: idle]
    ///
    /// `idle` does it when a file was left alone for some seconds, behind everything else; `inline` does it for whole
    /// blocks as soon as they are written, which takes the writer's time and never the memory. `okapi dedup` does it at
    /// once, also where it is `off`.
    #[arg(long, value_name = "WHEN")]
    dedup: Option<Dedup>,
    /// Whether files that were left alone for some seconds are held compressed: off, lz4 or zstd [default: off]
    ///
    /// Blocks are compressed where that saves a quarter of their memory or more, behind everything else. Reading what
    /// the kernel's cache has lost, and the first write to a file, take longer then; and a write may find the drive full
    /// though the file does not grow.
    #[arg(long, value_name = "HOW")]
    compress: Option<Compress>,
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
  transport=  dedup=  compress=
                            as the flags above
  noexec                    run no programs from the drive
  suid, dev                 honour set-user-ID bits, honour device nodes (for root alone)
  noatime, relatime, sync and their like, defaults, auto, nofail, user, _netdev, x-*
                            accepted, and without effect here";

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let options = arguments.options().map_err(Failure::Usage)?;
    let plan = Plan::new(&options, "okapi".into())?;
    let mountpoint = free_mountpoint(&arguments.mountpoint)?;
    if arguments.foreground {
        daemon::serve(&plan, &mountpoint, print)
    } else {
        print(daemon::start(&plan, &mountpoint)?)
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
            transport: self.transport.or(options.transport),
            dedup: self.dedup.or(options.dedup),
            compress: self.compress.or(options.compress),
            ..options
        })
    }
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
        Error::new(
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
