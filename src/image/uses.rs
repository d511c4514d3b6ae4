//! What is under way with the images of a drive.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::draft::Drafts;
use crate::vfs::Ino;

/// What is under way with the images of a drive, whoever does it.
#[derive(Default)]
pub(super) struct Uses {
    /// Images that clients of servers use, and how many do.
    clients: Mutex<HashMap<Ino, usize>>,
    /// Images in the making.
    pub(super) drafts: Drafts,
    /// Held from the look at a size to its change; above the locks of the filesystem.
    pub(super) resizing: Mutex<()>,
}

impl Uses {
    /// How many clients use an image.
    pub(super) fn of(&self, ino: Ino) -> usize {
        self.clients.lock().get(&ino).copied().unwrap_or(0)
    }

    /// One client more.
    pub(super) fn begin(&self, ino: Ino) {
        *self.clients.lock().entry(ino).or_default() += 1;
    }

    /// One client fewer.
    pub(super) fn end(&self, ino: Ino) {
        let mut uses = self.clients.lock();
        match uses.get_mut(&ino) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                uses.remove(&ino);
            }
        }
    }
}
