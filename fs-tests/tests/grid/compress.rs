//! Blocks that are held compressed: the same bytes in less memory, to the byte in the figures.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use okapi::ErrorKind;
use okapi::grid::{Block, Codec, Namespace, Press, Slice, class_bytes};
use okapi::limits::{COMPRESS_MIN, COMPRESS_SAVING};

use crate::{BLOCK, Random, bytes_of, kind, slice, space};

const CODECS: [Codec; 2] = [Codec::Lz4, Codec::Zstd];

/// Compresses a block; whether it is compressed then.
fn compress(block: &Block) -> bool {
    compress_by(Codec::Lz4, block)
}

fn compress_by(codec: Codec, block: &Block) -> bool {
    let mut press = Press::new(codec);
    block.pack(&mut press) && block.compress(&press)
}

/// Bytes that compress well, no two runs of 100 alike.
fn text(len: u32) -> Vec<u8> {
    (0..len).map(|n| (n / 100) as u8).collect()
}

/// A block of such bytes, compressed.
fn compressed(space: &Arc<Namespace>, len: u32) -> Block {
    let block = space.new_block(0, &text(len)).unwrap();
    assert!(compress(&block));
    block
}

/// Lengths at which something changes.
fn lengths() -> impl Iterator<Item = u32> {
    let borders = [64, COMPRESS_MIN, 320, 4096, 8192, 12288, BLOCK];
    borders
        .into_iter()
        .flat_map(|border| [border - 1, border, border + 1])
        .filter(|&len| len <= BLOCK)
        .chain([1, 1000, 5000])
}

#[test]
fn bytes_of_every_length_and_kind_stay_what_they_are() {
    let (grid, space) = space(4 << 20);
    let mut random = Random::new("compress");
    for (len, codec) in lengths().flat_map(|len| CODECS.map(|codec| (len, codec))) {
        let half = [text(len / 2), random.bytes((len - len / 2) as usize)].concat();
        for bytes in [vec![0; len as usize], text(len), half, random.bytes(len as usize)] {
            let block = space.new_block(0, &bytes).unwrap();
            let is_compressed = compress_by(codec, &block);
            assert_eq!(bytes_of(&block), bytes);
            assert_eq!(block.len(), len);
            let (plain, held) = (class_bytes(len), block.held_bytes());
            let usage = space.usage();
            assert_eq!(usage.stored_bytes, u64::from(len));
            assert_eq!(usage.held_bytes, u64::from(held));
            let figures = (
                usage.compressed_blocks,
                usage.compressed_plain_bytes,
                usage.compressed_held_bytes,
            );
            if is_compressed {
                assert!(len >= COMPRESS_MIN && held <= plain - plain / COMPRESS_SAVING);
                assert_eq!(figures, (1, u64::from(plain), u64::from(held)));
            } else {
                assert_eq!((held, figures), (plain, (0, 0, 0)));
            }
            grid.check().unwrap();
        }
    }
    assert_eq!(space.usage().compressed_blocks, 0);
    grid.trim();
    assert_eq!(grid.resident_bytes(), 0);
}

#[test]
fn what_repeats_is_compressed_and_what_is_random_is_not_tried_again() {
    let (grid, space) = space(1 << 20);
    let mut press = Press::new(Codec::Lz4);
    let zeros = space.new_block(BLOCK, b"").unwrap();
    assert!(zeros.pack(&mut press) && zeros.compress(&press));
    assert!(zeros.held_bytes() <= 128);
    assert!(!zeros.pack(&mut press), "it is compressed already");
    assert!(!zeros.compress(&press));

    let bytes = Random::new("incompressible").bytes(BLOCK as usize);
    let random = space.new_block(0, &bytes).unwrap();
    assert!(random.pack(&mut press));
    assert!(!random.compress(&press));
    assert!(!random.pack(&mut press), "the block remembers that it was tried");
    random.write(0, &[0; BLOCK as usize / 2]).unwrap();
    assert!(random.pack(&mut press) && random.compress(&press));

    let small = space.new_block(COMPRESS_MIN - 1, b"").unwrap();
    assert!(!small.pack(&mut press));
    assert!(!small.compress(&press));
    grid.check().unwrap();
}

