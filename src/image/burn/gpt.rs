//! The GUID partition table: the header behind the first sector, or its copy in the last one.

use super::disk::{Part, le32, le64};
use super::partition::Partition;
use crate::error::{Error, ErrorKind, Result};
use crate::image::checksum::CRC32;

/// Sectors that disks have.
const SECTORS: [u64; 2] = [512, 4096];
const HEADER_LEN: usize = 92;
/// Entries that are read: eight times as many as programs make.
const ENTRIES_MAX: u32 = 1024;
/// Bytes of an entry, in steps of the smallest.
const ENTRY_LEN_MIN: u32 = 128;
const ENTRY_LEN_MAX: u32 = 4096;

/// A header whose check is right.
struct Header {
    entries_at: u64,
    entries: u32,
    entry_len: u32,
    entries_check: u32,
}

pub(super) fn read(disk: Part<'_>) -> Result<Vec<Partition>> {
    for sector in SECTORS {
        let last = (disk.len() / sector).saturating_sub(1);
        for at in [1, last] {
            if let Some(found) = table(disk, sector, at)? {
                return Ok(found);
            }
        }
    }
    Err(damaged("its checks fail in both copies"))
}

/// The table whose header is in that sector; `None` where there is none, or a wrong one.
fn table(disk: Part<'_>, sector: u64, at: u64) -> Result<Option<Vec<Partition>>> {
    let Some(header) = header(disk, sector, at)? else {
        return Ok(None);
    };
    // Bounded by the two limits: 4 MiB.
    let mut entries = vec![0; header.entries as usize * header.entry_len as usize];
    let in_bytes = header.entries_at.checked_mul(sector);
    if in_bytes.is_none_or(|offset| disk.read(offset, &mut entries).is_err())
        || !CRC32.remainder(&entries) != header.entries_check
    {
        return Ok(None);
    }
    let raw = entries.chunks_exact(header.entry_len as usize);
    let used = (1..).zip(raw).filter(|(_, raw)| raw[..16] != [0; 16]);
    used.map(|(number, raw)| partition(disk, sector, number, raw))
        .collect::<Result<_>>()
        .map(Some)
}

fn header(disk: Part<'_>, sector: u64, at: u64) -> Result<Option<Header>> {
    if disk.part(at * sector, sector).is_none() {
        return Ok(None);
    }
    let mut bytes: [u8; 512] = disk.bytes(at * sector)?;
    let (len, check) = (le32(&bytes, 12) as usize, le32(&bytes, 16));
    if &bytes[..8] != b"EFI PART" || !(HEADER_LEN..=bytes.len()).contains(&len) || le64(&bytes, 24) != at {
        return Ok(None);
    }
    bytes[16..20].fill(0);
    if !CRC32.remainder(&bytes[..len]) != check {
        return Ok(None);
    }
    let header = Header {
        entries_at: le64(&bytes, 72),
        entries: le32(&bytes, 80),
        entry_len: le32(&bytes, 84),
        entries_check: le32(&bytes, 88),
    };
    let fits = header.entries <= ENTRIES_MAX
        && (ENTRY_LEN_MIN..=ENTRY_LEN_MAX).contains(&header.entry_len)
        && header.entry_len.is_multiple_of(ENTRY_LEN_MIN);
    Ok(fits.then_some(header))
}

fn partition(disk: Part<'_>, sector: u64, number: u32, raw: &[u8]) -> Result<Partition> {
    let (first, last) = (le64(raw, 32), le64(raw, 40));
    let sectors = last.checked_sub(first).and_then(|sectors| sectors.checked_add(1));
    let place = first
        .checked_mul(sector)
        .zip(sectors.and_then(|sectors| sectors.checked_mul(sector)));
    match place {
        Some((start, len)) if first > 1 && disk.part(start, len).is_some() => {
            Ok(Partition { number, start, len })
        }
        _ => Err(damaged(&format!("partition {number} lies outside the disk"))),
    }
}

fn damaged(how: &str) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!("the GUID partition table is damaged: {how}\nhint: `sgdisk --verify` and `gdisk` repair it"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk of 100 sectors with a table in both copies: entries of (first, last) sector.
    fn disk(entries: &[(u64, u64)]) -> Vec<u8> {
        let mut disk = vec![0; 512 * 100];
        let mut table = vec![0; 512];
        for (raw, (first, last)) in table.chunks_exact_mut(128).zip(entries) {
            raw[..16].fill(7);
            raw[32..40].copy_from_slice(&first.to_le_bytes());
            raw[40..48].copy_from_slice(&last.to_le_bytes());
        }
        for (at, entries_at) in [(1u64, 2u64), (99, 98)] {
            let mut header = [0; 512];
            header[..8].copy_from_slice(b"EFI PART");
            header[12] = 92;
            header[24..32].copy_from_slice(&at.to_le_bytes());
            header[72..80].copy_from_slice(&entries_at.to_le_bytes());
            header[80] = 4;
            header[84] = 128;
            header[88..92].copy_from_slice(&(!CRC32.remainder(&table)).to_le_bytes());
            let check = !CRC32.remainder(&header[..92]);
            header[16..20].copy_from_slice(&check.to_le_bytes());
            disk[at as usize * 512..][..512].copy_from_slice(&header);
            disk[entries_at as usize * 512..][..512].copy_from_slice(&table);
        }
        disk
    }

    fn read_table(disk: &[u8]) -> Result<Vec<Partition>> {
        read(Part::whole(&disk))
    }

    #[test]
    fn partitions_are_found_by_either_copy_of_the_table() {
        let expected = [
            Partition {
                number: 1,
                start: 512 * 10,
                len: 512 * 10,
            },
            Partition {
                number: 2,
                start: 512 * 20,
                len: 512,
            },
        ];
        let whole = disk(&[(10, 19), (20, 20)]);
        assert_eq!(read_table(&whole).unwrap(), expected);
        for (header, entries) in [(512, 1024), (512 * 99, 512 * 98)] {
            for broken in [header + 30, entries + 33] {
                let mut disk = whole.clone();
                disk[broken] ^= 1;
                assert_eq!(read_table(&disk).unwrap(), expected, "one copy is enough");
                disk[512 * 99 + 20 - 512 * 98 * usize::from(header > 512)] ^= 1;
                assert_eq!(read_table(&disk).unwrap_err().kind(), ErrorKind::Corrupt);
            }
        }
    }

    #[test]
    fn partitions_outside_the_disk_are_damage() {
        for bad in [
            (10, 9),
            (0, 5),
            (1, 5),
            (10, 100),
            (10, u64::MAX),
            (0, u64::MAX),
            (u64::MAX, u64::MAX),
        ] {
            assert_eq!(
                read_table(&disk(&[bad])).unwrap_err().kind(),
                ErrorKind::Corrupt,
                "{bad:?}"
            );
        }
        assert!(read_table(&[0; 100]).is_err());
    }
}
