//! Writing a dynamic vhdx file: blocks as they come, the tables and headers last.

use super::super::disk::Writer;
use super::super::fields::put;
use super::super::source::Sink;
use super::crc32c::checksum;
use super::guids::{
    BAT, DISK_ID, DISK_SIZE, FILE_PARAMETERS, Guid, LOGICAL_SECTOR, METADATA, PHYSICAL_SECTOR,
};
use super::header::{
    CHECKSUM_AT, HEADER_LEN, HEADER_SIGNATURE, HEADERS_AT, MIB, REGIONS_AT, REGIONS_LEN, REGIONS_SIGNATURE,
    SIGNATURE,
};
use super::metadata::{METADATA_SIGNATURE, Metadata, TABLE_LEN};
use super::reader::FULLY_PRESENT;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{PAGE_SIZE, VHDX_SIZE_MAX};

/// Bytes of a sector that the disk shows: every system knows these.
const LOGICAL_LEN: u32 = 512;
/// Bytes of a sector that the disk says it has: writers keep to whole pages.
const PHYSICAL_LEN: u32 = PAGE_SIZE as u32;
/// Blocks are as small as the format allows, and larger only where there would be more than this.
const BLOCKS_MAX: u64 = 1 << 20;

const LOG_AT: u64 = MIB;
const METADATA_AT: u64 = 2 * MIB;
const BAT_AT: u64 = 3 * MIB;

/// Flags of an item of metadata: it must be known to whoever opens the file, and it is about the disk.
const REQUIRED: u32 = 1 << 2;
const OF_THE_DISK: u32 = 1 << 1;

/// A vhdx file that is written.
pub struct VhdxWriter<S: Sink> {
    sink: S,
    metadata: Metadata,
    ids: [Guid; 3],
    bat: Vec<u64>,
    /// The first byte behind all blocks.
    next: u64,
}

impl<S: Sink> VhdxWriter<S> {
    /// A disk of `size` bytes, rounded up to whole sectors of 512. `ids` are random: of the disk, of its bytes and of the
    /// file, so that copies can be told from one another.
    ///
    /// # Errors
    /// `FileTooBig` where the disk is too large for the format, `InvalidArgument` where it has no byte.
    pub fn new(sink: S, size: u64, ids: [[u8; 16]; 3]) -> Result<Self> {
        if size > VHDX_SIZE_MAX {
            let context = format!("a disk of {size} bytes is too large for vhdx: 64 TiB is possible");
            return Err(Error::new(ErrorKind::FileTooBig, context));
        }
        if size == 0 {
            let context = "a disk without a byte is not possible in vhdx";
            return Err(Error::new(ErrorKind::InvalidArgument, context));
        }
        let metadata = Metadata {
            size: size.next_multiple_of(u64::from(LOGICAL_LEN)),
            block_len: size.div_ceil(BLOCKS_MAX).next_power_of_two().max(MIB),
            sector_len: u64::from(LOGICAL_LEN),
        };
        let bat = vec![0; metadata.bat_len() as usize];
        Ok(Self {
            sink,
            metadata,
            ids,
            next: BAT_AT + bat_region_len(&bat),
            bat,
        })
    }

    /// Where a block is in the file; it gets a place if it has none.
    fn block_at(&mut self, block: u64) -> u64 {
        let index = self.metadata.bat_index(block) as usize;
        if self.bat[index] == 0 {
            self.bat[index] = self.next | FULLY_PRESENT;
            self.next += self.metadata.block_len;
        }
        self.bat[index] & !(MIB - 1)
    }

    fn write_tables(&mut self) -> Result<()> {
        let bat: Vec<u8> = self.bat.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        self.sink.write(BAT_AT, &bat)?;
        self.sink.write(METADATA_AT, &self.metadata_table())?;
        let regions = self.region_table();
        for at in REGIONS_AT {
            self.sink.write(at, &regions)?;
        }
        for (number, at) in (1..).zip(HEADERS_AT) {
            self.sink.write(at, &self.header(number))?;
        }
        Ok(())
    }

