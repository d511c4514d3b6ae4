//! A request as it is read from the device, and the place of its answer.

use std::io;

use memmap2::MmapMut;
use zerocopy::FromBytes;

use crate::limits::{FUSE_WRITE_MAX, PAGE_SIZE};
use crate::serve::fuse::abi::{InHeader, WriteIn, arguments_size};
use crate::serve::fuse::dispatch::Request;

/// Where a request begins: the data of WRITE, and the answer to READ, begin at a page then, which spares the kernel
/// half of its copies.
const START: usize = PAGE_SIZE as usize - HEADER_SIZE - size_of::<WriteIn>();

const HEADER_SIZE: usize = size_of::<InHeader>();

/// Memory for one request at a time, touched as far as requests fill it.
///
/// ```text
/// START                               a page         FUSE_WRITE_MAX behind it
///   | header | arguments of WRITE (READ) | data (answer)     |
///   | header | arguments | names, then the answer in their place
/// ```
pub(super) struct Buffer(MmapMut);

impl Buffer {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(MmapMut::map_anon(
            PAGE_SIZE as usize + FUSE_WRITE_MAX as usize,
        )?))
    }

    /// Where a request goes.
    pub(super) fn space(&mut self) -> &mut [u8] {
        &mut self.0[START..]
    }

    /// The request in the first `len` bytes of the space. Names and data that did not come whole are found missing
    /// where they are looked at.
    ///
    /// # Errors
    /// `InvalidData` for what is no request at all.
    pub(super) fn request(&mut self, len: usize) -> io::Result<Request<'_>> {
        let space = self.space();
        let header = space
            .get(..len)
            .and_then(|bytes| InHeader::read_from_prefix(bytes).ok());
        let header = match header {
            Some((header, _)) if header.len as usize == len => header,
            _ => {
                let error = format!("{len} bytes that are no request came from the kernel");
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        };
        let (head, payload) = space.split_at_mut(answer_start(header.opcode));
        Ok(Request {
            header,
            len: len.saturating_sub(head.len()),
            arguments: &head[HEADER_SIZE..len.min(head.len())],
            payload,
        })
    }

    /// The first `len` bytes of the answer to a request that is numbered so.
    pub(super) fn answer(&mut self, operation: u32, len: usize) -> &[u8] {
        let start = answer_start(operation);
        &self.space()[start..start + len]
    }
}

/// Where the names or data of a request begin, and its answer.
fn answer_start(operation: u32) -> usize {
    HEADER_SIZE + arguments_size(operation)
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;
    use crate::serve::fuse::abi::{CopyFileRangeIn, SetattrIn, opcode};

    /// A request with these bytes behind its header, as the kernel sends it.
    fn fill(buffer: &mut Buffer, opcode: u32, body: &[u8]) -> usize {
        let header = InHeader {
            len: (HEADER_SIZE + body.len()) as u32,
            opcode,
            unique: 9,
            nodeid: 3,
            ..InHeader::default()
        };
        let message = [header.as_bytes(), body].concat();
        buffer.space()[..message.len()].copy_from_slice(&message);
        message.len()
    }

    #[test]
    fn arguments_names_and_data_are_taken_apart() {
        let mut buffer = Buffer::new().unwrap();
        let cases = [
            (opcode::LOOKUP, 0),
            (opcode::FORGET, 8),
            (opcode::GETATTR, 0),
            (opcode::SETATTR, size_of::<SetattrIn>()),
            (opcode::READLINK, 0),
            (opcode::SYMLINK, 0),
            (opcode::MKNOD, 16),
            (opcode::MKDIR, 8),
            (opcode::UNLINK, 0),
            (opcode::RMDIR, 0),
            (opcode::RENAME, 8),
            (opcode::RENAME2, 16),
            (opcode::LINK, 8),
            (opcode::READ, 40),
            (opcode::WRITE, 40),
            (opcode::STATFS, 0),
            (opcode::SETXATTR, 8),
            (opcode::GETXATTR, 8),
            (opcode::LISTXATTR, 8),
            (opcode::REMOVEXATTR, 0),
            (opcode::READDIR, 40),
            (opcode::READDIRPLUS, 40),
            (opcode::BATCH_FORGET, 8),
            (opcode::FALLOCATE, 32),
            (opcode::LSEEK, 24),
            (opcode::COPY_FILE_RANGE, size_of::<CopyFileRangeIn>()),
            (opcode::COPY_FILE_RANGE_64, 56),
        ];
        for (opcode, arguments_len) in cases {
            let body = [vec![1; arguments_len], b"name\0data".to_vec()].concat();
            let len = fill(&mut buffer, opcode, &body);
            let request = buffer.request(len).unwrap();
            assert_eq!((request.header.unique, request.header.nodeid), (9, 3));
            assert_eq!(request.arguments, vec![1; arguments_len], "{opcode}");
            assert_eq!(request.payload[..request.len], b"name\0data"[..], "{opcode}");
            request.payload[..2].copy_from_slice(b"ok");
            assert_eq!(buffer.answer(opcode, 2), b"ok");
        }
    }

    #[test]
    fn data_lies_at_a_page_and_there_is_room_for_the_longest() {
        let mut buffer = Buffer::new().unwrap();
        for opcode in [opcode::READ, opcode::WRITE, opcode::READDIR] {
            let body = vec![7; size_of::<WriteIn>() + FUSE_WRITE_MAX as usize];
            let len = fill(&mut buffer, opcode, &body);
            assert_eq!(len, buffer.space().len());
            let request = buffer.request(len).unwrap();
            assert_eq!(request.len, FUSE_WRITE_MAX as usize);
            assert_eq!(request.payload.len(), request.len);
            assert_eq!(request.payload.as_ptr().align_offset(PAGE_SIZE as usize), 0);
        }
    }

    #[test]
    fn what_is_cut_short_is_no_request_or_misses_its_arguments() {
        let mut buffer = Buffer::new().unwrap();
        for opcode in (0..64).chain([4096, u32::MAX]) {
            let whole = arguments_size(opcode);
            for body_len in 0..whole {
                let len = fill(&mut buffer, opcode, &vec![1; body_len]);
                let request = buffer.request(len).unwrap();
                assert_eq!((request.arguments.len(), request.len), (body_len, 0), "{opcode}");
            }
            let len = fill(&mut buffer, opcode, &vec![1; whole + 20]);
            for wrong in (0..len).chain([len + 1, usize::MAX]) {
                let error = buffer
                    .request(wrong)
                    .err()
                    .expect("the length in the header is another");
                assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            }
        }
    }
}
