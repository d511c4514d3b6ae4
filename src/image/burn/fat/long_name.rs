//! How entries of directories hold long names: a part of one in each, in front of the entry with the short name.

/// Attributes of an entry that is part of a long name.
pub(in crate::image) const ATTRIBUTES: u8 = 0x0F;
/// Offsets of the units of UTF-16 in a part.
pub(in crate::image) const UNITS_AT: [usize; 13] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];

/// The check that a long name has of its short one.
pub(in crate::image) fn checksum(short: &[u8]) -> u8 {
    short
        .iter()
        .fold(0, |sum: u8, &byte| sum.rotate_right(1).wrapping_add(byte))
}
