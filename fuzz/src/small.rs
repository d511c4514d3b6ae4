//! Small files of every kind of content, made by hand, as inputs to begin with.

use std::collections::BTreeMap;

use okapi::error::{Error, ErrorKind, Result};
use okapi::image::format::{Run, Source};

/// Bytes at far places, with nothing between them.
#[derive(Clone, Debug, Default)]
pub struct Scattered {
    size: u64,
    pieces: BTreeMap<u64, Vec<u8>>,
}

impl Scattered {
    /// Zeros.
    pub fn new(size: u64) -> Self {
        Self {
            size,
            pieces: BTreeMap::new(),
        }
    }

    /// Puts bytes at a place. Places are set in any order and do not overlap.
    pub fn put(&mut self, at: u64, bytes: &[u8]) {
        self.pieces.insert(at, bytes.to_vec());
    }
}

impl Source for Scattered {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(out.len() as u64);
        let Some(end) = end.filter(|end| *end <= self.size) else {
            return Err(Error::from(ErrorKind::BeyondEnd));
        };
        out.fill(0);
        for (&at, bytes) in self.pieces.range(..end) {
            let (from, to) = (at.max(offset), (at + bytes.len() as u64).min(end));
            if from < to {
                out[(from - offset) as usize..(to - offset) as usize]
                    .copy_from_slice(&bytes[(from - at) as usize..(to - at) as usize]);
            }
        }
        Ok(())
    }

    fn run(&self, _offset: u64) -> Result<Run> {
        Ok(Run {
            end: self.size,
            is_zero: false,
        })
    }
}

/// A qcow2 file of one L2 table with clusters of 512 bytes: plain, zeros (from version 3 on), packed, none.
pub fn qcow2(version: u32, zstd: bool, backing: bool) -> Vec<u8> {
    const CLUSTER: usize = 512;
    let packed = match zstd {
        // A frame without size, checksum or dictionary, a window of 1 KiB, and one last block: 512 times 7.
        true => [0xfd2f_b528_u32.to_le_bytes().as_slice(), &[0, 0, 3, 16, 0, 7]].concat(),
        false => miniz_oxide::deflate::compress_to_vec(&[7; CLUSTER], 6),
    };
    let mut file = vec![0; 5 * CLUSTER];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"QFI\xfb");
    put(4, &version.to_be_bytes());
    put(20, &9_u32.to_be_bytes());
    put(24, &(64 * CLUSTER as u64).to_be_bytes());
    put(36, &1_u32.to_be_bytes());
    put(40, &(CLUSTER as u64).to_be_bytes());
    if version > 2 {
        put(72, &(u64::from(zstd) << 3).to_be_bytes());
        put(96, &4_u32.to_be_bytes());
        put(100, &112_u32.to_be_bytes());
        put(104, &[u8::from(zstd)]);
    }
    if backing {
        let extensions = if version > 2 { 112 } else { 72 };
        put(extensions, &0xe279_2aca_u32.to_be_bytes());
        put(extensions + 4, &3_u32.to_be_bytes());
        put(extensions + 8, b"raw");
        put(8, &256_u64.to_be_bytes());
        put(16, &8_u32.to_be_bytes());
        put(256, b"base.img");
    }
    put(CLUSTER, &((2 * CLUSTER as u64) | (1 << 63)).to_be_bytes());
    let zeros = u64::from(version > 2);
    let entries = [
        (3 * CLUSTER as u64) | (1 << 63),
        zeros,
        (4 * CLUSTER as u64) | (1 << 62),
        0,
        (3 * CLUSTER as u64) | zeros,
    ];
    for (number, entry) in entries.iter().enumerate() {
        put(2 * CLUSTER + 8 * number, &entry.to_be_bytes());
    }
    put(3 * CLUSTER, &[5; CLUSTER]);
    put(4 * CLUSTER, &packed);
    file
}
