//! Bytes written to a file, all of them.

use crate::error::Result;
use crate::vfs::{Ino, Vfs, WriteAt};

/// Writes all of `bytes`, or as many as fit and then fails.
pub(super) fn write_all(fs: &dyn Vfs, ino: Ino, mut offset: u64, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        // The writer is nobody who could keep set-user-ID bits.
        let written = fs.write(ino, WriteAt::Offset(offset), bytes, true)?;
        offset += written.len as u64;
        bytes = &bytes[written.len..];
    }
    Ok(())
}
