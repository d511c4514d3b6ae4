//! What a server says: replies to options, and replies to requests on their way out.

use std::io::{self, Write};

use super::parse::Request;
use super::protocol::{CHUNK_MAGIC, Code, OPTION_REPLY_MAGIC, SIMPLE_REPLY_MAGIC, chunk};

/// Sends a reply to an option.
pub(super) fn send_option_reply(
    stream: &mut impl Write,
    option: u32,
    reply: u32,
    data: &[&[u8]],
) -> io::Result<()> {
    let len: usize = data.iter().map(|part| part.len()).sum();
    let len = u32::try_from(len).expect("a reply to an option is a name and a few numbers");
    let mut bytes = Vec::with_capacity(20 + len as usize);
    bytes.extend(OPTION_REPLY_MAGIC.to_be_bytes());
    bytes.extend(option.to_be_bytes());
    bytes.extend(reply.to_be_bytes());
    bytes.extend(len.to_be_bytes());
    data.iter().for_each(|part| bytes.extend_from_slice(part));
    stream.write_all(&bytes)
}

/// Replies that wait to be sent, so that requests that come together are answered together.
///
/// The memory is kept: filling it with zeros again and again would cost as much as what is read into it.
#[derive(Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    len: usize,
}

impl Outbox {
    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Takes back all from `len` on.
    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The next `len` bytes, for the caller to fill.
    pub(super) fn room(&mut self, len: usize) -> &mut [u8] {
        let start = self.len;
        self.len += len;
        if self.bytes.len() < self.len {
            self.bytes.resize(self.len, 0);
        }
        &mut self.bytes[start..self.len]
    }

    /// Sends all that waits.
    pub(super) fn flush(&mut self, stream: &mut impl Write) -> io::Result<()> {
        let waiting = &self.bytes[..self.len];
        self.len = 0;
        stream.write_all(waiting)
    }

    /// The head of a simple reply; the bytes of a read follow.
    pub(super) fn simple(&mut self, request: &Request, code: Option<Code>) {
        self.put(&SIMPLE_REPLY_MAGIC.to_be_bytes());
        self.put(&code.map_or(0, |code| code as u32).to_be_bytes());
        self.put(&request.cookie.to_be_bytes());
    }

    /// The head of a chunk; `len` bytes follow.
    pub(super) fn chunk(&mut self, request: &Request, kind: u16, len: u32, last: bool) {
        let flags = if last { chunk::DONE } else { 0 };
        self.put(&CHUNK_MAGIC.to_be_bytes());
        self.put(&flags.to_be_bytes());
        self.put(&kind.to_be_bytes());
        self.put(&request.cookie.to_be_bytes());
        self.put(&len.to_be_bytes());
    }

    /// The head of a chunk with bytes of the image; `len` of them follow.
    pub(super) fn data_chunk(&mut self, request: &Request, (offset, len): (u64, u32), last: bool) {
        self.chunk(request, chunk::OFFSET_DATA, 8 + len, last);
        self.put(&offset.to_be_bytes());
    }

    /// A chunk that stands for zeros.
    pub(super) fn hole_chunk(&mut self, request: &Request, (offset, len): (u64, u32), last: bool) {
        self.chunk(request, chunk::OFFSET_HOLE, 12, last);
        self.put(&offset.to_be_bytes());
        self.put(&len.to_be_bytes());
    }

    /// The last chunk of a reply that has failed.
    pub(super) fn error_chunk(&mut self, request: &Request, code: Code) {
        self.chunk(request, chunk::ERROR, 6, true);
        self.put(&(code as u32).to_be_bytes());
        // No message.
        self.put(&[0; 2]);
    }

    /// Bytes as they are.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
    }
}
