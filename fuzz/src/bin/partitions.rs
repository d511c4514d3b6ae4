//! The tables of partitions: the input is a disk. Checks of a GUID partition table are made right before it is read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use okapi::image::burn::partitions;
use okapi_fuzz::seeds;

const SECTOR: usize = 512;
const SECTORS: usize = 24;

fuzz_target!(
    init: seeds(|| vec![mbr(), gpt()]),
    |bytes: &[u8]| {
        let mut disk = bytes.to_vec();
        mend(&mut disk);
        for disk in [bytes, &disk] {
            let Ok(Some(found)) = partitions(&disk) else {
                continue;
            };
            for partition in found {
                let end = partition.start.checked_add(partition.len);
                assert!(
                    partition.number > 0 && end.is_some_and(|end| end <= disk.len() as u64),
                    "a partition has a number and lies on the disk: {partition:?}"
                );
            }
        }
    }
);

/// A partition, and a chain of two logical ones.
fn mbr() -> Vec<u8> {
    let mut disk = vec![0; SECTORS * SECTOR];
    for (sector, entries) in [
        (0, [(0x83, 2, 2), (0x05, 4, 16)]),
        (4, [(0x0C, 1, 3), (0x05, 6, 4)]),
        (10, [(0x83, 1, 2), (0, 0, 0)]),
    ] {
        let table = &mut disk[sector * SECTOR..][..SECTOR];
        for (entry, (kind, start, len)) in table[446..].chunks_exact_mut(16).zip(entries) {
            entry[4] = kind;
            entry[8] = start;
            entry[12] = len;
        }
        table[510..].copy_from_slice(&[0x55, 0xAA]);
    }
    disk
}

/// Four entries, two of them in use, with the copy at the end.
fn gpt() -> Vec<u8> {
    let mut disk = mbr();
    disk[450] = 0xEE;
    for (header, entries) in [(1, 2), (SECTORS - 1, SECTORS - 2)] {
        let raw = &mut disk[header * SECTOR..][..SECTOR];
        raw[..8].copy_from_slice(b"EFI PART");
        raw[12] = 92;
        raw[24] = header as u8;
        raw[72] = entries as u8;
        raw[80] = 4;
        raw[84] = 128;
        for (entry, (first, last)) in disk[entries * SECTOR..]
            .chunks_exact_mut(128)
            .zip([(4, 7), (8, 9)])
        {
            entry[..16].fill(7);
            entry[32] = first;
            entry[40] = last;
        }
    }
    mend(&mut disk);
    disk
}

/// Makes the checks of both headers right, as far as there are any.
fn mend(disk: &mut [u8]) {
    let last = (disk.len() / SECTOR).saturating_sub(1);
    for header in [1, last] {
        let Some(raw) = disk.get(header * SECTOR..).and_then(|raw| raw.get(..SECTOR)) else {
            continue;
        };
        let number =
            |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]) as usize;
        let (at, len, header_len) = (number(72), number(80).saturating_mul(number(84)), number(12));
        let entries = at.checked_mul(SECTOR).and_then(|at| disk.get(at..)?.get(..len));
        if let Some(check) = entries.map(crc32) {
            disk[header * SECTOR + 88..][..4].copy_from_slice(&check.to_le_bytes());
        }
        let raw = &mut disk[header * SECTOR..][..SECTOR];
        raw[16..20].fill(0);
        if let Some(check) = raw.get(..header_len).map(crc32) {
            raw[16..20].copy_from_slice(&check.to_le_bytes());
        }
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |value, byte| {
        (0..8).fold(value ^ u32::from(*byte), |value, _| {
            value >> 1 ^ if value & 1 == 1 { 0xEDB8_8320 } else { 0 }
        })
    })
}
