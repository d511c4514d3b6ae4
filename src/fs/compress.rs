//! Whether and how a volume compresses.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::grid::Codec;

/// How blocks are held that were left alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compress {
    /// As they were written.
    #[default]
    Off,
    /// Compressed by LZ4, where that saves a quarter of the memory or more: quick to read.
    Lz4,
    /// Compressed by Zstandard, where that saves a quarter of the memory or more: small.
    Zstd,
}

impl Compress {
    /// What packs the blocks, if anything does.
    pub fn codec(self) -> Option<Codec> {
        match self {
            Self::Off => None,
            Self::Lz4 => Some(Codec::Lz4),
            Self::Zstd => Some(Codec::Zstd),
        }
    }
}

impl FromStr for Compress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "lz4" => Ok(Self::Lz4),
            "zstd" => Ok(Self::Zstd),
            _ => Err("compression is off, lz4 or zstd".into()),
        }
    }
}
