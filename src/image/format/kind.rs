//! The formats by name, and by the first bytes of a file.

use std::fmt;
use std::str::FromStr;

use super::fields::unsupported;
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

/// What is taken for a raw disk by nobody who wants one.
struct Foreign {
    /// Where the magic bytes are, and which they are.
    at: usize,
    magic: &'static [u8],
    name: &'static str,
    cure: &'static str,
}

impl Foreign {
    const fn disk(at: usize, magic: &'static [u8], name: &'static str) -> Self {
        let cure = "`qemu-img convert -O qcow2` makes a file of it that is";
        Self {
            at,
            magic,
            name,
            cure,
        }
    }

    const fn packed(magic: &'static [u8], name: &'static str, cure: &'static str) -> Self {
        Self {
            at: 0,
            magic,
            name,
            cure,
        }
    }
}

/// The magic bytes are those of the VMware Virtual Disk Format 1.1, Microsoft's Virtual Hard Disk Image Format
/// Specification, QEMU's `docs/interop/qed_spec.txt`, VirtualBox's header (its signature behind 64 bytes of text), RFC 1952,
/// the .xz file format 1.2 and RFC 8878.
const FOREIGN: [Foreign; 8] = [
    Foreign::disk(0, b"KDMV", "a vmdk disk"),
    Foreign::disk(0, b"# Disk Desc", "the description of a vmdk disk"),
    Foreign::disk(0, b"conectix", "a vhd disk"),
    Foreign::disk(0, b"QED\0", "a qed disk"),
    Foreign::disk(0x40, &0xbeda_107f_u32.to_le_bytes(), "a vdi disk"),
    Foreign::packed(
        b"\x1f\x8b\x08",
        "a file packed by gzip",
        "unpack it first, with `gzip -d`",
    ),
    Foreign::packed(
        b"\xfd7zXZ\0",
        "a file packed by xz",
        "unpack it first, with `xz -d`",
    ),
    Foreign::packed(
        b"\x28\xb5\x2f\xfd",
        "a file packed by zstd",
        "unpack it first, with `zstd -d`",
    ),
];

impl Format {
    /// Bytes at the start of a file that tell its format.
    pub const START_LEN: usize = 512;

    /// The format that the first bytes of a file tell; raw where they tell none.
    ///
    /// # Errors
    /// As [`of_start`](Self::of_start), and where the source cannot be read.
    pub fn detect(source: &dyn Source) -> Result<Self> {
        let mut start = [0; Self::START_LEN];
        let len = source.size().min(start.len() as u64) as usize;
        source.read(0, &mut start[..len])?;
        Self::of_start(&start[..len])
    }

    /// The format of a file that begins with these bytes: [`START_LEN`](Self::START_LEN) of them, or all that there are.
    ///
    /// # Errors
    /// `NotSupported` where they are those of a packed file, or of a format that is not read: as a raw disk it would be
    /// nonsense.
    pub fn of_start(start: &[u8]) -> Result<Self> {
        if start.starts_with(&vhdx::SIGNATURE) {
            return Ok(Self::Vhdx);
        }
        if start.starts_with(&qcow2::MAGIC) {
            return Ok(Self::Qcow2);
        }
        let foreign = FOREIGN.iter().find(|foreign| {
            start
                .get(foreign.at..)
                .is_some_and(|rest| rest.starts_with(foreign.magic))
        });
        match foreign {
            Some(Foreign { name, cure, .. }) => Err(unsupported(format!(
                "it begins as {name} does, which is not read here\n\
                 hint: {cure}, or say --format raw for a raw disk that begins so"
            ))),
            None => Ok(Self::Raw),
        }
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
