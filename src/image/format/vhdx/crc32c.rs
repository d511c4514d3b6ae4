//! CRC-32C (Castagnoli), over some hundred KiB of headers per file.

/// What a byte adds, reflected polynomial 0x82f63b78.
const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = match value & 1 {
                1 => (value >> 1) ^ 0x82f6_3b78,
                _ => value >> 1,
            };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
}

/// The checksum of a structure whose own checksum, four bytes at `field`, counts as zeros.
pub(super) fn checksum(bytes: &[u8], field: usize) -> u32 {
    ![&bytes[..field], &[0; 4], &bytes[field + 4..]]
        .into_iter()
        .fold(u32::MAX, add)
}

fn add(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, byte| {
        TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8)
    })
}

#[cfg(test)]
mod tests {
    use super::{add, checksum};

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        // RFC 3720, appendix B.4: 32 bytes of zeros, of ones, and counted up.
        let up: Vec<u8> = (0..32).collect();
        for (bytes, crc) in [
            (&[0; 32][..], 0x8a91_36aa),
            (&[255; 32], 0x62a8_ab43),
            (&up, 0x46dd_794e),
        ] {
            assert_eq!(!add(u32::MAX, bytes), crc);
        }
    }

    #[test]
    fn the_field_of_the_checksum_counts_as_zeros() {
        let mut bytes = vec![0; 32];
        bytes[4..8].fill(9);
        assert_eq!(checksum(&bytes, 4), 0x8a91_36aa);
    }
}
