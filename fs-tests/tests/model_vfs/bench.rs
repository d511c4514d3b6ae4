//! A volume beside the model: one operation on both, and the comparison of all that can be seen.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use fs_tests::model::{Answer, Model, Op, Outcome, Times};
use fs_tests::vfs_driver::VfsDriver;
use nix::errno::Errno;
use okapi::clock::ManualClock;
use okapi::fs::{Dedup, Subject, Volume, VolumeConfig};
use okapi::grid::{Grid, GridConfig, Usage};
use okapi::vfs::{Ino, Vfs};

use crate::usage::Promise;
use crate::{Setup, TINY};

/// Of so many removals one is foretold: each time costs a walk through all extents.
const USAGE_EVERY: u64 = 8;

/// A volume, and what it used when it was empty.
pub(crate) struct Bench {
    grid: Arc<Grid>,
    pub(crate) volume: Arc<Volume>,
    empty: Usage,
    setup: Setup,
    /// Operations that were refused for want of space or inodes, or done in part.
    pub(crate) refused: Cell<u64>,
    /// Names of files that were removed, or could not be.
    removals: Cell<u64>,
}

impl Bench {
    pub(crate) fn new(setup: Setup) -> Self {
        let grid = Grid::new(GridConfig {
            size_bytes: setup.size_bytes,
            block_size: setup.block_size,
        })
        .unwrap();
        let namespace = grid.create_namespace("drive", None).unwrap();
        let config = VolumeConfig {
            inodes_max: setup.inodes_max,
            dedup: match setup.seal_every {
                0 => Dedup::Off,
                _ => Dedup::Inline,
            },
            ..VolumeConfig::default()
        };
        let volume = Volume::new(&grid, namespace, Arc::new(ManualClock::new()), config).unwrap();
        let empty = grid.usage();
        Self {
            grid,
            volume,
            empty,
            setup,
            refused: Cell::new(0),
            removals: Cell::new(0),
        }
    }

    /// Defragments all files; how many extents fewer there are.
    pub(crate) fn defragment(&self) -> u64 {
        let found = self.volume.scattered(&[Subject::Tree(Ino::ROOT)]);
        let found = found.expect("the root is there").scattered;
        let files: Vec<Ino> = found.into_iter().map(|(ino, _)| ino).collect();
        let (mut rest, mut offset, mut merged) = (files.as_slice(), 0, 0);
        while !rest.is_empty() {
            let step = self.volume.defragment(rest, offset);
            merged += step.merged.extents;
            (rest, offset) = (&rest[step.done..], step.offset);
        }
        merged
    }

    pub(crate) fn compare(&self, model: &Model, driver: &VfsDriver<'_>) -> Result<(), String> {
        let dump = driver.dump().map_err(|errno| format!("dump: {errno}"))?;
        model.compare(&dump, Times::Ordered)?;
        self.volume
            .check()
            .map_err(|error| format!("volume check: {error}"))?;
        self.grid
            .check()
            .map_err(|error| format!("grid check: {error}"))?;
        match (self.volume.stat().inodes, model.inode_count() as u64) {
            (counted, right) if counted == right => Ok(()),
            (counted, right) => Err(format!("{counted} inodes, in the model {right}")),
        }
    }

    /// Whether so little is left that `op` may be refused: blocks in the middle of a change need room twice.
    pub(crate) fn may_be_full(&self, op: &Op) -> bool {
        let stat = self.volume.statfs();
        let wanted = match op {
            Op::Fallocate { span, .. } => span.len,
            Op::SetXattr { len, .. } => u64::from(*len),
            _ => op.bytes_to_write().unwrap_or(4096),
        };
        // the first change of an inode after a snapshot keeps its attributes, five of 64 KiB at most
        let kept = if self.setup.snapshots_max > 0 {
            400 << 10
        } else {
            0
        };
        stat.inodes_free == 0 || stat.free_bytes < 2 * wanted + 6 * u64::from(self.setup.block_size) + kept
    }

    /// Whether the run is about a volume that fills up.
    pub(crate) fn is_tiny(&self) -> bool {
        self.setup.size_bytes == TINY.size_bytes
    }

    /// Plays one operation on both and compares the answers.
    pub(crate) fn step(&self, op: &Op, model: &mut Model, driver: &mut VfsDriver<'_>) -> Result<(), String> {
        let promise = match self.removals.get() % USAGE_EVERY {
            0 => Promise::of(op, &self.volume, driver),
            _ => None,
        };
        if matches!(op, Op::Unlink { .. }) {
            self.removals.set(self.removals.get() + 1);
        }
        let outcome = driver.play(op);
        if outcome == Err(Errno::ENOSPC) && self.may_be_full(op) {
            // nothing may have changed
            self.refused.set(self.refused.get() + 1);
            return self.compare(model, driver);
        }
        let played = match shortened(op, &outcome) {
            Some(short) if self.may_be_full(op) => {
                self.refused.set(self.refused.get() + 1);
                short
            }
            _ => op.clone(),
        };
        let expected = model.apply(&played);
        match expected.allows(&outcome) {
            true if outcome.is_ok() => promise.map_or(Ok(()), |promise| promise.compare(&self.volume)),
            true => Ok(()),
            false => Err(format!(
                "answers {outcome:?}, right is {:?} {:?}",
                expected.first, expected.others
            )),
        }
    }

    /// Removes every name, gives every look-up back, and expects the memory of the empty volume.
    pub(crate) fn clear(&self, driver: &mut VfsDriver<'_>) -> Result<(), String> {
        driver.close_all();
        let dump = driver.dump().map_err(|errno| format!("dump: {errno}"))?;
        let paths: BTreeMap<_, _> = dump.names.iter().filter(|(path, _)| !path.is_empty()).collect();
        for (path, ino) in paths.into_iter().rev() {
            let slash = path
                .iter()
                .rposition(|byte| *byte == b'/')
                .expect("a path below the root has a slash");
            let parent = Ino(dump.names[&path[..slash]]);
            let name = &path[slash + 1..];
            let removed = match dump.nodes[ino].attr.format {
                libc::S_IFDIR => self.volume.rmdir(parent, name),
                _ => self.volume.unlink(parent, name),
            };
            removed.map_err(|error| format!("removing {}: {error}", path.escape_ascii()))?;
        }
        driver
            .remove_xattrs_of_root()
            .map_err(|errno| format!("the root's attributes: {errno}"))?;
        self.volume
            .check()
            .map_err(|error| format!("check after all is gone: {error}"))?;
        self.grid
            .check()
            .map_err(|error| format!("grid check after all is gone: {error}"))?;
        let left = self.grid.usage();
        match left == self.empty {
            true => Ok(()),
            false => Err(format!(
                "{left:?} is used when all is gone, {:?} before",
                self.empty
            )),
        }
    }
}

/// The operation as it was done where only a part of the bytes fitted.
fn shortened(op: &Op, outcome: &Outcome) -> Option<Op> {
    let asked = op.bytes_to_write()?;
    match outcome {
        Ok(Answer::Count(done)) if *done > 0 && *done < asked => Some(op.shortened(*done)),
        _ => None,
    }
}
