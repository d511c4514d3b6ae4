//! A FAT12 disk of 1 MiB with a few files in its root (Microsoft's FAT specification, 1.03).
//!
//! ```text
//! page 0   boot sector, one more reserved, first table
//! page 1   second table, root directory of 32 entries
//! page 2…  clusters of one sector, from number 2 on; files without gaps
//! ```

use crate::image::burn::long_name::{ATTRIBUTES, UNITS_AT, checksum};
use crate::limits::{PAGE_SIZE, SEED_USER_DATA_MAX};

const SECTOR: usize = 512;
const SECTORS: u16 = 2048;
const RESERVED: u16 = 2;
const TABLE_SECTORS: u16 = 6;
const ROOT_ENTRIES: u16 = 32;
const ROOT_AT: usize = (RESERVED + 2 * TABLE_SECTORS) as usize * SECTOR;
const FILES_AT: usize = ROOT_AT + ROOT_ENTRIES as usize * ENTRY_LEN;
const ENTRY_LEN: usize = 32;
const END_OF_CHAIN: u16 = 0xFFF;
/// What cloud-init looks for.
const LABEL: &[u8; 11] = b"CIDATA     ";
/// 1 January 1980, the first day that there is.
const DATE: u16 = 0x21;

/// Bytes of the disk.
pub(super) const DISK_LEN: u64 = SECTORS as u64 * SECTOR as u64;

/// A file of the disk.
pub(super) struct File {
    pub(super) name: &'static str,
    /// Its name for those that know no long ones.
    pub(super) short: &'static [u8; 11],
    pub(super) bytes: Vec<u8>,
}

/// The disk as far as there is something on it.
pub(super) struct Disk {
    bytes: Vec<u8>,
    places: [(usize, usize); FILES],
}

/// Files that a disk has.
const FILES: usize = 3;

impl Disk {
    /// Lays the files out, one behind the other.
    pub(super) fn new(files: [File; FILES]) -> Self {
        let mut disk = Self {
            bytes: vec![0; FILES_AT],
            places: [(0, 0); FILES],
        };
        disk.put_boot_sector();
        disk.put_in_table(0, 0xF00 | u16::from(MEDIA));
        disk.put_in_table(1, END_OF_CHAIN);
        let mut root = label_entry().to_vec();
        for (index, file) in files.iter().enumerate() {
            let at = disk.bytes.len();
            disk.places[index] = (at, file.bytes.len());
            disk.bytes.extend_from_slice(&file.bytes);
            disk.bytes.resize(disk.bytes.len().next_multiple_of(SECTOR), 0);
            let first = cluster_at(at);
            let behind = cluster_at(disk.bytes.len());
            for cluster in first..behind {
                let next = if cluster + 1 == behind {
                    END_OF_CHAIN
                } else {
                    cluster + 1
                };
                disk.put_in_table(cluster, next);
            }
            let first = if first == behind { 0 } else { first };
            root.extend(entries(file, first));
        }
        disk.bytes[ROOT_AT..ROOT_AT + root.len()].copy_from_slice(&root);
        disk
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Offset and length of a file.
    pub(super) fn place(&self, index: usize) -> (u64, usize) {
        let (at, len) = self.places[index];
        (at as u64, len)
    }

    fn put_boot_sector(&mut self) {
        let mut put = |at: usize, bytes: &[u8]| self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &[0xEB, 0x3C, 0x90]);
        put(3, b"MSWIN4.1");
        put(11, &(SECTOR as u16).to_le_bytes());
        put(13, &[1]);
        put(14, &RESERVED.to_le_bytes());
        put(16, &[2]);
        put(17, &ROOT_ENTRIES.to_le_bytes());
        put(19, &SECTORS.to_le_bytes());
        put(21, &[MEDIA]);
        put(22, &TABLE_SECTORS.to_le_bytes());
        put(24, &32u16.to_le_bytes());
        put(26, &64u16.to_le_bytes());
        put(36, &[0x80, 0, 0x29]);
        put(39, b"OKPI");
        put(43, LABEL);
        put(54, b"FAT12   ");
        put(510, &[0x55, 0xAA]);
    }

    /// Entries have 12 bits, two of them in three bytes; both tables say the same.
    fn put_in_table(&mut self, cluster: u16, value: u16) {
        let at = usize::from(cluster) * 3 / 2;
        for table in 0..2 {
            let table_at = usize::from(RESERVED + table * TABLE_SECTORS) * SECTOR;
            let pair = &mut self.bytes[table_at + at..table_at + at + 2];
            let old = u16::from_le_bytes([pair[0], pair[1]]);
            let new = match cluster & 1 {
                0 => old & 0xF000 | value,
                _ => old & 0x000F | value << 4,
            };
            pair.copy_from_slice(&new.to_le_bytes());
        }
    }
}

/// A disk that is no floppy.
const MEDIA: u8 = 0xF8;

fn cluster_at(offset: usize) -> u16 {
    (2 + (offset - FILES_AT) / SECTOR) as u16
}

fn label_entry() -> [u8; ENTRY_LEN] {
    let mut entry = [0; ENTRY_LEN];
    entry[..11].copy_from_slice(LABEL);
    entry[11] = 0x08;
    entry[24..26].copy_from_slice(&DATE.to_le_bytes());
    entry
}

/// The parts of the long name, the last one first, and the entry itself.
fn entries(file: &File, cluster: u16) -> Vec<u8> {
    let units: Vec<u16> = file.name.encode_utf16().collect();
    let parts: Vec<&[u16]> = units.chunks(UNITS_AT.len()).collect();
    let check = checksum(file.short);
    let mut raw = Vec::new();
    for (index, part) in parts.iter().enumerate().rev() {
        let last = if index + 1 == parts.len() { 0x40 } else { 0 };
        raw.extend(long_entry((index as u8 + 1) | last, part, check));
    }
    let mut entry = [0; ENTRY_LEN];
    entry[..11].copy_from_slice(file.short);
    entry[11] = 0x20;
    for at in [16, 18, 24] {
        entry[at..at + 2].copy_from_slice(&DATE.to_le_bytes());
    }
    entry[26..28].copy_from_slice(&cluster.to_le_bytes());
    entry[28..].copy_from_slice(&(file.bytes.len() as u32).to_le_bytes());
    raw.extend(entry);
    raw
}

/// A part of a long name: 13 units, of which a NUL ends the name and ones fill the rest.
fn long_entry(order: u8, part: &[u16], check: u8) -> [u8; ENTRY_LEN] {
    let mut entry = [0; ENTRY_LEN];
    entry[0] = order;
    entry[11] = ATTRIBUTES;
    entry[13] = check;
    let units = part.iter().copied().chain([0]).chain(std::iter::repeat(0xFFFF));
    for (at, unit) in UNITS_AT.into_iter().zip(units) {
        entry[at..at + 2].copy_from_slice(&unit.to_le_bytes());
    }
    entry
}

const _: () = {
    assert!(FILES_AT.is_multiple_of(PAGE_SIZE as usize));
    assert!((SECTORS as usize * 3).div_ceil(2) <= TABLE_SECTORS as usize * SECTOR);
    assert!(FILES_AT + 4096 + SEED_USER_DATA_MAX <= SECTORS as usize * SECTOR);
};
