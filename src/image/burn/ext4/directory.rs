//! Entries of directories, and targets of symbolic links.

use super::damage::damaged;
use super::inode::{Inode, Kind};
use super::volume::Ext4;
use crate::error::Result;
use crate::image::burn::disk::{le16, le32};
use crate::limits::{BURN_DIRECTORY_MAX, SYMLINK_MAX};

/// Bytes of an entry before its name.
const HEAD_LEN: usize = 8;
/// Targets shorter than this are in the inode.
const FAST_LINK_MAX: u64 = 60;

impl Ext4<'_> {
    /// The inode that a name in a directory stands for.
    ///
    /// Short directories can be in their inodes, which then have two pieces of entries. A directory with an index of hashes has its entries in blocks like any other; the index looks like free entries.
    pub(super) fn entry(&self, directory: &Inode, name: &[u8], path: &str) -> Result<Option<u32>> {
        directory.check_readable(path)?;
        if directory.is_inline() {
            for piece in self.inline_entries(directory)? {
                if let Some(found) = entry_in(&piece, name)? {
                    return Ok(Some(found));
                }
            }
            return Ok(None);
        }
        if directory.size > BURN_DIRECTORY_MAX {
            return Err(damaged("a directory is too long to be read"));
        }
        for index in 0..directory.size.div_ceil(self.superblock.block_size) {
            let run = self.map(directory, index)?;
            let Some(block) = run.block.filter(|_| run.is_written) else {
                continue;
            };
            if let Some(found) = entry_in(&self.block(block)?, name)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Where a symbolic link leads to.
    pub(super) fn target(&self, link: &Inode, path: &str) -> Result<Vec<u8>> {
        debug_assert_eq!(link.kind, Kind::Link);
        link.check_readable(path)?;
        if link.size < FAST_LINK_MAX {
            return Ok(link.map[..link.size as usize].to_vec());
        }
        let mut target = match link.is_inline() {
            true => self.inline_target(link)?,
            false => {
                let run = self.map(link, 0)?;
                let block = run.block.filter(|_| run.is_written);
                self.block(block.unwrap_or(0))?
            }
        };
        if link.size > SYMLINK_MAX as u64 {
            return Err(damaged("a symbolic link is too long"));
        }
        target.truncate(link.size as usize);
        Ok(target)
    }
}

/// Looks through one block: each entry says where the next one begins.
fn entry_in(block: &[u8], name: &[u8]) -> Result<Option<u32>> {
    let mut at = 0;
    while at + HEAD_LEN <= block.len() {
        let (inode, len) = (le32(block, at), usize::from(le16(block, at + 4)));
        let len = match len {
            // A block of 64 KiB that is one entry.
            0 | 0xFFFF => block.len() - at,
            len => len,
        };
        let name_len = usize::from(block[at + 6]);
        if len < HEAD_LEN + name_len || len > block.len() - at {
            return Err(damaged("a directory has a broken entry"));
        }
        if inode != 0 && &block[at + HEAD_LEN..at + HEAD_LEN + name_len] == name {
            return Ok(Some(inode));
        }
        at += len;
    }
    Ok(None)
}
