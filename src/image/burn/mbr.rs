//! The partition table in a disk's first sector, with the chain of logical partitions.

use super::disk::{Part, le16, le32};
use super::partition::Partition;
use crate::error::{Error, ErrorKind, Result};

/// Its unit is always this.
const SECTOR: u64 = 512;
const ENTRIES_AT: usize = 446;
/// Links between logical partitions that are followed, more than Linux has partitions for.
const LINKS_MAX: u32 = 256;

/// What the first sector holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Table {
    None,
    /// What protects a GPT from programs that do not know it.
    Protective,
    Partitions(Vec<Partition>),
}

/// An entry that is in use, in sectors.
#[derive(Clone, Copy)]
struct Entry {
    kind: u8,
    start: u64,
    len: u64,
}

impl Entry {
    fn is_extended(self) -> bool {
        matches!(self.kind, 0x05 | 0x0F | 0x85)
    }
}

/// The entries of a table, those that are in use.
struct Entries {
    used: [Option<Entry>; 4],
    /// Whether all flags are those of a table, in which only one bit means something.
    has_fine_flags: bool,
}

pub(super) fn read(disk: Part<'_>) -> Result<Table> {
    if disk.len() < SECTOR {
        return Ok(Table::None);
    }
    let Some(entries) = entries(disk, 0)?.filter(|entries| entries.has_fine_flags) else {
        return Ok(Table::None);
    };
    let entries = entries.used;
    if entries.iter().flatten().any(|entry| entry.kind == 0xEE) {
        return Ok(Table::Protective);
    }
    let inside = |entry: &Entry| partition(disk, 0, *entry).is_some();
    if entries.iter().flatten().count() == 0 || !entries.iter().flatten().all(inside) {
        // Not a table: the boot code of a filesystem lies there.
        return Ok(Table::None);
    }
    let mut found = Vec::new();
    for (number, entry) in (1..).zip(entries) {
        match entry {
            Some(entry) if entry.is_extended() => logical(disk, entry, &mut found)?,
            Some(entry) => found.extend(partition(disk, 0, entry).map(|part| Partition { number, ..part })),
            None => (),
        }
    }
    found.sort_by_key(|partition| partition.number);
    Ok(Table::Partitions(found))
}

/// Each link is a sector with a partition, counted from the link, and the next link, counted from the first. A link may lead
/// back, for programs append partitions that lie in a gap. The other two entries, and all flags, mean nothing. Partitions
/// are numbered, not links, of which some have none.
fn logical(disk: Part<'_>, extended: Entry, found: &mut Vec<Partition>) -> Result<()> {
    let mut link = extended.start;
    let mut number = 5 + found.iter().filter(|partition| partition.number >= 5).count() as u32;
    for _ in 0..LINKS_MAX {
        let Some(entries) = entries(disk, link)? else {
            return Err(damaged(link));
        };
        let mut next = None;
        for entry in entries.used[..2].iter().flatten() {
            if entry.is_extended() {
                next = next.or(Some(entry.start));
                continue;
            }
            let part = partition(disk, link, *entry).ok_or_else(|| damaged(link))?;
            found.push(Partition { number, ..part });
            number += 1;
        }
        match next {
            Some(next) => link = extended.start + next,
            None => return Ok(()),
        }
    }
    Err(damaged(link))
}

/// `None` where there is no table.
fn entries(disk: Part<'_>, sector: u64) -> Result<Option<Entries>> {
    let bytes: [u8; SECTOR as usize] = disk.bytes(sector * SECTOR)?;
    if le16(&bytes, 510) != 0xAA55 {
        return Ok(None);
    }
    let mut entries = Entries {
        used: [None; 4],
        has_fine_flags: true,
    };
    let raws = bytes[ENTRIES_AT..].chunks_exact(16);
    for (entry, raw) in entries.used.iter_mut().zip(raws) {
        let (kind, len) = (raw[4], le32(raw, 12).into());
        entries.has_fine_flags &= raw[0] & 0x7F == 0;
        *entry = (kind != 0 && len != 0).then(|| Entry {
            kind,
            start: le32(raw, 8).into(),
            len,
        });
    }
    Ok(Some(entries))
}

