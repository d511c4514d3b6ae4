//! Files of FAT12, FAT16 and FAT32: the input is a disk.

#![no_main]

use libfuzzer_sys::fuzz_target;
use okapi::image::burn::{Wanted, locate};
use okapi_fuzz::seeds;

const SECTOR: usize = 512;
const SECTORS: u8 = 24;

fuzz_target!(
    init: seeds(|| vec![disk(false), disk(true)]),
    |bytes: &[u8]| {
        for path in ["file.txt", "A long name", "dir/file.txt"] {
            let wanted = Wanted { path, partition: None };
            for place in locate(&bytes, wanted).unwrap_or_default() {
                let end = place.end();
                assert!(
                    place.len > 0 && end.is_some_and(|end| end <= bytes.len() as u64),
                    "bytes of a file lie on the disk: {place:?}"
                );
            }
        }
    }
);

/// A root with a file, a long name and a directory; entries of the table have 12 bits, or 32.
fn disk(wide: bool) -> Vec<u8> {
    let mut disk = vec![0; usize::from(SECTORS) * SECTOR];
    let mut put = |at: usize, bytes: &[u8]| disk[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0xEB, 0x3C, 0x90]);
    put(11, &[0, 2, 1, 1, 0, 1]);
    put(19, &[SECTORS, 0, 0xF8]);
    match wide {
        true => put(36, &[1, 0, 0, 0, 0, 0, 0, 0, 2]),
        false => {
            put(17, &[16]);
            put(22, &[1]);
        }
    }
    put(510, &[0x55, 0xAA]);
    // The root is in cluster 2, or the sector of that place; the file in 3 and 4, the directory in 5.
    let shift = usize::from(!wide);
    let chains: [(usize, u32); 6] = [
        (0, 0x0FFF_FFF8),
        (1, 0x0FFF_FFFF),
        (2, 0x0FFF_FFFF),
        (3, 4),
        (4, 0x0FFF_FFFF),
        (5, 0x0FFF_FFFF),
    ];
    let mut table = [0; SECTOR];
    for (cluster, next) in chains {
        if wide {
            table[cluster * 4..][..4].copy_from_slice(&next.to_le_bytes());
            continue;
        }
        let at = cluster * 3 / 2;
        let pair = u16::from_le_bytes([table[at], table[at + 1]]);
        let pair = match cluster & 1 {
            0 => pair | next as u16 & 0xFFF,
            _ => pair | (next as u16) << 4,
        };
        table[at..at + 2].copy_from_slice(&pair.to_le_bytes());
    }
    put(SECTOR, &table);
    put(2 * SECTOR, &root());
    put((5 + shift) * SECTOR, &entry(b"FILE    TXT", 0x20, 3));
    disk
}

fn root() -> Vec<u8> {
    let short = b"ALONGN~1   ";
    let check = short
        .iter()
        .fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    let mut long = [0xFF; 32];
    long[0] = 0x41;
    let units = b"A long name\0".iter();
    let places = (1..11).step_by(2).chain((14..26).step_by(2)).chain([28, 30]);
    for (at, unit) in places.zip(units) {
        long[at..at + 2].copy_from_slice(&[*unit, 0]);
    }
    (long[11], long[12], long[13]) = (0x0F, 0, check);
    (long[26], long[27]) = (0, 0);
    [
        entry(b"FILE    TXT", 0x20, 3),
        long,
        entry(short, 0x20, 4),
        entry(b"DIR        ", 0x10, 5),
    ]
    .concat()
}

fn entry(name: &[u8; 11], attributes: u8, cluster: u8) -> [u8; 32] {
    let mut entry = [0; 32];
    entry[..11].copy_from_slice(name);
    entry[11] = attributes;
    entry[26] = cluster;
    entry[28] = 100;
    entry
}
