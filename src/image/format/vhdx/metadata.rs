//! The metadata of a vhdx file: what the disk is like.

use super::super::fields::{damaged, field, le16, le32, le64, unsupported};
use super::super::source::Source;
use super::guids::{
    DISK_ID, DISK_SIZE, FILE_PARAMETERS, Guid, LOGICAL_SECTOR, PARENT_LOCATOR, PHYSICAL_SECTOR,
};
use super::header::{MIB, Region};
use crate::error::Result;
use crate::limits::VHDX_SIZE_MAX;

/// How the table of metadata begins.
pub(super) const METADATA_SIGNATURE: [u8; 8] = *b"metadata";
/// Bytes of the table; the items are behind it.
pub(super) const TABLE_LEN: usize = 64 << 10;
/// Items in the table.
const ITEMS_MAX: usize = 2047;
/// File parameter: there is a parent.
const HAS_PARENT: u32 = 1 << 1;
/// Item flag: who does not know the item must not open the file.
const IS_REQUIRED: u32 = 1 << 2;
/// Sectors of a chunk.
const CHUNK_SECTORS: u64 = 1 << 23;

/// What the disk is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Metadata {
    /// Bytes of the disk.
    pub(super) size: u64,
    /// Bytes of a block: a power of two, 1 to 256 MiB.
    pub(super) block_len: u64,
    /// Bytes of a sector: 512 or 4096.
    pub(super) sector_len: u64,
}

impl Metadata {
    /// Reads the items of a region.
    pub(super) fn read(source: &dyn Source, region: Region) -> Result<Self> {
        let mut table = vec![0; TABLE_LEN];
        source.read(region.offset, &mut table)?;
        let count = usize::from(le16(&table, 10));
        if !table.starts_with(&METADATA_SIGNATURE) || count > ITEMS_MAX {
            return Err(damaged("the table of metadata is damaged"));
        }
        let mut items = Items::default();
        for entry in table[32..].chunks_exact(32).take(count) {
            items.take(source, region, entry)?;
        }
        items.metadata()
    }

    /// Payload blocks of the disk.
    pub(super) fn blocks(&self) -> u64 {
        self.size.div_ceil(self.block_len)
    }

    /// Payload blocks in a chunk.
    pub(super) fn chunk_blocks(&self) -> u64 {
        CHUNK_SECTORS * self.sector_len / self.block_len
    }

    /// Where a payload block has its entry in the BAT.
    pub(super) fn bat_index(&self, block: u64) -> u64 {
        block + block / self.chunk_blocks()
    }

    /// Entries of the BAT: none behind the last payload block.
    pub(super) fn bat_len(&self) -> u64 {
        match self.blocks() {
            0 => 0,
            blocks => self.bat_index(blocks - 1) + 1,
        }
    }
}

/// The items that were found.
#[derive(Default)]
struct Items {
    parameters: Option<[u8; 8]>,
    size: Option<[u8; 8]>,
    logical_sector: Option<[u8; 4]>,
}

impl Items {
    fn take(&mut self, source: &dyn Source, region: Region, entry: &[u8]) -> Result<()> {
        let guid: Guid = field(entry, 0);
        let item = Item {
            source,
            region,
            offset: u64::from(le32(entry, 16)),
            len: u64::from(le32(entry, 20)),
        };
        match guid {
            FILE_PARAMETERS => self.parameters = Some(item.read()?),
            DISK_SIZE => self.size = Some(item.read()?),
            LOGICAL_SECTOR => self.logical_sector = Some(item.read()?),
            PHYSICAL_SECTOR | DISK_ID | PARENT_LOCATOR => (),
            _ if le32(entry, 24) & IS_REQUIRED == 0 => (),
            _ => return Err(unsupported("the vhdx file needs metadata of an unknown kind")),
        }
        Ok(())
    }

    fn metadata(self) -> Result<Metadata> {
        let (Some(parameters), Some(size), Some(sector)) = (self.parameters, self.size, self.logical_sector)
        else {
            return Err(damaged(
                "block size, sector size or disk size are missing in the metadata",
            ));
        };
        if le32(&parameters, 4) & HAS_PARENT != 0 {
            return Err(unsupported(
                "the vhdx file is a differencing disk: it needs its parent, which is not supported\n\
                 hint: merge it into its parent first (in Hyper-V: Merge-VHD)",
            ));
        }
        let metadata = Metadata {
            size: le64(&size, 0),
            block_len: u64::from(le32(&parameters, 0)),
            sector_len: u64::from(u32::from_le_bytes(sector)),
        };
        metadata.check()?;
        Ok(metadata)
    }
}

impl Metadata {
    fn check(&self) -> Result<()> {
        let Self {
            size,
            block_len,
            sector_len,
        } = *self;
        let is_possible = matches!(sector_len, 512 | 4096)
            && block_len.is_power_of_two()
            && (MIB..=256 * MIB).contains(&block_len)
            && size.is_multiple_of(sector_len)
            && size <= VHDX_SIZE_MAX;
        match is_possible {
            true => Ok(()),
            false => Err(damaged(format!(
                "a disk of {size} bytes in blocks of {block_len} and sectors of {sector_len} is not possible"
            ))),
        }
    }
}

/// Where an item is.
struct Item<'s> {
    source: &'s dyn Source,
    region: Region,
    /// From the region's start.
    offset: u64,
    len: u64,
}

impl Item<'_> {
    fn read<const LEN: usize>(&self) -> Result<[u8; LEN]> {
        let fits = self.offset >= TABLE_LEN as u64 && self.offset + LEN as u64 <= self.region.len;
        if self.len != LEN as u64 || !fits {
            return Err(damaged(format!(
                "{} bytes of metadata at {} in their region",
                self.len, self.offset
            )));
        }
        let mut bytes = [0; LEN];
        self.source.read(self.region.offset + self.offset, &mut bytes)?;
        Ok(bytes)
    }
}
