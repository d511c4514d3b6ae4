//! Large files: bytes of which no page is like another, written and read in calls of a MiB.

use std::fs::File;
use std::io::{self, Read, Write};

use crate::rng::Rng;

/// Bytes of a call.
pub const CALL_BYTES: usize = 1 << 20;
const PAGE: usize = 4096;

/// Memory that begins at a page, as direct I/O wants it.
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    fn new() -> Self {
        let bytes = vec![0; CALL_BYTES + PAGE];
        let start = bytes.as_ptr().align_offset(PAGE);
        Self { bytes, start }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + CALL_BYTES]
    }
}

/// Writes bytes that cannot be stored for less: neither zeros, nor compressible, nor the same page twice.
pub struct Stream {
    buffer: Buffer,
    pages: u64,
}

impl Stream {
    /// Streams of different seeds have no page in common.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut buffer = Buffer::new();
        for word in buffer.bytes().chunks_exact_mut(8) {
            word.copy_from_slice(&rng.bits().to_le_bytes());
        }
        Self { buffer, pages: 0 }
    }

    /// Writes so many bytes, whole calls, where the file stands.
    ///
    /// # Errors
    /// As write(2).
    pub fn write(&mut self, mut file: &File, len_bytes: usize) -> io::Result<()> {
        for _ in 0..len_bytes / CALL_BYTES {
            let bytes = self.buffer.bytes();
            for page in bytes.chunks_exact_mut(PAGE) {
                page[..8].copy_from_slice(&self.pages.to_le_bytes());
                self.pages += 1;
            }
            file.write_all(bytes)?;
        }
        Ok(())
    }
}

/// Reads files into memory that is used again and again.
pub struct Reader(Buffer);

impl Reader {
    /// Takes the memory.
    #[expect(
        clippy::new_without_default,
        reason = "it takes memory, which a default should not"
    )]
    pub fn new() -> Self {
        Self(Buffer::new())
    }

    /// Reads a file from where it stands to its end.
    ///
    /// # Errors
    /// As read(2).
    pub fn read(&mut self, mut file: &File) -> io::Result<()> {
        while file.read(self.0.bytes())? > 0 {}
        Ok(())
    }
}