#[test]
fn a_slice_of_a_compressed_block_is_cut_at_its_end() {
    let (_grid, space) = space(1 << 20);
    let (block, bytes) = (compressed(&space, 10_000), text(10_000));
    for (offset, len) in [(0, 100), (4096, 4096), (9_999, 100), (10_000, 1), (u32::MAX, 1)] {
        let start = bytes.len().min(offset as usize);
        let end = bytes.len().min(offset.saturating_add(len) as usize);
        assert!(block.read(slice(offset, len), |part| part == &bytes[start..end]));
    }
    let other = compressed(&space, 300);
    let both = block.read(Slice::ALL, |outer| (outer.to_vec(), bytes_of(&other)));
    assert_eq!(both, (bytes, text(300)), "one is read while another is");
}

#[test]
fn a_compressed_block_is_written_to_as_a_plain_one() {
    let (grid, space) = space(4 << 20);
    let mut random = Random::new("write compressed");
    for len in lengths().filter(|&len| len >= COMPRESS_MIN) {
        for offset in lengths().map(|offset| offset - 1).chain([len - 1, len, len + 10]) {
            for count in [1, 100, 5000, BLOCK] {
                if offset + count > BLOCK {
                    continue;
                }
                let (block, mut expected) = (compressed(&space, len), text(len));
                let bytes = random.bytes(count as usize);
                block.write(offset, &bytes).unwrap();
                let end = (offset + count) as usize;
                expected.resize(expected.len().max(end), 0);
                expected[offset as usize..end].copy_from_slice(&bytes);
                assert!(bytes_of(&block) == expected, "{count} bytes at {offset} of {len}");
                assert_eq!(space.usage().compressed_blocks, 0);
            }
        }
        grid.check().unwrap();
    }
}

#[test]
fn a_compressed_block_is_cut_without_memory() {
    let (grid, space) = space(1 << 20);
    for len in lengths().filter(|&len| len >= COMPRESS_MIN) {
        for cut in lengths().map(|cut| cut - 1) {
            let block = compressed(&space, len);
            let held = block.held_bytes();
            fill(&space);
            block.truncate(cut);
            let left = len.min(cut);
            assert_eq!(bytes_of(&block), text(left));
            assert_eq!(block.held_bytes(), held.min(class_bytes(left)));
            space.release(space.usage().metadata_bytes - okapi::limits::BLOCK_COST);
            block.write(BLOCK - 1, b"x").unwrap();
            let mut expected = text(left);
            expected.resize(BLOCK as usize - 1, 0);
            expected.push(b'x');
            assert!(bytes_of(&block) == expected, "what was cut does not come back");
        }
        grid.check().unwrap();
    }
}

#[test]
fn a_block_keeps_a_part_of_its_bytes() {
    let (grid, space) = space(1 << 20);
    for (offset, len) in [
        (0, BLOCK),
        (0, 100),
        (5000, 4096),
        (5000, BLOCK),
        (BLOCK - 1, 1),
        (BLOCK, 9),
    ] {
        let end = (offset + len).min(BLOCK);
        let part = &text(BLOCK)[offset as usize..end as usize];
        let plain = space.new_block(0, &text(BLOCK)).unwrap();
        let packed = compressed(&space, BLOCK);
        for block in [plain, packed] {
            assert!(block.keep(slice(offset, len)));
            assert_eq!(bytes_of(&block), part);
            assert_eq!(block.held_bytes(), class_bytes(end - offset));
        }
        grid.check().unwrap();
    }
    let block = compressed(&space, BLOCK);
    fill(&space);
    let before = space.usage();
    assert!(!block.keep(slice(1, BLOCK - 1)), "there is no memory for so many");
    assert_eq!((bytes_of(&block), space.usage()), (text(BLOCK), before));
    assert!(block.keep(slice(1, 100)));
    assert_eq!(bytes_of(&block), &text(101)[1..]);
    grid.check().unwrap();
}

