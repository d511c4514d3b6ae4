//! Files of ext2, ext3 and ext4: the input is a disk.

#![no_main]

use libfuzzer_sys::fuzz_target;
use okapi::image::burn::{Wanted, find_tokens, locate};
use okapi_fuzz::seeds;

const BLOCK: usize = 1024;
const INODE: usize = 128;
const PATHS: [&str; 6] = [
    "extent",
    "link",
    "blocks",
    "inline/file",
    "tree",
    "inline/../directory/file",
];

fuzz_target!(
    init: seeds(|| vec![disk(false), disk(true)]),
    |bytes: &[u8]| {
        for path in PATHS {
            let wanted = Wanted { path, partition: None };
            for place in locate(&bytes, wanted).unwrap_or_default() {
                let end = place.end();
                assert!(
                    place.len > 0 && end.is_some_and(|end| end <= bytes.len() as u64),
                    "bytes of a file lie on the disk: {place:?}"
                );
            }
        }
        if let Ok(found) = find_tokens(&bytes, &["@@TOKEN@@"]) {
            assert_eq!(&bytes[found[0] as usize..][..9], b"@@TOKEN@@", "a token is where it is found");
        }
    }
);

/// A filesystem of 16 blocks with a file of each kind, with descriptors of 64 bytes or of 32.
fn disk(wide: bool) -> Vec<u8> {
    let mut disk = vec![0; 16 * BLOCK];
    let mut put = |at: usize, bytes: &[u8]| disk[at..at + bytes.len()].copy_from_slice(bytes);
    let superblock: [(usize, u32); 8] = [
        (0x00, 16),
        (0x04, 16),
        (0x14, 1),
        (0x20, 8192),
        (0x28, 16),
        (0x4C, 1),
        (0x60, 0x8042 | if wide { 0x80 } else { 0 }),
        (0x64, 0),
    ];
    for (at, value) in superblock {
        put(BLOCK + at, &value.to_le_bytes());
    }
    put(BLOCK + 0x38, &[0x53, 0xEF, 1]);
    put(BLOCK + 0x58, &(INODE as u16).to_le_bytes());
    put(BLOCK + 0xFE, &64u16.to_le_bytes());
    put(2 * BLOCK + 8, &[3]);

    let mut inode = |number: usize, mode: u16, size: u32, flags: u32, map: &[u8]| {
        let at = 3 * BLOCK + (number - 1) * INODE;
        put(at, &mode.to_le_bytes());
        put(at + 4, &size.to_le_bytes());
        put(at + 0x1A, &[1]);
        put(at + 0x20, &flags.to_le_bytes());
        put(at + 0x28, map);
    };
    const EXTENTS: u32 = 0x8_0000;
    const INLINE: u32 = 0x1000_0000;
    inode(2, 0x4000, BLOCK as u32, EXTENTS, &extents(0, 5));
    inode(3, 0x8000, 100, EXTENTS, &extents(0, 6));
    inode(4, 0xA000, 17, 0, b"directory/../tree");
    let mut map = [0; 60];
    (0..12).for_each(|slot| map[slot * 4] = 7);
    map[48] = 8;
    inode(5, 0x8000, 13 * BLOCK as u32, 0, &map);
    let mut inline = [0; 60];
    inline[4..16].copy_from_slice(&[3, 0, 0, 0, 56, 0, 4, 1, b'f', b'i', b'l', b'e']);
    inode(6, 0x4000, 60, INLINE, &inline);
    inode(7, 0x8000, BLOCK as u32, EXTENTS, &extents(1, 10));
    inode(8, 0x4000, BLOCK as u32, 0, &[12, 0, 0, 0]);

    let names: [(u8, &[u8]); 6] = [
        (3, b"extent"),
        (4, b"link"),
        (5, b"blocks"),
        (6, b"inline"),
        (7, b"tree"),
        (8, b"directory"),
    ];
    put(5 * BLOCK, &entries(&names));
    put(6 * BLOCK, b"IP=@@TOKEN@@");
    put(8 * BLOCK, &[9]);
    put(10 * BLOCK, &extents(0, 11));
    put(12 * BLOCK, &entries(&[(3, b"file")]));
    disk
}

/// A node of a tree with one entry, for one block, or leading to a node below.
fn extents(depth: u8, block: u8) -> [u8; 24] {
    let mut node = [0; 24];
    node[..8].copy_from_slice(&[0x0A, 0xF3, 1, 0, 4, 0, depth, 0]);
    match depth {
        0 => (node[16], node[20]) = (1, block),
        _ => node[16] = block,
    }
    node
}

/// A block of a directory: the last entry reaches to its end.
fn entries(names: &[(u8, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (index, (inode, name)) in names.iter().enumerate() {
        let at = block.len();
        let len = match index + 1 == names.len() {
            true => BLOCK - at,
            false => (8 + name.len()).next_multiple_of(4),
        };
        block.extend([*inode, 0, 0, 0, len as u8, (len >> 8) as u8, name.len() as u8, 1]);
        block.extend_from_slice(name);
        block.resize(at + len, 0);
    }
    block
}
