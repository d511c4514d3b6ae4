//! Which blocks of the filesystem hold a file: trees of extents, and the older maps of single blocks.

use super::damage::damaged;
use super::inode::{Inode, MAP_LEN};
use super::volume::Ext4;
use crate::error::Result;
use crate::image::burn::disk::{le16, le32};

const EXTENT_MAGIC: u16 = 0xF30A;
/// Levels below the root, as the kernel bounds them.
const DEPTH_MAX: u16 = 5;
/// Bytes of the header of a node, and of each of its entries.
const ENTRY_LEN: usize = 12;
/// An extent longer than this is allocated and not written yet: so much shorter.
const WRITTEN_MAX: u16 = 1 << 15;
/// Blocks that an old map names in the inode itself.
const DIRECT: u64 = 12;

/// Blocks of a file one after the other, from the one that was asked for on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Where they begin; `None` for a hole.
    pub(super) block: Option<u64>,
    /// How many: at least one.
    pub(super) blocks: u64,
    /// Whether they read as what is in them, and not as zeros.
    pub(super) is_written: bool,
}

impl Run {
    const HOLE: Self = Self {
        block: None,
        blocks: 1,
        is_written: false,
    };
}

impl Ext4<'_> {
    /// The run that begins at a block of a file.
    pub(super) fn map(&self, inode: &Inode, wanted: u64) -> Result<Run> {
        match inode.has_extents() {
            true => self.map_extents(inode, wanted),
            false => self.map_blocks(inode, wanted),
        }
    }

    fn map_extents(&self, inode: &Inode, wanted: u64) -> Result<Run> {
        let mut node = inode.map.to_vec();
        let mut depth = le16(&node, 6);
        if depth > DEPTH_MAX {
            return Err(damaged("a tree of extents is too deep"));
        }
        loop {
            let Some(entry) = entry_at(&node, depth, wanted)? else {
                return Ok(Run::HOLE);
            };
            if depth == 0 {
                return self.extent(entry, wanted);
            }
            let block = u64::from(le16(entry, 8)) << 32 | u64::from(le32(entry, 4));
            node = self.block(block)?;
            depth -= 1;
        }
    }

    fn extent(&self, entry: &[u8], wanted: u64) -> Result<Run> {
        let (first, len) = (u64::from(le32(entry, 0)), le16(entry, 4));
        let is_written = len <= WRITTEN_MAX;
        let len = u64::from(if is_written { len } else { len - WRITTEN_MAX });
        // `entry_at` has seen to it that it begins at the block or before it.
        let skipped = wanted - first;
        if skipped >= len {
            return Ok(Run::HOLE);
        }
        let start = u64::from(le16(entry, 6)) << 32 | u64::from(le32(entry, 8));
        let (block, blocks) = (start + skipped, len - skipped);
        self.check_inside(block, blocks)?;
        Ok(Run {
            block: Some(block),
            blocks,
            is_written,
        })
    }

    /// Twelve blocks, then one of pointers, one of pointers to pointers, and one more level.
    fn map_blocks(&self, inode: &Inode, wanted: u64) -> Result<Run> {
        let pointers = self.superblock.block_size / 4;
        let mut left = wanted;
        let mut slot = DIRECT;
        let mut depth = 0;
        if left < DIRECT {
            slot = left;
        } else {
            left -= DIRECT;
            let mut covered = pointers;
            depth = 1;
            while left >= covered && depth < 4 {
                left -= covered;
                covered *= pointers;
                depth += 1;
                slot += 1;
            }
            if depth == 4 {
                return Err(damaged("a file is longer than its map"));
            }
        }
        let mut block = u64::from(le32(&inode.map, slot as usize * 4));
        for level in (0..depth).rev() {
            if block == 0 {
                return Ok(Run::HOLE);
            }
            self.check_inside(block, 1)?;
            let index = left / pointers.pow(level) % pointers;
            let at = block * self.superblock.block_size + index * 4;
            block = le32(&self.part.bytes::<4>(at)?, 0).into();
        }
        if block == 0 {
            return Ok(Run::HOLE);
        }
        self.check_inside(block, 1)?;
        Ok(Run {
            block: Some(block),
            blocks: 1,
            is_written: true,
        })
    }

    /// The bytes of a block.
    pub(super) fn block(&self, block: u64) -> Result<Vec<u8>> {
        self.check_inside(block, 1)?;
        let mut bytes = vec![0; self.superblock.block_size as usize];
        self.part.read(block * self.superblock.block_size, &mut bytes)?;
        Ok(bytes)
    }

    fn check_inside(&self, block: u64, blocks: u64) -> Result<()> {
        // Both have fewer than 49 bits.
        match block > 0 && block + blocks <= self.superblock.blocks {
            true => Ok(()),
            false => Err(damaged(format!("block {block} of a file lies outside"))),
        }
    }
}

/// The last entry of a node that begins at the wanted block or before it.
fn entry_at(node: &[u8], depth: u16, wanted: u64) -> Result<Option<&[u8]>> {
    let (entries, room) = (usize::from(le16(node, 2)), node.len() / ENTRY_LEN - 1);
    if le16(node, 0) != EXTENT_MAGIC || le16(node, 6) != depth || entries > room {
        return Err(damaged("a tree of extents has a broken node"));
    }
    let entries = node[ENTRY_LEN..].chunks_exact(ENTRY_LEN).take(entries);
    Ok(entries
        .take_while(|entry| u64::from(le32(entry, 0)) <= wanted)
        .last())
}

const _: () = assert!(MAP_LEN == 15 * 4 && MAP_LEN.is_multiple_of(ENTRY_LEN));
