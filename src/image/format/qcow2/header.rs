//! The header of a qcow2 file: what is in it, and what of it is supported.

use super::super::fields::{be32, be64, damaged, unsupported};
use super::super::source::Source;
use super::super::table::TableAt;
use super::packed::Packing;
use crate::error::Result;
use crate::limits::{FILE_SIZE_MAX, QCOW2_L1_LEN_MAX};

/// How a file begins.
pub(crate) const MAGIC: [u8; 4] = *b"QFI\xfb";
/// Bytes of a header of version 2.
const LEN_V2: u32 = 72;
/// Bytes of a header of version 3 without what was added later.
const LEN_V3: u32 = 104;
/// Bytes of a backing file's name.
pub(super) const NAME_LEN_MAX: u32 = 1023;
/// Logarithms of the smallest and the largest cluster.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
/// Header extension: the format of the backing file, as text.
pub(super) const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;
/// Header extension: full disk encryption.
const EXTENSION_LUKS: u32 = 0x0537_be77;

/// Incompatible features, by bit.
const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qcow2Header {
    /// Bytes of the disk: a multiple of 512.
    pub size: u64,
    /// Logarithm of the bytes of a cluster: 9 to 21.
    pub cluster_bits: u32,
    /// The disk that shows through where this one has nothing.
    pub backing: Option<Backing>,
    pub(super) version: u32,
    pub(super) packing: Packing,
    pub(super) l1: TableAt,
}

/// What a header says about its backing file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    /// Its name: a path, relative to the file with the header, or one of QEMU's own kinds of addresses.
    pub name: String,
    /// Its format, by QEMU's name, where that is told.
    pub format: Option<String>,
}

impl Qcow2Header {
    /// Reads the header of a file.
    ///
    /// # Errors
    /// `NotSupported` where the file uses something that is not, `Corrupt` where the header makes no sense.
    pub fn read(source: &dyn Source) -> Result<Self> {
        let mut bytes = [0; LEN_V3 as usize + 8];
        // Behind the end of a file that is all header there is nothing.
        let len = source.size().min(bytes.len() as u64) as usize;
        source.read(0, &mut bytes[..len])?;
        if !bytes.starts_with(&MAGIC) || source.size() < u64::from(LEN_V2) {
            return Err(damaged("this is no qcow2 file"));
        }
        let fixed = Fixed(&bytes);
        let version = fixed.version()?;
        fixed.check_features(version)?;
        let cluster_bits = fixed.cluster_bits()?;
        let size = fixed.size()?;
        let header_len = fixed.header_len(version, cluster_bits)?;
        let backing = match fixed.backing_name(source, cluster_bits)? {
            Some(name) => Some(Backing {
                name,
                format: backing_format(source, header_len, be64(&bytes, 8))?,
            }),
            None => None,
        };
        Ok(Self {
            size,
            cluster_bits,
            backing,
            version,
            packing: fixed.packing(version, header_len)?,
            l1: fixed.l1(source, size, cluster_bits)?,
        })
    }
}

/// The first bytes of a file, with the fields that are always there.
struct Fixed<'h>(&'h [u8; LEN_V3 as usize + 8]);

