//! Sizes as people write and read them.

use std::str::FromStr;

/// A size: so many bytes, or a part of this machine's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Bytes(u64),
    /// 1 to 100.
    PercentOfMemory(u8),
}

impl Size {
    /// The size in bytes on a machine with `memory_bytes` of memory.
    pub(super) fn resolve(self, memory_bytes: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::PercentOfMemory(percent) => memory_bytes / 100 * u64::from(percent),
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(percent) = text.strip_suffix('%') else {
            return parse_bytes(text).map(Self::Bytes);
        };
        match percent.parse() {
            Ok(percent @ 1..=100) => Ok(Self::PercentOfMemory(percent)),
            _ => Err("a percentage of memory is 1% to 100%".into()),
        }
    }
}

/// Parses `4096`, `64K`, `64KiB`, `4G`: the suffixes K, M, G, T and P count in powers of 1024, in either case.
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let shift = match suffix.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        "p" | "pib" => 50,
        _ => return Err("a size is a number with K, M, G, T or P, as in 512M or 4GiB".into()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "a size begins with a number, as in 512M or 4GiB".to_owned())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "more than 64 bits can count".into())
}

/// Bytes for people: `64 KiB`, `2.0 GiB`.
pub(super) fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1 << 10 {
        return format!("{bytes} B");
    }
    if bytes < 1 << 20 && bytes.is_multiple_of(1 << 10) {
        return format!("{} KiB", bytes >> 10);
    }
    let unit = (bytes.ilog2() / 10) as usize;
    let value = bytes as f64 / (1u64 << (10 * unit)) as f64;
    format!("{value:.1} {}", UNITS[unit - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_count_in_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64K", 64 << 10),
            ("64kib", 64 << 10),
            ("512M", 512 << 20),
            ("4G", 4 << 30),
            ("1TiB", 1 << 40),
            ("2p", 2 << 50),
            ("7b", 7),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "G",
            "4 G",
            "-1",
            "4KB",
            "1.5G",
            "4X",
            "0x10",
            "18446744073709551616",
            "16384P",
            "%",
            "٤",
        ] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn percentages_are_of_memory() {
        assert_eq!("50%".parse(), Ok(Size::PercentOfMemory(50)));
        assert_eq!(Size::PercentOfMemory(50).resolve(16 << 30), (16 << 30) / 100 * 50);
        for text in ["0%", "101%", "-5%", "%", "5.5%", "300%"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn people_read_whole_kibibytes_and_one_decimal() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (64 << 10, "64 KiB"),
            (1536, "1.5 KiB"),
            (2 << 30, "2.0 GiB"),
            ((1 << 20) - 1024, "1023 KiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }
}
