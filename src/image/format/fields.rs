//! Numbers in the headers of containers, and the error for those that make no sense.

use std::borrow::Cow;

use crate::error::{Error, ErrorKind};

/// A part of a header. Its place is fixed, and the header as long as the format says.
pub(super) fn field<const LEN: usize>(header: &[u8], at: usize) -> [u8; LEN] {
    header[at..at + LEN]
        .try_into()
        .expect("a range of LEN bytes has LEN bytes")
}

pub(super) fn be32(header: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(field(header, at))
}

pub(super) fn be64(header: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(field(header, at))
}

pub(super) fn le16(header: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(field(header, at))
}

pub(super) fn le32(header: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(field(header, at))
}

pub(super) fn le64(header: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(field(header, at))
}

/// Puts a number or a name into a header.
pub(super) fn put(header: &mut [u8], at: usize, bytes: impl AsRef<[u8]>) {
    let bytes = bytes.as_ref();
    header[at..at + bytes.len()].copy_from_slice(bytes);
}

pub(super) fn damaged(context: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Corrupt, context)
}

pub(super) fn unsupported(context: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::NotSupported, context)
}