/// Charges all that is left of the budget.
fn fill(space: &Namespace) {
    let usage = space.usage();
    let limit = 1 << 20;
    space
        .charge(limit - usage.held_bytes - usage.metadata_bytes)
        .unwrap();
}

#[test]
fn a_write_for_which_there_is_no_memory_leaves_a_block_compressed() {
    let (grid, space) = space(1 << 20);
    let block = compressed(&space, BLOCK);
    fill(&space);
    let before = space.usage();
    assert_eq!(kind(block.write(100, b"x")), ErrorKind::NoSpace);
    assert_eq!(kind(block.expand()), ErrorKind::NoSpace);
    assert_eq!((bytes_of(&block), space.usage()), (text(BLOCK), before));
    space.release(u64::from(BLOCK - block.held_bytes()));
    block.expand().unwrap();
    assert_eq!(block.held_bytes(), BLOCK);
    block.write(100, b"x").unwrap();
    assert_eq!(space.usage().compressed_blocks, 0);
    assert!(compress(&block), "a full grid can compress");
    block.expand().unwrap();
    grid.check().unwrap();
}

#[test]
fn bytes_that_changed_since_they_were_packed_are_not_replaced() {
    let (grid, space) = space(1 << 20);
    let block = space.new_block(0, &text(BLOCK)).unwrap();
    let mut press = Press::new(Codec::Lz4);
    assert!(block.pack(&mut press));
    block.write(5000, b"new").unwrap();
    assert!(!block.compress(&press));
    assert!(block.read(slice(5000, 3), |bytes| bytes == b"new"));
    assert!(block.pack(&mut press));
    block.truncate(BLOCK - 1);
    assert!(!block.compress(&press));
    assert!(block.pack(&mut press));
    assert!(
        block.read(Slice::ALL, |_| !block.compress(&press)),
        "it is in use"
    );
    assert!(block.compress(&press));
    grid.check().unwrap();
}

/// Readers see the same bytes whatever form they have; the writer's own bytes are there as soon as it wrote them.
#[test]
fn blocks_are_compressed_under_their_users() {
    let (grid, space) = space(16 << 20);
    let blocks: Vec<_> = (0..64)
        .map(|n| space.new_block(0, &text(200 * n)).unwrap())
        .collect();
    let own: Vec<_> = (0..64).map(|_| space.new_block(BLOCK, b"").unwrap()).collect();
    let done = AtomicBool::new(false);
    let packed = thread::scope(|scope| {
        let (blocks, own, done) = (&blocks, &own, &done);
        let press = scope.spawn(move || {
            let (mut presses, mut packed) = (CODECS.map(Press::new), 0_u64);
            while !done.load(Ordering::Relaxed) {
                presses.reverse();
                let press = &mut presses[0];
                for block in blocks.iter().chain(own) {
                    packed += u64::from(block.pack(press) && block.compress(press));
                }
                blocks.iter().for_each(|block| block.expand().unwrap());
            }
            packed
        });
        let reader = scope.spawn(move || {
            for round in 0..20_000_u32 {
                let n = round % 64;
                assert!(bytes_of(&blocks[n as usize]) == text(200 * n));
            }
        });
        for round in 0..20_000_u32 {
            let block = &own[(round % 64) as usize];
            let bytes = round.to_le_bytes().repeat(200);
            block.write(round % 1000, &bytes).unwrap();
            assert!(block.read(slice(round % 1000, 800), |read| read == bytes));
        }
        reader.join().unwrap();
        done.store(true, Ordering::Relaxed);
        press.join().unwrap()
    });
    assert!(packed > 0);
    grid.check().unwrap();
    drop((blocks, own));
    assert_eq!(space.usage().compressed_blocks, 0);
    grid.check().unwrap();
}
