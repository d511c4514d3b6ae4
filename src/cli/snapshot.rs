//! `okapi snapshot`: the state of a whole drive, frozen, listed, compared, gone back to.

use std::fmt::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::mounts::{self, Mount};
use super::outcome::{Outcome, json, print};
use super::paths::on_one_line;
use super::size::human;
use crate::serve::control::{DifferenceReply, SnapshotDeed, SnapshotReply};

/// Freeze the state of a drive, show it, go back to it
///
/// A snapshot is made in no time and takes no memory until something changes. Each is shown read-only in
/// `.okapi/snapshots/NAME` below the mountpoint, a directory that listings of the root leave out.
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
    /// Freeze the present state under a name
    Create {
        /// Letters, digits and . _ - + : @
        name: String,
    },
    /// List the snapshots, oldest first
    List {
        /// Print JSON: an array of objects
        #[arg(long)]
        json: bool,
    },
    /// Delete snapshots, and free what only they hold
    Delete {
        /// Their names
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Show what differs between two snapshots, or between one and the present
    ///
    /// `+` was added, `-` removed, `R` has another name, `M` has other bytes or (`attributes`) other attributes. What is
    /// below a directory that has another name is not listed for that.
    Diff {
        /// The older state
        from: String,
        /// The newer state [default: the present]
        to: Option<String>,
        /// Print JSON: an array of objects; paths that are no text are arrays of bytes
        #[arg(long)]
        json: bool,
    },
    /// Make the drive what it was; all snapshots stay
    ///
    /// What has changed since is lost, unless another snapshot has it. Files that are open stay open: those that the
    /// snapshot does not have go on without a name.
    Rollback {
        /// The snapshot to go back to
        name: String,
    },
}

#[derive(Serialize)]
struct Listed<'a> {
    /// Where its files are.
    path: String,
    #[serde(flatten)]
    snapshot: &'a SnapshotReply,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let drive = mounts::drive(arguments.mount.as_deref())?;
    match &arguments.command {
        Command::Create { name } => {
            drive.flush()?;
            drive.connect()?.snapshot(SnapshotDeed::Create, name)?;
        }
        Command::Delete { names } => {
            let mut client = drive.connect()?;
            for name in names {
                client.snapshot(SnapshotDeed::Delete, name)?;
            }
        }
        Command::Rollback { name } => {
            drive.flush()?;
            drive.connect()?.snapshot(SnapshotDeed::Rollback, name)?;
        }
        Command::Diff {
            from,
            to,
            json: as_json,
        } => {
            if to.is_none() {
                drive.flush()?;
            }
            let differences = drive.connect()?.diff(from, to.as_deref())?;
            return print(match as_json {
                true => json(&differences)?,
                false => differences.iter().map(line).collect(),
            });
        }
        Command::List { json: as_json } => {
            let snapshots = drive.connect()?.snapshots()?;
            return print(match as_json {
                true => json(
                    &snapshots
                        .iter()
                        .map(|snapshot| listed(&drive, snapshot))
                        .collect::<Vec<_>>(),
                )?,
                false => table(&snapshots),
            });
        }
    }
    Ok(())
}

fn listed<'a>(drive: &Mount, snapshot: &'a SnapshotReply) -> Listed<'a> {
    let path = drive.mountpoint.join(".okapi/snapshots").join(&snapshot.name);
    Listed {
        path: path.display().to_string(),
        snapshot,
    }
}

fn line(difference: &DifferenceReply) -> String {
    match difference {
        DifferenceReply::Added { path } => format!("+ {}\n", on_one_line(path)),
        DifferenceReply::Removed { path } => format!("- {}\n", on_one_line(path)),
        DifferenceReply::Renamed { from, path } => {
            format!("R {} -> {}\n", on_one_line(from), on_one_line(path))
        }
        DifferenceReply::Modified {
            path,
            ranges,
            attributes,
        } => {
            let ranges = ranges.iter().map(|(start, end)| format!(" {start}..{end}"));
            let attributes = if *attributes { " attributes" } else { "" };
            format!(
                "M {}{}{attributes}\n",
                on_one_line(path),
                ranges.collect::<String>()
            )
        }
    }
}

fn table(snapshots: &[SnapshotReply]) -> String {
    let mut text = String::new();
    let width = snapshots
        .iter()
        .map(|snapshot| snapshot.name.len())
        .max()
        .unwrap_or(0);
    for snapshot in snapshots {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:width$}  {}  {:>9} inodes changed  {:>10} of its own, {:>10} of metadata",
            snapshot.name,
            utc(snapshot.created_secs),
            snapshot.changed_inodes,
            human(snapshot.private_bytes),
            human(snapshot.metadata_bytes),
        );
    }
    text
}

/// Seconds since 1970 as `YYYY-MM-DD hh:mm:ss UTC` (the civil calendar, in eras of 400 years from March on).
fn utc(secs: i64) -> String {
    let (days, second) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
    let from_march_0 = days + 719_468;
    let (era, day) = (from_march_0.div_euclid(146_097), from_march_0.rem_euclid(146_097));
    let year_of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_dates() {
        for (secs, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (-1, "1969-12-31 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_078_012_799, "2004-02-28 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
            (1_795_257_045, "2026-11-21 10:30:45 UTC"),
        ] {
            assert_eq!(utc(secs), text);
        }
    }
}
