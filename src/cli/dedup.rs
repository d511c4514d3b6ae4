//! `okapi dedup`: equal blocks of a drive are held once, now.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::mounts;
use super::outcome::{Outcome, json, print};
use super::size::human;
use crate::serve::control::SealReply;

/// Hold equal blocks of a drive once, now
///
/// A drive does so by itself when files are left alone for some seconds (`okapi mount --dedup`). This does not wait for
/// that, and returns when every file was looked at.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Where the drive is mounted [default: the only one]
    mountpoint: Option<PathBuf>,
    /// Print JSON: an object; all sizes in bytes
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    mountpoint: String,
    #[serde(flatten)]
    sealed: SealReply,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let mount = mounts::drive(arguments.mountpoint.as_deref())?;
    let report = Report {
        mountpoint: mount.mountpoint.display().to_string(),
        sealed: mount.connect()?.seal()?,
    };
    print(match arguments.json {
        true => json(&report)?,
        false => text(&report),
    })
}

fn text(report: &Report) -> String {
    let SealReply {
        read_bytes,
        shared_bytes,
        zero_bytes,
        compressed_bytes,
        ..
    } = report.sealed;
    let compressed = match compressed_bytes {
        0 => String::new(),
        bytes => format!(", {} freed by compression", human(bytes)),
    };
    format!(
        "{}: {} looked at, {} freed that others hold, {} freed that were zeros{compressed}\n",
        report.mountpoint,
        human(read_bytes),
        human(shared_bytes),
        human(zero_bytes),
    )
}
