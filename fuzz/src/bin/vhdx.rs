//! The reader of vhdx: the input is the parts of a file that mean something, put to their places with right checksums.

#![no_main]

use libfuzzer_sys::fuzz_target;
use okapi::image::format::{Vhdx, VhdxWriter, Writer};
use okapi_fuzz::small::Scattered;
use okapi_fuzz::{seeds, walk};

/// Where the parts are, and how long each is in the input.
const PARTS: [(u64, usize); 6] = [
    (0, 8),
    (64 << 10, 80),
    (192 << 10, 16 + 3 * 32),
    (2 << 20, 32 + 7 * 32),
    ((2 << 20) + (64 << 10), 64),
    (3 << 20, 256),
];
/// Parts with a checksum, by number, with the bytes that it covers.
const SUMMED: [(usize, usize); 2] = [(1, 4 << 10), (2, 64 << 10)];
/// Bytes in the input before the parts: the size of the file in units of 64 KiB.
const SIZE_LEN: usize = 2;

fuzz_target!(
    init: seeds(|| [(1, 5), (300, 1 << 20), (64 << 10, 40 << 20)].into_iter().map(|(write, size)| seed(write, size)).collect()),
    |bytes: &[u8]| {
        if let Ok(mut disk) = Vhdx::new(Box::new(file(bytes))) {
            walk(&mut disk);
        }
    }
);

/// The parts of a file with some bytes at the start of its disk.
fn seed(written: usize, size: u64) -> Vec<u8> {
    let mut file = Vec::new();
    let mut writer = VhdxWriter::new(&mut file, size, [[1; 16]; 3]).expect("the format takes such a disk");
    let done = writer.write(0, &vec![9; written]).and_then(|()| writer.finish());
    done.expect("memory takes all that is written");
    drop(writer);
    let mut input = ((file.len() >> 16) as u16).to_le_bytes().to_vec();
    for (at, len) in PARTS {
        input.extend(&file[at as usize..at as usize + len]);
    }
    input
}

fn file(input: &[u8]) -> Scattered {
    let (size, mut rest) = input.split_at(SIZE_LEN.min(input.len()));
    let units = size
        .iter()
        .rev()
        .fold(0, |units, byte| (units << 8) | u64::from(*byte));
    let mut file = Scattered::new(units << 16);
    for (number, (at, len)) in PARTS.into_iter().enumerate() {
        let (part, later) = rest.split_at(len.min(rest.len()));
        let mut part = part.to_vec();
        part.resize(len, 0);
        if let Some((_, covered)) = SUMMED.into_iter().find(|(summed, _)| *summed == number) {
            part[4..8].fill(0);
            let sum = crc32c(&part, covered);
            part[4..8].copy_from_slice(&sum.to_le_bytes());
        }
        file.put(at, &part);
        rest = later;
    }
    file
}

/// CRC-32C of bytes and the zeros behind them, `len` in all.
fn crc32c(bytes: &[u8], len: usize) -> u32 {
    let all = bytes.iter().copied().chain(std::iter::repeat(0)).take(len);
    !all.fold(u32::MAX, |crc, byte| {
        CRC_OF_BYTE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8)
    })
}

const CRC_OF_BYTE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};
