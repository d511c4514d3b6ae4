//! Defragmentation: extents of a file that writes have shattered become one again, and free memory goes back.
//!
//! ```text
//! Volume::scattered    which files are worth it              one look at each, nothing changes
//! Volume::defragment   some of them, up to a bound of work   again and again until all are done
//! Volume::gather       small blocks come together on few pages, and what is free goes back to the system
//! ```
//! The sealer does the second for each file that was left alone, before it looks for blocks equal to those that come of
//! it. What snapshots have kept shares its nodes or its blocks with others, or was not changed since: it stays.

use std::sync::Arc;

use super::inode::Inode;
use super::usage::{Subject, living_files};
use super::volume::Volume;
use crate::Result;
use crate::extent::Merged;
use crate::limits::{DEFRAG_STEP_BYTES, PAGE_SIZE};
use crate::range::ByteRange;
use crate::vfs::{Ino, Outdated};

/// What there may be to do for some files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScatteredFiles {
    /// Regular files that were looked at.
    pub files: u64,
    /// Extents that they have.
    pub extents: u64,
    /// Those that may have fewer or take less, by ascending numbers, and their lengths in bytes.
    pub scattered: Vec<(Ino, u64)>,
}

/// What one step has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DefragStep {
    /// Files that are done: the first ones of those that were given.
    pub done: usize,
    /// Where to go on in the file behind them; 0 where it is to be begun.
    pub offset: u64,
    /// What it has brought.
    pub merged: Merged,
}

impl Volume {
    /// Finds out which files, of those below the subjects, defragmentation may do something for. Takes time in
    /// proportion to their extents; operations go on meanwhile.
    ///
    /// # Errors
    /// `ReadOnly` for what is in a snapshot; `NotFound` for a name that does not exist, `Stale` and `NotDirectory` for a
    /// number that is no directory's.
    pub fn scattered(&self, subjects: &[Subject]) -> Result<ScatteredFiles> {
        let mut found = ScatteredFiles::default();
        for ino in living_files(self, subjects)? {
            let Ok(inode) = self.table.get(ino) else { continue };
            let Ok(content) = inode.content() else { continue };
            found.files += 1;
            found.extents += content.extent_count();
            if content.next_scattered(0).is_some() {
                found.scattered.push((ino, content.len()));
            }
        }
        Ok(found)
    }

    /// Merges the extents of files, one after the other, the first from an offset on, until a bound of bytes was moved
    /// or all are done. What has gone meanwhile, or is no regular file, counts as done.
    pub fn defragment(&self, files: &[Ino], offset: u64) -> DefragStep {
        let mut step = DefragStep {
            offset,
            ..DefragStep::default()
        };
        let mut left = DEFRAG_STEP_BYTES;
        while left > 0
            && let Some(ino) = files.get(step.done)
        {
            left = left.saturating_sub(PAGE_SIZE);
            let stop = self.defragment_file(*ino, &mut step, &mut left);
            if let Some(offset) = stop {
                step.offset = offset;
                break;
            }
            step.done += 1;
            step.offset = 0;
        }
        step
    }

    /// Brings small blocks together on few pages and gives all free memory back to the system; returns how many bytes.
    pub fn gather(&self) -> u64 {
        self.grid.gather()
    }

    /// One file of a step; returns where it was left because nothing is left of the bound.
    fn defragment_file(&self, ino: Ino, step: &mut DefragStep, left: &mut u64) -> Option<u64> {
        let inode = self.table.get(ino).ok()?;
        let mut stopped = None;
        let merged = self.merge_file(&inode, step.offset, |region| {
            if *left == 0 {
                stopped = Some(region.start);
            }
            *left = left.saturating_sub(region.len());
            stopped.is_none()
        });
        if merged != Merged::default() && self.is_settling() {
            self.backlog.note(inode.ino, &inode.mark);
        }
        step.merged.add(merged);
        stopped
    }

    /// Merges the extents of a file from an offset on, region by region, as long as the file has a name and `go_on` says
    /// so.
    pub(super) fn merge_file(
        &self,
        inode: &Arc<Inode>,
        offset: u64,
        mut go_on: impl FnMut(ByteRange) -> bool,
    ) -> Merged {
        let mut all = Merged::default();
        let mut from = offset;
        while let Some(region) = next_scattered(inode, from)
            && go_on(region)
        {
            let Some(merged) = self.change().merge(inode, &self.namespace, region) else {
                break;
            };
            all.add(merged);
            from = region.end;
        }
        if all.extents > 0 {
            // The memory that a file shows is that of its extents.
            self.tell_outdated(&[Outdated::Attributes(inode.ino)]);
        }
        all
    }
}

fn next_scattered(inode: &Inode, from: u64) -> Option<ByteRange> {
    inode.content().ok()?.next_scattered(from)
}
