//! `okapi umount`: takes a drive away, that of a living program or of a killed one.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::mounts;
use super::outcome::{Failure, Outcome, complain};
use crate::ErrorKind;
use crate::serve::control;
use crate::serve::fuse::{Detach, unmount};

/// Longest wait for a program that has nothing left to do but to free its memory.
const END_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait where programs may go on using the drive.
const LAZY_END_TIMEOUT: Duration = Duration::from_secs(1);

/// Unmount a drive; everything on it is gone
///
/// Returns when the program that served it has ended and its memory is free. Clears away the mount of a program that
/// was killed, too.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Where the drive is mounted
    mountpoint: PathBuf,
    /// Take a drive that is in use out of the tree now; it ends when its users let go
    #[arg(long, short)]
    lazy: bool,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let mount = mounts::drive(Some(&arguments.mountpoint))?;
    // Asked for now, as the socket goes with the mount.
    let program = mount.connect().ok();
    if program.is_none() {
        control::remove_stale_socket(mount.device, mount.owner);
    }
    let (detach, timeout) = match arguments.lazy {
        true => (Detach::Lazy, LAZY_END_TIMEOUT),
        false => (Detach::WhenIdle, END_TIMEOUT),
    };
    unmount(&mount.mountpoint, detach)?;
    let mounted_elsewhere = mounts::all()?.iter().any(|other| other.device == mount.device);
    let Some(program) = program.filter(|_| !mounted_elsewhere) else {
        return Ok(());
    };
    match program.await_end(timeout)? {
        true => Ok(()),
        false if arguments.lazy => {
            complain(&"the drive is in use still; its memory is free when its users let go");
            Ok(())
        }
        false => Err(Failure::failed(
            ErrorKind::Busy,
            format!(
                "unmounted, but its program has not ended within {} s",
                timeout.as_secs()
            ),
        )),
    }
}