impl Fixed<'_> {
    fn version(&self) -> Result<u32> {
        match be32(self.0, 4) {
            version @ 2..=3 => Ok(version),
            version => Err(unsupported(format!(
                "qcow2 of version {version} is not supported, 2 and 3 are"
            ))),
        }
    }

    fn check_features(&self, version: u32) -> Result<()> {
        let features = match version {
            2 => 0,
            _ => be64(self.0, 72),
        };
        if be32(self.0, 32) != 0 {
            return Err(unsupported(
                "the disk is encrypted\nhint: `qemu-img convert` with its secret makes a plain one",
            ));
        }
        if features & CORRUPT != 0 {
            return Err(damaged(
                "QEMU has marked the disk as corrupt\nhint: `qemu-img check -r all` mends it",
            ));
        }
        for (bit, name) in [
            (EXTERNAL_DATA, "an external data file"),
            (EXTENDED_L2, "extended L2 entries (subclusters)"),
        ] {
            if features & bit != 0 {
                return Err(unsupported(format!(
                    "{name} in qcow2 is not supported\nhint: `qemu-img convert -O qcow2` makes one without"
                )));
            }
        }
        // A dirty file has wrong reference counts, which are not needed to read it.
        match features & !(DIRTY | COMPRESSION) {
            0 => Ok(()),
            unknown => Err(unsupported(format!(
                "the incompatible features {unknown:#x} of the qcow2 file are unknown\nhint: `qemu-img convert` knows them"
            ))),
        }
    }

    fn cluster_bits(&self) -> Result<u32> {
        let bits = be32(self.0, 20);
        match CLUSTER_BITS.contains(&bits) {
            true => Ok(bits),
            false => Err(damaged(format!(
                "clusters of 2^{bits} bytes: 2^9 to 2^21 is possible"
            ))),
        }
    }

    fn size(&self) -> Result<u64> {
        let size = be64(self.0, 24);
        match size <= FILE_SIZE_MAX && size.is_multiple_of(512) {
            true => Ok(size),
            false => Err(damaged(format!("a disk of {size} bytes is not possible"))),
        }
    }

    fn header_len(&self, version: u32, cluster_bits: u32) -> Result<u64> {
        if version == 2 {
            return Ok(u64::from(LEN_V2));
        }
        let len = be32(self.0, 100);
        match len >= LEN_V3 && len.is_multiple_of(8) && len <= 1 << cluster_bits {
            true => Ok(u64::from(len)),
            false => Err(damaged(format!("a header of {len} bytes is not possible"))),
        }
    }

    fn packing(&self, version: u32, header_len: u64) -> Result<Packing> {
        let flagged = version > 2 && be64(self.0, 72) & COMPRESSION != 0;
        let kind = match header_len > u64::from(LEN_V3) {
            true => self.0[LEN_V3 as usize],
            false => 0,
        };
        match (flagged, kind) {
            (false, 0) => Ok(Packing::Deflate),
            (true, 1) => Ok(Packing::Zstd),
            _ => Err(unsupported(format!(
                "compression of type {kind} in qcow2 is unknown"
            ))),
        }
    }

    fn l1(&self, source: &dyn Source, size: u64, cluster_bits: u32) -> Result<TableAt> {
        let l1 = TableAt {
            name: "L1 table",
            offset: be64(self.0, 40),
            len: u64::from(be32(self.0, 36)),
        };
        // An L2 table is a cluster of entries of 8 bytes.
        let needed = size.div_ceil(1 << (2 * cluster_bits - 3));
        if l1.len < needed || l1.len > QCOW2_L1_LEN_MAX {
            return Err(damaged(format!(
                "an L1 table of {} entries for {needed}, at most {QCOW2_L1_LEN_MAX}",
                l1.len
            )));
        }
        let end = l1.offset.checked_add(l1.len * 8);
        let fits = end.is_some_and(|end| end <= source.size());
        match fits && l1.offset.is_multiple_of(1 << cluster_bits) {
            true => Ok(l1),
            false => Err(damaged(format!(
                "the L1 table at {} is not in the file: was it cut short?",
                l1.offset
            ))),
        }
    }

    fn backing_name(&self, source: &dyn Source, cluster_bits: u32) -> Result<Option<String>> {
        let (offset, len) = (be64(self.0, 8), be32(self.0, 16));
        if offset == 0 {
            return Ok(None);
        }
        let behind = (1_u64 << cluster_bits).min(source.size());
        let fits = offset
            .checked_add(u64::from(len))
            .is_some_and(|end| end <= behind);
        if len == 0 || len > NAME_LEN_MAX || !fits {
            return Err(damaged(format!(
                "a backing file's name of {len} bytes at {offset}"
            )));
        }
        text(source, offset, len).map(Some)
    }
}

/// What the extension says that names the backing file's format.
///
/// The extensions end where the name begins, which is in the first cluster: a file of version 2 need not say so.
fn backing_format(source: &dyn Source, header_len: u64, name_offset: u64) -> Result<Option<String>> {
    let end = name_offset;
    let mut at = header_len;
    while at.checked_add(8).is_some_and(|behind| behind <= end) {
        let mut head = [0; 8];
        source.read(at, &mut head)?;
        let (kind, len) = (be32(&head, 0), be32(&head, 4));
        at += 8;
        if u64::from(len) > end - at {
            return Err(damaged(format!("a header extension of {len} bytes at {at}")));
        }
        match kind {
            0 => break,
            EXTENSION_BACKING_FORMAT if len <= NAME_LEN_MAX => return text(source, at, len).map(Some),
            EXTENSION_LUKS => return Err(unsupported("the disk is encrypted (LUKS)")),
            _ => at += u64::from(len.next_multiple_of(8)),
        }
    }
    Ok(None)
}

fn text(source: &dyn Source, offset: u64, len: u32) -> Result<String> {
    let mut bytes = vec![0; len as usize];
    source.read(offset, &mut bytes)?;
    String::from_utf8(bytes).map_err(|_| damaged("the backing file's name or format is no text"))
}
