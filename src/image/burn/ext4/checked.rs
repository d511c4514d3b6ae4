//! Bytes that are no file's: checksums cover them.

use super::volume::Ext4;
use crate::error::Result;
use crate::image::burn::disk::le32;

/// The superblock lies here, whatever the length of blocks is.
const SUPERBLOCK: std::ops::Range<u64> = 1024..2048;
/// What a block of extended attributes begins with.
const XATTR_MAGIC: u32 = 0xEA02_0000;
/// The last entry of a block of a directory that has checksums: for no inode, 12 bytes, no name, a type that no file has.
const TAIL: [u8; 8] = [0, 0, 0, 0, 12, 0, 0, 0xDE];
const TAIL_LEN: usize = 12;

impl Ext4<'_> {
    /// What a byte of the filesystem is part of, where a checksum covers it that would be wrong after a write.
    pub(in crate::image::burn) fn checked_by(&self, offset: u64) -> Result<Option<&'static str>> {
        if SUPERBLOCK.contains(&offset) {
            return Ok(Some("the superblock, which has a checksum"));
        }
        if self.is_in_inodes(offset)? {
            return Ok(Some(
                "an inode: the file is so short that it has no block (inline data)",
            ));
        }
        let number = offset / self.superblock.block_size;
        if number == 0 || number >= self.superblock.blocks {
            return Ok(None);
        }
        let block = self.block(number)?;
        let tail = block.len() - TAIL_LEN;
        Ok(match () {
            () if block[tail..].starts_with(&TAIL) => Some("a directory: it is the name of a file"),
            () if le32(&block, 0) == XATTR_MAGIC => Some("an extended attribute of a file"),
            () => None,
        })
    }

    fn is_in_inodes(&self, offset: u64) -> Result<bool> {
        for group in 0..self.superblock.groups() {
            let table = self.inode_table(group)?;
            if (table..table + self.superblock.inode_table_len()).contains(&offset) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
