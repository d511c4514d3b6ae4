//! Tells the kernel what it may remember no more, when something else than its requests has changed the filesystem.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fuser::{INodeNo, Notifier};
use tracing::warn;

use crate::vfs::Outdated;

/// The kernel's memory of names, attributes and bytes.
pub struct KernelCaches(Notifier);

impl KernelCaches {
    pub(super) fn new(notifier: Notifier) -> Self {
        Self(notifier)
    }

    /// Makes the kernel forget. Waits for operations under way in the directories and files: no lock may be held that
    /// they need.
    pub fn forget(&self, outdated: &[Outdated]) {
        for knowledge in outdated {
            let told = match knowledge {
                Outdated::Inode(ino) => self.0.inval_inode(INodeNo(ino.0), 0, 0),
                // An offset before the first byte leaves the bytes alone.
                Outdated::Attributes(ino) => self.0.inval_inode(INodeNo(ino.0), -1, 0),
                // Offsets of a file fit 63 bits.
                Outdated::Bytes { ino, range } => self.0.inval_inode(
                    INodeNo(ino.0),
                    range.start.cast_signed(),
                    range.len().cast_signed(),
                ),
                Outdated::Entry { parent, name } => {
                    self.0.inval_entry(INodeNo(parent.0), OsStr::from_bytes(name))
                }
            };
            if let Err(error) = told {
                warn!("the kernel goes on remembering {knowledge:?}: {error}");
            }
        }
    }
}
