//! What `Volume::usage` says of a name, against what removing the name frees.

use fs_tests::model::Op;
use fs_tests::vfs_driver::VfsDriver;
use okapi::fs::{Subject, Volume};
use okapi::vfs::{Ino, Vfs};

/// What a removal is expected to free.
pub(crate) struct Promise {
    ino: Ino,
    private_bytes: u64,
    held_bytes: u64,
}

impl Promise {
    /// Asks before an operation that removes the name of a file.
    pub(crate) fn of(op: &Op, volume: &Volume, driver: &VfsDriver<'_>) -> Option<Self> {
        let Op::Unlink { at } = op else { return None };
        let (dir, name) = driver.name_at(at)?;
        let ino = volume.lookup(dir, name).ok()?.ino;
        volume.forget(ino, 1);
        let subject = Subject::Name {
            dir,
            name: name.into(),
        };
        Some(Self {
            ino,
            private_bytes: volume.usage(&[subject]).ok()?.total.private_bytes,
            held_bytes: volume.stat().usage.held_bytes,
        })
    }

    /// Compares when it was done. A file without a name that is still open keeps its bytes.
    pub(crate) fn compare(&self, volume: &Volume) -> Result<(), String> {
        if volume.getattr(self.ino).is_ok_and(|attr| attr.nlink == 0) {
            return Ok(());
        }
        match self.held_bytes - volume.stat().usage.held_bytes {
            freed if freed == self.private_bytes => Ok(()),
            freed => Err(format!(
                "{freed} bytes are freed, {} were private",
                self.private_bytes
            )),
        }
    }
}
