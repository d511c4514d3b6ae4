//! Cyclic redundancy checks of 32 bits, bytes reflected: those of GPT, ext4 and vhdx.

/// A table of such a check, by its polynomial with the bits reversed.
pub(super) struct Crc([u32; 256]);

/// The check of GPT (ISO 3309).
pub(super) static CRC32: Crc = Crc::new(0xEDB8_8320);
/// The check of ext4 and vhdx (Castagnoli's).
pub(super) static CRC32C: Crc = Crc::new(0x82F6_3B78);

impl Crc {
    const fn new(polynomial: u32) -> Self {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < table.len() {
            let mut value = byte as u32;
            let mut bit = 0;
            while bit < 8 {
                value = value >> 1 ^ if value & 1 == 1 { polynomial } else { 0 };
                bit += 1;
            }
            table[byte] = value;
            byte += 1;
        }
        Self(table)
    }

    /// The remainder that begins with all ones, not inverted at the end.
    pub(super) fn remainder(&self, bytes: &[u8]) -> u32 {
        self.add(u32::MAX, bytes)
    }

    /// The remainder of more bytes, behind those that have had this one.
    pub(super) fn add(&self, remainder: u32, bytes: &[u8]) -> u32 {
        bytes.iter().fold(remainder, |value, &byte| {
            value >> 8 ^ self.0[usize::from(value as u8 ^ byte)]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_nine_digits_have_their_known_checks() {
        assert_eq!(!CRC32.remainder(b"123456789"), 0xCBF4_3926);
        assert_eq!(!CRC32C.remainder(b"123456789"), 0xE306_9283);
    }
}
