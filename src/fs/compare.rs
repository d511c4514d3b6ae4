//! Two regular files compared: where they differ, and equal pages made to share memory.

use super::inode::Inode;
use super::snapshot::place::is_shown;
use super::volume::Volume;
use crate::extent::{Content, Differences, Shared};
use crate::limits::{DIFF_PIN_BYTES, DIFF_STEP_BYTES};
use crate::range::{ByteRange, page_floor};
use crate::vfs::{Ino, Outdated};
use crate::{Error, ErrorKind, Result};

/// The files are compared piece by piece, each as both are at one moment.
pub(super) fn differences(
    volume: &Volume,
    files: [Ino; 2],
    range: ByteRange,
    most: usize,
) -> Result<Differences> {
    let mut found = Differences {
        ranges: Vec::new(),
        end: range.start,
    };
    for _ in 0..DIFF_STEP_BYTES / DIFF_PIN_BYTES {
        volume.looks.give_way();
        let rest = ByteRange {
            start: found.end,
            end: range.end,
        };
        let piece = differences_at_once(volume, files, rest, most - found.ranges.len())?;
        found.append(piece);
        if found.end >= range.end || found.ranges.len() >= most {
            break;
        }
    }
    Ok(found)
}

fn differences_at_once(
    volume: &Volume,
    files: [Ino; 2],
    range: ByteRange,
    most: usize,
) -> Result<Differences> {
    let _look = volume.looks.begin();
    let (left, right) = (pinned(volume, files[0])?, pinned(volume, files[1])?);
    Ok(left.differences_in(&right, range, most))
}

pub(super) fn share_pages(volume: &Volume, source: Ino, target: Ino, range: ByteRange) -> Result<Shared> {
    if is_shown(target) {
        return Err(Error::new(ErrorKind::ReadOnly, "a snapshot cannot be changed"));
    }
    let inode = volume.table.get(target)?;
    inode.require_file()?;
    let block_size = u64::from(volume.namespace.block_size());
    let mut done = Shared {
        end: page_floor(range.start),
        bytes: 0,
    };
    let mut looked = 0;
    let mut failed = None;
    while done.end < range.end && looked < DIFF_STEP_BYTES {
        volume.looks.give_way();
        match volume.with_room(|| share_region(volume, source, &inode, done.end)) {
            Ok(step) => {
                looked += (step.end - done.end).min(block_size);
                done.end = step.end;
                done.bytes += step.bytes;
            }
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    if done.bytes > 0 || failed.is_some() {
        // The memory that a file shows is that of its extents.
        volume.tell_outdated(&[Outdated::Attributes(target)]);
    }
    done.end = done.end.min(range.end);
    failed.map_or(Ok(done), Err)
}

/// Shares pages of one region at most.
fn share_region(volume: &Volume, source: Ino, target: &Inode, offset: u64) -> Result<Shared> {
    let _look = volume.looks.begin();
    let source = pinned(volume, source)?;
    let change = volume.change();
    change.share_pages(target, &volume.namespace, &source, offset)
}

/// The bytes of a file as they are now, whatever happens to it.
fn pinned(volume: &Volume, ino: Ino) -> Result<Content> {
    match is_shown(ino) {
        true => volume.view(|view| view.content(ino)),
        false => Ok(volume.table.get(ino)?.content()?.clone()),
    }
}
