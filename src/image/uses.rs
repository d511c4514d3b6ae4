//! Which images are in use by clients of servers.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::vfs::Ino;

/// Images that clients of servers use, and how many do.
#[derive(Default)]
pub(super) struct Uses(Mutex<HashMap<Ino, usize>>);

impl Uses {
    /// How many clients use an image.
    pub(super) fn of(&self, ino: Ino) -> usize {
        self.0.lock().get(&ino).copied().unwrap_or(0)
    }

    /// One client more.
    pub(super) fn begin(&self, ino: Ino) {
        *self.0.lock().entry(ino).or_default() += 1;
    }

    /// One client fewer.
    pub(super) fn end(&self, ino: Ino) {
        let mut uses = self.0.lock();
        match uses.get_mut(&ino) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                uses.remove(&ino);
            }
        }
    }
}
