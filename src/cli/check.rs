//! `okapi check`: verifies every structure of a mounted drive.

use std::path::PathBuf;

use clap::Args;

use super::mounts;
use super::outcome::{Outcome, print};

/// Verify every structure of a mounted drive
///
/// Operations that change something wait meanwhile. Exits with 1 and the first finding where something is damaged.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Where the drive is mounted [default: the only one]
    mountpoint: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let mount = mounts::drive(arguments.mountpoint.as_deref())?;
    let report = mount.connect()?.check()?;
    print(format!(
        "{}: sound: {} inodes ({} directories, {} files), {} names, {} snapshots\n",
        mount.mountpoint.display(),
        report.inodes,
        report.directories,
        report.files,
        report.entries,
        report.snapshots,
    ))
}
