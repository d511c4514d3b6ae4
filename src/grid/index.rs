//! Places in a grid: the index of a block, and a slice inside it.

use std::ops::Range;

use crate::limits::BLOCK_INDEX_BITS;
use crate::{Error, ErrorKind, Result};

/// Index of a block in its namespace: 0 to 2^48 - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockIndex(u64);

impl BlockIndex {
    /// The first index.
    pub const MIN: Self = Self(0);
    /// The last index.
    pub const MAX: Self = Self((1 << BLOCK_INDEX_BITS) - 1);

    /// The index of that number.
    ///
    /// # Errors
    /// `InvalidArgument` above 2^48 - 1.
    pub fn new(index: u64) -> Result<Self> {
        if index > Self::MAX.0 {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("block index {index} is above the largest, {}", Self::MAX.0),
            ));
        }
        Ok(Self(index))
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The index `count` places on.
    ///
    /// # Errors
    /// `InvalidArgument` where that is above 2^48 - 1.
    pub fn plus(self, count: u64) -> Result<Self> {
        Self::new(self.0.saturating_add(count))
    }
}

/// Bytes `offset..offset+len` of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// First byte.
    pub offset: u32,
    /// Number of bytes.
    pub len: u32,
}

impl Slice {
    /// All bytes of any block.
    pub const ALL: Self = Self {
        offset: 0,
        len: u32::MAX,
    };

    /// The slice's part of a block's bytes.
    pub fn in_block(self, bytes: &[u8]) -> &[u8] {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        &bytes[self.cut(len)]
    }

    /// The part of the slice that lies in a block of `len` bytes.
    pub(super) fn cut(self, len: u32) -> Range<usize> {
        let end = self.offset.saturating_add(self.len).min(len);
        self.offset.min(end) as usize..end as usize
    }
}

/// The end of `len` bytes at `offset` in a block of at most `block_size` bytes.
///
/// # Errors
/// `InvalidArgument` where the end lies behind the block size.
pub(super) fn end_in_block(offset: u32, len: usize, block_size: u32) -> Result<u32> {
    u32::try_from(len)
        .ok()
        .and_then(|len| offset.checked_add(len))
        .filter(|&end| end <= block_size)
        .ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidArgument,
                format!("{len} bytes at offset {offset} pass the end of a block of {block_size} bytes"),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_has_48_bits() {
        assert_eq!(BlockIndex::new((1 << 48) - 1).unwrap(), BlockIndex::MAX);
        let error = BlockIndex::new(1 << 48).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("281474976710656"), "{error}");
        assert!(BlockIndex::MAX.plus(1).is_err());
        assert!(BlockIndex::MIN.plus(u64::MAX).is_err());
    }

    #[test]
    fn a_slice_is_cut_at_the_end_of_the_block() {
        let slice = |offset, len| Slice { offset, len };
        assert_eq!(slice(10, 20).cut(100), 10..30);
        assert_eq!(slice(10, 20).cut(15), 10..15);
        assert!(slice(10, 20).cut(5).is_empty());
        assert!(slice(u32::MAX, u32::MAX).cut(5).is_empty());
        assert_eq!(Slice::ALL.cut(7), 0..7);
    }

    #[test]
    fn bytes_behind_the_block_size_are_refused() {
        assert_eq!(end_in_block(4000, 96, 4096).unwrap(), 4096);
        let error = end_in_block(4000, 97, 4096).unwrap_err().to_string();
        assert!(
            error.contains("97") && error.contains("4000") && error.contains("4096"),
            "{error}"
        );
        assert!(end_in_block(u32::MAX, usize::MAX, 4096).is_err());
    }
}
