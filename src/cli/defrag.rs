//! `okapi defrag`: what random writes have shattered becomes whole again, now.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::mounts;
use super::outcome::{Outcome, json, print};
use super::progress::Progress;
use super::size::human;
use super::subjects::{self, Questions};
use crate::error::Result;
use crate::serve::control::{Client, ScatteredReply, SubjectRequest};
use crate::vfs::Ino;

/// Files that are named in one request.
const FILES_AT_ONCE: usize = 4096;

/// Bring together what random writes have shattered, now
///
/// Extents side by side in a file, which nothing else shares, become one where that takes less memory. Small blocks come
/// together on few pages, and what is free goes back to the system. Bytes and holes stay as they are, and programs go
/// on meanwhile; to stop it is safe at any time.
///
/// A drive does so by itself with files that were written to and then left alone for some seconds, unless it is mounted
/// with `--dedup off` and without `--compress`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Files and directories; symbolic links are not followed [default: all of the only drive]
    paths: Vec<PathBuf>,
    /// Print JSON: an object; all sizes in bytes
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    /// Regular files that were looked at.
    files: u64,
    extents_before: u64,
    extents_after: u64,
    /// What blocks and extents took.
    freed_bytes: u64,
    /// What went back to the system.
    returned_bytes: u64,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let mut report = Report::default();
    for questions in questions(&arguments.paths)? {
        defragment(&questions, &mut report)?;
    }
    print(match arguments.json {
        true => json(&report)?,
        false => text(&report),
    })
}

fn questions(paths: &[PathBuf]) -> Result<Vec<Questions>> {
    if !paths.is_empty() {
        return subjects::by_drive(paths);
    }
    Ok(vec![Questions {
        drive: mounts::drive(None)?,
        positions: Vec::new(),
        subjects: vec![SubjectRequest::Tree(Ino::ROOT.0)],
    }])
}

fn defragment(questions: &Questions, report: &mut Report) -> Result<()> {
    let mut client = questions.drive.connect()?;
    let found = client.scattered(&questions.subjects)?;
    report.files += found.files;
    report.extents_before += found.extents;
    report.extents_after += found.extents;
    merge(&mut client, &found, report)?;
    report.returned_bytes += client.gather()?;
    Ok(())
}

/// Has the files merged that are scattered, step by step.
fn merge(client: &mut Client, found: &ScatteredReply, report: &mut Report) -> Result<()> {
    let bytes = |files: &[(u64, u64)]| files.iter().map(|(_, len)| len).sum::<u64>();
    let mut progress = Progress::new("defragmenting", bytes(&found.scattered));
    let (mut done_bytes, mut offset) = (0, 0);
    let mut rest = found.scattered.as_slice();
    while !rest.is_empty() {
        let some: Vec<u64> = rest.iter().take(FILES_AT_ONCE).map(|(ino, _)| *ino).collect();
        let step = client.defragment(&some, offset)?;
        report.extents_after = report.extents_after.saturating_sub(step.extents);
        report.freed_bytes += step.freed_bytes;
        let (done, left) = rest.split_at(step.done.min(rest.len()));
        done_bytes += bytes(done);
        (rest, offset) = (left, step.offset);
        progress.at(done_bytes + offset);
    }
    Ok(())
}

fn text(report: &Report) -> String {
    format!(
        "{} files: {} extents of {} are left, {} freed, {} returned to the system\n",
        report.files,
        report.extents_after,
        report.extents_before,
        human(report.freed_bytes),
        human(report.returned_bytes),
    )
}
