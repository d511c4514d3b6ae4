//! `okapi stat`: what a drive holds, and what it was asked.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::mounts::{self, Mount};
use super::outcome::{Outcome, json, print};
use super::size::human;
use crate::error::Result;
use crate::serve::control::StatReply;

/// Show what a drive holds
///
/// Without a mountpoint: the only drive, or one line for each where there are several.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Where the drive is mounted
    mountpoint: Option<PathBuf>,
    /// Print JSON: an object for a drive, an array for several; all sizes in bytes
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    mountpoint: String,
    /// What files and snapshots show for each byte that they hold.
    ratio: f64,
    #[serde(flatten)]
    stat: StatReply,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let drives = match &arguments.mountpoint {
        Some(path) => vec![mounts::drive(Some(path))?],
        None => {
            let mut drives = mounts::all()?;
            drives.retain(Mount::is_ours);
            drives
        }
    };
    match drives.as_slice() {
        [] => Err(mounts::no_drive().into()),
        [drive] => {
            let report = report(drive)?;
            print(if arguments.json {
                json(&report)?
            } else {
                full(&report)
            })
        }
        several if arguments.json => {
            let reports: Vec<Report> = several.iter().filter_map(|drive| report(drive).ok()).collect();
            print(json(&reports)?)
        }
        several => print(several.iter().map(line).collect::<String>()),
    }
}

fn report(drive: &Mount) -> Result<Report> {
    let stat = drive.connect()?.stat()?;
    Ok(Report {
        mountpoint: drive.mountpoint.display().to_string(),
        ratio: ratio(&stat),
        stat,
    })
}

fn ratio(stat: &StatReply) -> f64 {
    let shown = stat.logical_bytes + stat.snapshot_bytes;
    let saved = stat.compressed_bytes.saturating_sub(stat.compressed_held_bytes);
    match shown.saturating_sub(stat.shared_bytes + saved) {
        0 => 1.0,
        held => shown as f64 / held as f64,
    }
}

fn line(drive: &Mount) -> String {
    let place = drive.mountpoint.display();
    match report(drive) {
        Ok(Report { stat, .. }) => format!(
            "{place}: {} of {} held, {} inodes, pid {}\n",
            human(stat.held_bytes + stat.metadata_bytes),
            human(stat.size_bytes),
            stat.inodes,
            stat.pid,
        ),
        Err(_) => format!("{place}: does not answer\n"),
    }
}

fn full(report: &Report) -> String {
    let stat = &report.stat;
    let block_size = human(stat.block_size.into());
    let mut text = format!(
        "{}: okapi {}, pid {}, blocks of {block_size}\n",
        report.mountpoint, stat.version, stat.pid
    );
    for (what, bytes, meaning) in [
        ("size", stat.size_bytes, "bound on held and metadata together"),
        ("stored", stat.logical_bytes, "what the files take, each in full"),
        ("shared", stat.shared_bytes, "of that, taken once for several"),
        (
            "held",
            stat.held_bytes,
            "memory of all blocks, those beside the files too",
        ),
        ("metadata", stat.metadata_bytes, "inodes, names, attributes"),
        ("free", stat.free_bytes, "left to writers"),
        (
            "resident",
            stat.resident_bytes,
            "pages that the system has given to blocks",
        ),
    ] {
        push(&mut text, what, &format!("{:>10}   {meaning}", human(bytes)));
    }
    let compressed = format!(
        "{:>10}   in {} of memory, {} blocks",
        human(stat.compressed_bytes),
        human(stat.compressed_held_bytes),
        stat.compressed_blocks
    );
    push(&mut text, "compressed", &compressed);
    push(
        &mut text,
        "inodes",
        &format!("{:>10}   of {}", stat.inodes, stat.inodes_max),
    );
    let snapshots = format!(
        "{:>10}   holding {} that no file has",
        stat.snapshots,
        human(stat.snapshot_bytes)
    );
    push(&mut text, "snapshots", &snapshots);
    for namespace in &stat.namespaces {
        let blocks = format!(
            "{} blocks, {} held",
            namespace.blocks,
            human(namespace.held_bytes)
        );
        push(&mut text, "namespace", &format!("{}: {blocks}", namespace.name));
    }
    let dedup = format!(
        "{:>10}   of stored to held; {} blocks sealed, {} inodes wait",
        format!("{:.2}", report.ratio),
        stat.sealed_blocks,
        stat.unsealed_inodes
    );
    push(&mut text, "ratio", &dedup);
    push(&mut text, "transport", &stat.transport);
    let requests: Vec<String> = stat
        .requests
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    push(&mut text, "requests", &requests.join(", "));
    text
}

fn push(text: &mut String, what: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "  {what:<10} {value}");
}
