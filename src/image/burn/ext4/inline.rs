//! What is so short that it lies in its inode: in the place of the map of blocks, and in an extended attribute.

use super::damage::damaged;
use super::inode::Inode;
use super::volume::Ext4;
use crate::error::Result;
use crate::image::burn::disk::{le16, le32};

/// Where inodes end that have no more than their fixed part.
const FIXED_LEN: usize = 128;
const ATTRIBUTES_MAGIC: u32 = 0xEA02_0000;
/// Bytes of an attribute's entry before its name.
const ENTRY_LEN: usize = 16;
/// The prefix `system.`, by its number.
const SYSTEM: u8 = 7;
/// Bytes of the map that name the directory above.
const PARENT_LEN: usize = 4;

impl Ext4<'_> {
    /// The two pieces in which the entries of a directory are.
    pub(super) fn inline_entries(&self, directory: &Inode) -> Result<[Vec<u8>; 2]> {
        let behind = self.inline_rest(directory)?;
        Ok([directory.map[PARENT_LEN..].to_vec(), behind])
    }

    /// The target of a symbolic link, and what may be behind it.
    pub(super) fn inline_target(&self, link: &Inode) -> Result<Vec<u8>> {
        Ok([&link.map[..], &self.inline_rest(link)?].concat())
    }

    fn inline_rest(&self, inode: &Inode) -> Result<Vec<u8>> {
        let mut raw = vec![0; usize::from(self.superblock.inode_size)];
        self.part.read(inode.offset, &mut raw)?;
        inline_attribute(&raw).ok_or_else(|| damaged("an inode has a broken attribute"))
    }
}

/// The value of `system.data` in an inode, empty where there is none; `None` for broken attributes.
fn inline_attribute(raw: &[u8]) -> Option<Vec<u8>> {
    if raw.len() <= FIXED_LEN {
        return Some(Vec::new());
    }
    let attributes = raw.get(FIXED_LEN + usize::from(le16(raw, FIXED_LEN))..)?;
    if le32(attributes, 0) != ATTRIBUTES_MAGIC {
        return Some(Vec::new());
    }
    // Offsets of values count from the first entry.
    let attributes = attributes.get(4..)?;
    let mut entry = attributes;
    while le32(entry, 0) != 0 {
        let name_len = usize::from(*entry.first()?);
        let name = entry.get(ENTRY_LEN..ENTRY_LEN + name_len)?;
        if entry[1] == SYSTEM && name == b"data" {
            let (at, len) = (usize::from(le16(entry, 2)), le32(entry, 8) as usize);
            return attributes.get(at..)?.get(..len).map(<[u8]>::to_vec);
        }
        entry = entry.get((ENTRY_LEN + name_len).next_multiple_of(4)..)?;
    }
    Some(Vec::new())
}