    fn header(&self, sequence_number: u64) -> Vec<u8> {
        let mut header = vec![0; HEADER_LEN];
        put(&mut header, 0, HEADER_SIGNATURE);
        put(&mut header, 8, sequence_number.to_le_bytes());
        put(&mut header, 16, self.ids[2]);
        put(&mut header, 32, self.ids[1]);
        // The GUID of the log is zeros: there is nothing in it. Neither has it a version.
        put(&mut header, 66, 1_u16.to_le_bytes());
        put(&mut header, 68, (MIB as u32).to_le_bytes());
        put(&mut header, 72, LOG_AT.to_le_bytes());
        with_checksum(header)
    }

    fn region_table(&self) -> Vec<u8> {
        let mut table = vec![0; REGIONS_LEN];
        put(&mut table, 0, REGIONS_SIGNATURE);
        let regions = [
            (BAT, BAT_AT, bat_region_len(&self.bat)),
            (METADATA, METADATA_AT, MIB),
        ];
        put(&mut table, 8, (regions.len() as u32).to_le_bytes());
        for (entry, (guid, offset, len)) in table[16..].chunks_exact_mut(32).zip(regions) {
            put(entry, 0, guid);
            put(entry, 16, offset.to_le_bytes());
            put(entry, 24, (len as u32).to_le_bytes());
            put(entry, 28, 1_u32.to_le_bytes());
        }
        with_checksum(table)
    }

    fn metadata_table(&self) -> Vec<u8> {
        let Metadata { size, block_len, .. } = self.metadata;
        let parameters = [(block_len as u32).to_le_bytes(), [0; 4]].concat();
        let items = [
            (FILE_PARAMETERS, parameters, REQUIRED),
            (DISK_SIZE, size.to_le_bytes().into(), REQUIRED | OF_THE_DISK),
            (DISK_ID, self.ids[0].into(), REQUIRED | OF_THE_DISK),
            (
                LOGICAL_SECTOR,
                LOGICAL_LEN.to_le_bytes().into(),
                REQUIRED | OF_THE_DISK,
            ),
            (
                PHYSICAL_SECTOR,
                PHYSICAL_LEN.to_le_bytes().into(),
                REQUIRED | OF_THE_DISK,
            ),
        ];
        let mut table = vec![0; TABLE_LEN];
        put(&mut table, 0, METADATA_SIGNATURE);
        put(&mut table, 10, (items.len() as u16).to_le_bytes());
        for (number, (guid, value, flags)) in items.into_iter().enumerate() {
            let offset = table.len() as u32;
            let entry = &mut table[32 * (1 + number)..];
            put(entry, 0, guid);
            put(entry, 16, offset.to_le_bytes());
            put(entry, 20, (value.len() as u32).to_le_bytes());
            put(entry, 24, flags.to_le_bytes());
            table.extend(value);
        }
        table
    }
}

impl<S: Sink> Writer for VhdxWriter<S> {
    fn unit(&self) -> usize {
        PAGE_SIZE as usize
    }

    fn write(&mut self, mut offset: u64, mut bytes: &[u8]) -> Result<()> {
        let block_len = self.metadata.block_len;
        while !bytes.is_empty() {
            let inside = offset % block_len;
            let len = (block_len - inside).min(bytes.len() as u64);
            let (now, later) = bytes.split_at(len as usize);
            let at = self.block_at(offset / block_len);
            self.sink.write(at + inside, now)?;
            (offset, bytes) = (offset + len, later);
        }
        Ok(())
    }

    fn zero(&mut self, _offset: u64, _len: u64) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.write_tables()?;
        let mut identifier = SIGNATURE.to_vec();
        identifier.extend("okapi".encode_utf16().flat_map(u16::to_le_bytes));
        self.sink.write(0, &identifier)?;
        self.sink.set_size(self.next)
    }
}

fn bat_region_len(bat: &[u64]) -> u64 {
    (bat.len() as u64 * 8).next_multiple_of(MIB)
}

fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = checksum(&bytes, CHECKSUM_AT);
    put(&mut bytes, CHECKSUM_AT, crc.to_le_bytes());
    bytes
}
