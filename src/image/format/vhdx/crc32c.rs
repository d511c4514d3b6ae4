//! Checksums of structures that have them in a field of their own.

use crate::image::checksum::CRC32C;

/// The checksum of a structure whose own checksum, four bytes at `field`, counts as zeros.
pub(super) fn checksum(bytes: &[u8], field: usize) -> u32 {
    ![&bytes[..field], &[0; 4], &bytes[field + 4..]]
        .into_iter()
        .fold(u32::MAX, |remainder, bytes| CRC32C.add(remainder, bytes))
}

#[cfg(test)]
mod tests {
    use super::checksum;
    use crate::image::checksum::CRC32C;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        // RFC 3720, appendix B.4: 32 bytes of zeros, of ones, and counted up.
        let up: Vec<u8> = (0..32).collect();
        for (bytes, crc) in [
            (&[0; 32][..], 0x8a91_36aa),
            (&[255; 32], 0x62a8_ab43),
            (&up, 0x46dd_794e),
        ] {
            assert_eq!(!CRC32C.remainder(bytes), crc);
        }
    }

    #[test]
    fn the_field_of_the_checksum_counts_as_zeros() {
        let mut bytes = vec![0; 32];
        bytes[4..8].fill(9);
        assert_eq!(checksum(&bytes, 4), 0x8a91_36aa);
    }
}
