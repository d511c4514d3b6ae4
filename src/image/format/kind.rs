//! The formats by name, and by the first bytes of a file.

use std::fmt;
use std::str::FromStr;

use super::source::Source;
use super::{qcow2, vhdx};
use crate::error::Result;

/// How the bytes of a disk are laid out in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The file is the disk, byte for byte.
    Raw,
    /// QEMU's format, version 2 or 3.
    Qcow2,
    /// Hyper-V's format.
    Vhdx,
}

impl Format {
    /// The format that the first bytes of a file tell; raw where they tell none.
    ///
    /// # Errors
    /// Where the source cannot be read.
    pub fn detect(source: &dyn Source) -> Result<Self> {
        let mut start = [0; 8];
        let len = source.size().min(start.len() as u64) as usize;
        source.read(0, &mut start[..len])?;
        Ok(match start {
            vhdx::SIGNATURE => Self::Vhdx,
            _ if start.starts_with(&qcow2::MAGIC) => Self::Qcow2,
            _ => Self::Raw,
        })
    }

    /// The name by which QEMU knows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vhdx => "vhdx",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let formats = [Self::Raw, Self::Qcow2, Self::Vhdx];
        let found = formats.into_iter().find(|format| format.name() == text);
        found.ok_or_else(|| "the formats are raw, qcow2 and vhdx".into())
    }
}
