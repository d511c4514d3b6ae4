//! Ranges of bytes and the typed arithmetic on them.

use crate::limits::{FILE_SIZE_MAX, PAGE_SIZE};
use crate::{ErrorKind, Result};

/// A half-open range of byte offsets in a file: `start <= end <= FILE_SIZE_MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

impl ByteRange {
    /// The range of `len` bytes at `start`.
    ///
    /// # Errors
    /// `FileTooBig` when the end passes the largest offset.
    pub fn at(start: u64, len: u64) -> Result<Self> {
        match start.checked_add(len) {
            Some(end) if end <= FILE_SIZE_MAX => Ok(Self { start, end }),
            _ => Err(ErrorKind::FileTooBig.into()),
        }
    }

    /// Number of bytes.
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether it holds no byte.
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// Whether both hold a byte in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// The part of this range that lies before `end`.
    #[must_use]
    pub fn clamp_end(self, end: u64) -> Self {
        let end = self.end.min(end);
        Self {
            start: self.start.min(end),
            end,
        }
    }

    /// Splits the range at multiples of `unit` (a power of two).
    pub fn pieces(self, unit: u64) -> impl Iterator<Item = Self> {
        debug_assert!(unit.is_power_of_two());
        let mut start = self.start;
        std::iter::from_fn(move || {
            (start < self.end).then(|| {
                let piece = Self {
                    start,
                    end: ((start | (unit - 1)) + 1).min(self.end),
                };
                start = piece.end;
                piece
            })
        })
    }
}

/// The largest multiple of the page size that is not above `offset`.
pub fn page_floor(offset: u64) -> u64 {
    offset & !(PAGE_SIZE - 1)
}

/// The smallest multiple of the page size that is not below `offset` (at most 2^63).
pub fn page_ceil(offset: u64) -> u64 {
    page_floor(offset + (PAGE_SIZE - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_the_range_and_stop_at_multiples() {
        let pieces: Vec<_> = ByteRange {
            start: 5000,
            end: 12288,
        }
        .pieces(4096)
        .map(|p| (p.start, p.end))
        .collect();
        assert_eq!(pieces, [(5000, 8192), (8192, 12288)]);
        assert_eq!(ByteRange { start: 7, end: 7 }.pieces(4096).count(), 0);
    }

    #[test]
    fn a_range_past_the_largest_offset_is_refused() {
        assert!(ByteRange::at(FILE_SIZE_MAX, 0).is_ok());
        assert!(ByteRange::at(FILE_SIZE_MAX, 1).is_err());
        assert!(ByteRange::at(u64::MAX, u64::MAX).is_err());
    }
}
