//! The headers and region tables at the start of a vhdx file, of which one of two counts.

use super::super::fields::{damaged, field, le16, le32, le64, unsupported};
use super::super::source::Source;
use super::crc32c::checksum;
use super::guids::{BAT, Guid, METADATA};
use crate::error::Result;

/// How a file begins.
pub(crate) const SIGNATURE: [u8; 8] = *b"vhdxfile";
/// How a header begins.
pub(super) const HEADER_SIGNATURE: [u8; 4] = *b"head";
/// How a region table begins.
pub(super) const REGIONS_SIGNATURE: [u8; 4] = *b"regi";
/// Where the two headers are.
pub(super) const HEADERS_AT: [u64; 2] = [64 << 10, 128 << 10];
/// Where the two region tables are.
pub(super) const REGIONS_AT: [u64; 2] = [192 << 10, 256 << 10];
/// Bytes of a header.
pub(super) const HEADER_LEN: usize = 4 << 10;
/// Bytes of a region table.
pub(super) const REGIONS_LEN: usize = 64 << 10;
/// Where headers and region tables have their checksum.
pub(super) const CHECKSUM_AT: usize = 4;
/// What everything that is large begins at a multiple of.
pub(super) const MIB: u64 = 1 << 20;
/// Regions in a table.
const REGIONS_MAX: usize = 2047;

/// A range of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) offset: u64,
    pub(super) len: u64,
}

/// Where the two regions are that a disk needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Regions {
    pub(super) bat: Region,
    pub(super) metadata: Region,
}

impl Regions {
    /// Reads the start of a file.
    pub(super) fn read(source: &dyn Source) -> Result<Self> {
        let mut start = [0; 8];
        if source.size() < MIB {
            return Err(damaged("a vhdx file has at least 1 MiB: was it cut short?"));
        }
        source.read(0, &mut start)?;
        if start != SIGNATURE {
            return Err(damaged("this is no vhdx file"));
        }
        check_header(&current_header(source)?)?;
        Self::parse(&region_table(source)?, source.size())
    }

    fn parse(table: &[u8], file_size: u64) -> Result<Self> {
        let count = le32(table, 8) as usize;
        if count > REGIONS_MAX {
            return Err(damaged(format!(
                "{count} regions, at most {REGIONS_MAX} are possible"
            )));
        }
        let (mut bat, mut metadata) = (None, None);
        for entry in table[16..].chunks_exact(32).take(count) {
            let guid: Guid = field(entry, 0);
            let region = Region {
                offset: le64(entry, 16),
                len: u64::from(le32(entry, 24)),
            };
            let place = match guid {
                BAT => &mut bat,
                METADATA => &mut metadata,
                _ if le32(entry, 28) & 1 == 0 => continue,
                _ => return Err(unsupported("the vhdx file needs a region of an unknown kind")),
            };
            check_region(region, file_size)?;
            if place.replace(region).is_some() {
                return Err(damaged("a region is in the region table twice"));
            }
        }
        match (bat, metadata) {
            (Some(bat), Some(metadata)) => Ok(Self { bat, metadata }),
            _ => Err(damaged("the region table has no BAT or no metadata")),
        }
    }
}

fn check_region(region: Region, file_size: u64) -> Result<()> {
    let Region { offset, len } = region;
    let fits = offset.checked_add(len).is_some_and(|end| end <= file_size);
    let aligned = offset.is_multiple_of(MIB) && len.is_multiple_of(MIB);
    match fits && aligned && offset >= MIB && len > 0 {
        true => Ok(()),
        false => Err(damaged(format!(
            "a region of {len} bytes at {offset} is not possible: was the file cut short?"
        ))),
    }
}

/// The valid header with the higher sequence number.
fn current_header(source: &dyn Source) -> Result<Vec<u8>> {
    let mut current: Option<Vec<u8>> = None;
    for at in HEADERS_AT {
        let mut header = vec![0; HEADER_LEN];
        source.read(at, &mut header)?;
        let is_newer = |than: &Vec<u8>| le64(&header, 8) > le64(than, 8);
        if is_whole(&header, HEADER_SIGNATURE) && current.as_ref().is_none_or(is_newer) {
            current = Some(header);
        }
    }
    current.ok_or_else(|| damaged("both headers of the vhdx file are damaged"))
}

fn region_table(source: &dyn Source) -> Result<Vec<u8>> {
    for at in REGIONS_AT {
        let mut table = vec![0; REGIONS_LEN];
        source.read(at, &mut table)?;
        if is_whole(&table, REGIONS_SIGNATURE) {
            return Ok(table);
        }
    }
    Err(damaged("both region tables of the vhdx file are damaged"))
}

fn is_whole(bytes: &[u8], signature: [u8; 4]) -> bool {
    bytes.starts_with(&signature) && le32(bytes, CHECKSUM_AT) == checksum(bytes, CHECKSUM_AT)
}

fn check_header(header: &[u8]) -> Result<()> {
    let version = le16(header, 66);
    if version != 1 {
        return Err(unsupported(format!(
            "vhdx of version {version} is not supported, 1 is"
        )));
    }
    let log: Guid = field(header, 48);
    match log == Guid::default() {
        true => Ok(()),
        false => Err(unsupported(
            "the log of the vhdx file has changes that are not in their places yet: it was not closed in order\n\
             hint: `qemu-img check -r all FILE` or attaching it to Hyper-V once puts them there",
        )),
    }
}