fn partition(disk: Part<'_>, from: u64, entry: Entry) -> Option<Partition> {
    // Sectors have 32 bits, so this overflows nothing.
    let (start, len) = ((from + entry.start) * SECTOR, entry.len * SECTOR);
    (entry.start > 0 && disk.part(start, len).is_some()).then_some(Partition {
        number: 0,
        start,
        len,
    })
}

fn damaged(sector: u64) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!("the partition table in sector {sector} is damaged\nhint: `sfdisk --verify` says how"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Puts a table of (type, start, length) into a sector.
    fn put(disk: &mut [u8], sector: usize, entries: &[(u8, u32, u32)]) {
        let at = sector * 512;
        for (index, &(kind, start, len)) in entries.iter().enumerate() {
            let entry = &mut disk[at + 446 + 16 * index..][..16];
            entry[4] = kind;
            entry[8..12].copy_from_slice(&start.to_le_bytes());
            entry[12..].copy_from_slice(&len.to_le_bytes());
        }
        disk[at + 510..at + 512].copy_from_slice(&[0x55, 0xAA]);
    }

    fn read_table(disk: &[u8]) -> Result<Table> {
        read(Part::whole(&disk))
    }

    fn part(number: u32, start: u64, len: u64) -> Partition {
        Partition {
            number,
            start: start * 512,
            len: len * 512,
        }
    }

    #[test]
    fn primary_and_logical_partitions_are_found() {
        let mut disk = vec![0; 512 * 200];
        put(
            &mut disk,
            0,
            &[(0x83, 2, 8), (0x05, 20, 100), (0, 0, 0), (0x0C, 130, 70)],
        );
        put(&mut disk, 20, &[(0x83, 1, 9), (0x05, 30, 10)]);
        put(&mut disk, 50, &[(0x83, 2, 5)]);
        let expected = vec![part(1, 2, 8), part(4, 130, 70), part(5, 21, 9), part(6, 52, 5)];
        assert_eq!(read_table(&disk).unwrap(), Table::Partitions(expected));
    }

    #[test]
    fn a_chain_may_go_back_and_have_links_without_partitions() {
        let mut disk = vec![0; 512 * 200];
        put(&mut disk, 0, &[(0x05, 20, 100)]);
        put(&mut disk, 20, &[(0, 0, 0), (0x05, 70, 10)]);
        put(
            &mut disk,
            90,
            &[(0x83, 2, 5), (0x05, 30, 10), (0x83, u32::MAX, 1)],
        );
        put(&mut disk, 50, &[(0x83, 1, 5)]);
        disk[90 * 512 + 446 + 32] = 0x7F;
        let expected = vec![part(5, 92, 5), part(6, 51, 5)];
        assert_eq!(read_table(&disk).unwrap(), Table::Partitions(expected));
    }

    #[test]
    fn a_chain_that_is_a_circle_is_damaged() {
        let mut disk = vec![0; 512 * 200];
        put(&mut disk, 0, &[(0x05, 20, 100)]);
        put(&mut disk, 20, &[(0x83, 1, 9), (0x05, 30, 10)]);
        put(&mut disk, 50, &[(0x83, 2, 5), (0x05, 30, 10)]);
        assert_eq!(read_table(&disk).unwrap_err().kind(), ErrorKind::Corrupt);
        put(&mut disk, 50, &[(0x83, 2, 5), (0x05, u32::MAX, 10)]);
        assert_eq!(read_table(&disk).unwrap_err().kind(), ErrorKind::Corrupt);
        put(&mut disk, 20, &[(0x83, 1, u32::MAX)]);
        assert_eq!(read_table(&disk).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn what_is_no_table_is_none() {
        let mut disk = vec![0; 512 * 10];
        assert_eq!(read_table(&disk).unwrap(), Table::None);
        assert_eq!(read_table(&disk[..100]).unwrap(), Table::None);
        put(&mut disk, 0, &[]);
        assert_eq!(read_table(&disk).unwrap(), Table::None);
        put(&mut disk, 0, &[(0x83, 5, 6)]);
        assert_eq!(read_table(&disk).unwrap(), Table::None, "it ends behind the disk");
        put(&mut disk, 0, &[(0xEE, 1, u32::MAX)]);
        assert_eq!(read_table(&disk).unwrap(), Table::Protective);
    }
}
