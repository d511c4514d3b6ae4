//! `okapi du`: what files, directories and snapshots take, and what of it they share.

use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::outcome::{Outcome, json, print};
use super::paths::on_one_line;
use super::size::human;
use super::subjects;
use crate::error::Result;
use crate::serve::control::{FileUsageReply, PathReply};

/// Show what files take: for themselves, and together with others
///
/// A line for each PATH, directories with all that is below them:
///
/// logical     what the files are long
/// {n}referenced  memory of the blocks that they use, each counted once
/// {n}private     of that, what nothing else uses: deleting PATH frees it
/// {n}shared      of that, what is used elsewhere too
/// {n}with        how many files elsewhere, and states of files that snapshots keep, share it
///
/// The total counts what several PATHs use once, and what only they share with each other as private.
///
/// In a snapshot, which is deleted as a whole, private is what nothing outside PATH uses; for all of it
/// (MOUNT/.okapi/snapshots/NAME) this is what `okapi snapshot delete` frees. A file that has not changed since a snapshot
/// is the snapshot's too, so that deleting it frees nothing. While a program has a file open, its memory stays.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Files and directories, in snapshots too; symbolic links are not followed
    #[arg(default_value = ".", hide_default_value = true)]
    paths: Vec<PathBuf>,
    /// Print JSON: an object with an array `paths` and an object `total`; all sizes in bytes
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    paths: Vec<Line>,
    total: FileUsageReply,
}

#[derive(Serialize)]
struct Line {
    path: PathReply,
    #[serde(flatten)]
    usage: FileUsageReply,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let report = ask(&arguments.paths)?;
    print(match arguments.json {
        true => json(&report)?,
        false => table(&report),
    })
}

fn ask(paths: &[PathBuf]) -> Result<Report> {
    let drives = subjects::by_drive(paths)?;
    let mut usages = vec![FileUsageReply::default(); paths.len()];
    let mut total = FileUsageReply::default();
    for questions in &drives {
        questions.drive.flush()?;
        let reply = questions.drive.connect()?.usage(&questions.subjects)?;
        for (position, usage) in questions.positions.iter().zip(reply.each) {
            usages[*position] = usage;
        }
        // Drives share nothing with each other.
        add(&mut total, &reply.total);
    }
    let line = |(path, usage): (&PathBuf, FileUsageReply)| Line {
        path: path.as_os_str().as_bytes().to_vec().into(),
        usage,
    };
    Ok(Report {
        paths: paths.iter().zip(usages).map(line).collect(),
        total,
    })
}

fn add(total: &mut FileUsageReply, part: &FileUsageReply) {
    total.files += part.files;
    total.logical_bytes += part.logical_bytes;
    total.referenced_bytes += part.referenced_bytes;
    total.private_bytes += part.private_bytes;
    total.shared_bytes += part.shared_bytes;
    total.sharing_files += part.sharing_files;
}

fn table(report: &Report) -> String {
    let mut text = format!(
        "{:>10} {:>10} {:>10} {:>10} {:>6}  path\n",
        "logical", "referenced", "private", "shared", "with"
    );
    for line in &report.paths {
        push(&mut text, &line.usage, &on_one_line(&line.path));
    }
    if report.paths.len() > 1 {
        push(&mut text, &report.total, "total");
    }
    text
}

fn push(text: &mut String, usage: &FileUsageReply, path: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{:>10} {:>10} {:>10} {:>10} {:>6}  {path}",
        human(usage.logical_bytes),
        human(usage.referenced_bytes),
        human(usage.private_bytes),
        human(usage.shared_bytes),
        usage.sharing_files,
    );
}
