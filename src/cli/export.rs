//! `okapi export`: shows a drive's images to programs that read no files, while the command runs.

use std::fs::File;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread;

use clap::{Args, Subcommand};
use nix::sys::signal::{SigSet, Signal};

use super::mounts;
use super::outcome::{Failure, Outcome, print};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::VHOST_QUEUES_MAX;
use crate::serve::control::{ExportRequest, ListenAt, RunningExport};

/// Show a drive's images to virtual machines and other programs
///
/// An image is a regular file in the directory `images` of the drive's root. An export lasts as long as the command
/// runs; the drive counts as in use meanwhile.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Where the drive is mounted [default: the only one]
    #[arg(long, value_name = "DIR", global = true)]
    mount: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// As network block devices: for QEMU, nbdcopy, nbd-client and so on
    ///
    /// Prints the address when it can be connected to. Each image is found under its file name, also those that are made
    /// later; the empty name stands for the only image. Clients change the images whatever their permissions are.
    Nbd {
        /// Listen on a socket for the drive's owner alone [default: one in the owner's runtime directory]
        #[arg(long, value_name = "PATH", conflicts_with = "tcp")]
        unix: Option<PathBuf>,
        /// Listen on a port, 127.0.0.1:10809 say: open to every user of this machine
        #[arg(long, value_name = "ADDRESS:PORT")]
        tcp: Option<SocketAddr>,
        /// Let --tcp listen to other machines: without a password and unencrypted
        #[arg(long, requires = "tcp")]
        allow_remote: bool,
        /// Refuse changes
        #[arg(long)]
        read_only: bool,
    },
    /// One image as a disk of virtual machines: virtio-blk over vhost-user
    ///
    /// Prints the socket when it can be connected to. One virtual machine uses it at a time; when it has left the next
    /// one can connect. The image is changed whatever its permissions are.
    VhostUserBlk {
        /// Name of the image
        image: String,
        /// Listen on a socket for the drive's owner alone
        #[arg(long, value_name = "PATH")]
        socket: PathBuf,
        /// Refuse changes
        #[arg(long)]
        read_only: bool,
        /// Queues at most: as many as the virtual machine has processors [default: the processors here]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(VHOST_QUEUES_MAX)))]
        queues: Option<u16>,
    },
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let wanted = arguments.request()?;
    let drive = mounts::drive(arguments.mount.as_deref())?;
    // Held until the end, so that nobody unmounts by mistake what a virtual machine runs on. It cannot be opened where
    // another user's drive is closed even to root.
    let _in_use = File::open(&drive.mountpoint).ok();
    let export = drive.connect()?.export(wanted)?;
    stop_on_signals(&export)?;
    print(format!("{}\n", export.address()))?;
    match export.join() {
        true => Ok(()),
        false => Err(Failure::failed(
            ErrorKind::NotFound,
            format!("the drive on {} has gone", drive.mountpoint.display()),
        )),
    }
}

impl Arguments {
    fn request(&self) -> Result<ExportRequest, Failure> {
        match &self.command {
            Command::Nbd {
                unix,
                tcp,
                allow_remote,
                read_only,
            } => Ok(ExportRequest::Nbd {
                listen: listen_at(unix.as_ref(), *tcp, *allow_remote)?,
                read_only: *read_only,
            }),
            Command::VhostUserBlk {
                image,
                socket,
                read_only,
                queues,
            } => Ok(ExportRequest::VhostUserBlk {
                image: image.clone(),
                socket: absolute(socket)?,
                read_only: *read_only,
                queues: queues.unwrap_or_else(default_queues),
            }),
        }
    }
}

/// The program that serves the drive listens, so paths are absolute.
fn listen_at(
    unix: Option<&PathBuf>,
    tcp: Option<SocketAddr>,
    allow_remote: bool,
) -> Result<ListenAt, Failure> {
    match (unix, tcp) {
        (_, Some(address)) if !address.ip().is_loopback() && !allow_remote => Err(Failure::Usage(format!(
            "{address} can be reached from other machines, which NBD neither asks for a password nor encrypts for\n\
             hint: listen on 127.0.0.1 and forward the port with ssh, or add --allow-remote"
        ))),
        (_, Some(address)) => Ok(ListenAt::Tcp(address)),
        (Some(path), None) => absolute(path).map(ListenAt::Unix),
        (None, None) => Ok(ListenAt::Own),
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::Usage(format!("cannot use {}: {error}", path.display())))
}

/// A virtual machine takes as many as it has processors, which are seldom more than there are.
fn default_queues() -> u16 {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    u16::try_from(processors).map_or(VHOST_QUEUES_MAX, |queues| queues.min(VHOST_QUEUES_MAX))
}

/// Before that a signal ends the process, and the export with it.
fn stop_on_signals(export: &RunningExport) -> Result<()> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    signals
        .thread_block()
        .map_err(|source| Error::new(ErrorKind::NotPermitted, "cannot block signals").with_source(source))?;
    let stop = export.stopper()?;
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            if signals.wait().is_ok() {
                stop();
            }
        })
        .map(drop)
        .map_err(|source| Error::new(ErrorKind::NoMemory, "cannot start a thread").with_source(source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_machines_are_let_in_on_request_only() {
        let at =
            |address: &str, allow| listen_at(None, Some(address.parse().expect("an address")), allow).is_ok();
        assert!(at("127.0.0.1:10809", false) && at("[::1]:0", false) && at("127.9.9.9:1", false));
        assert!(!at("0.0.0.0:10809", false) && !at("[::]:10809", false) && !at("192.0.2.1:10809", false));
        assert!(at("0.0.0.0:10809", true));
    }

    #[test]
    fn a_relative_path_is_that_of_the_command() {
        let Ok(ListenAt::Unix(path)) = listen_at(Some(&"socket".into()), None, false) else {
            panic!("a path is fine");
        };
        assert!(path.is_absolute() && path.ends_with("socket"));
    }
}
