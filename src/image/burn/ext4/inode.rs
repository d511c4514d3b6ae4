//! Inodes: what they are, and the flags that say how their bytes are held.

use super::damage::damaged;
use super::volume::Ext4;
use crate::error::{Error, ErrorKind, Result};
use crate::image::burn::disk::{le16, le32};

/// Bytes of an inode that are looked at; each inode has them.
const LEN: usize = 128;
/// Where in them its map of blocks is, and how many bytes that has.
const MAP_AT: usize = 0x28;
pub(super) const MAP_LEN: usize = 60;

const COMPRESSED: u32 = 0x4;
const ENCRYPTED: u32 = 0x800;
const EXTENTS: u32 = 0x8_0000;
const VERITY: u32 = 0x10_0000;
const INLINE: u32 = 0x1000_0000;

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Link,
    Other,
}

/// An inode.
pub(super) struct Inode {
    pub(super) kind: Kind,
    /// Where it is in the filesystem.
    pub(super) offset: u64,
    pub(super) size: u64,
    pub(super) map: [u8; MAP_LEN],
    flags: u32,
}

impl Inode {
    pub(super) fn has_extents(&self) -> bool {
        self.flags & EXTENTS != 0
    }

    pub(super) fn is_inline(&self) -> bool {
        self.flags & INLINE != 0
    }

    /// Refuses what does not lie on the disk as plain bytes in blocks of its own.
    pub(super) fn check_writable(&self, path: &str) -> Result<()> {
        self.check_readable(path)?;
        if self.is_inline() {
            return Err(refused(
                path,
                "lies in its inode (inline data), which has a checksum",
                "pad it to 4096 bytes in the base, or make the filesystem without inline_data",
            ));
        }
        match self.flags & (COMPRESSED | VERITY) {
            0 => Ok(()),
            VERITY => Err(refused(
                path,
                "is protected by fs-verity",
                "burn a file that is not",
            )),
            _ => Err(refused(path, "is compressed", "`chattr -c` and rewrite it")),
        }
    }

    /// The same for directories and symbolic links on the way.
    pub(super) fn check_readable(&self, path: &str) -> Result<()> {
        match self.flags & ENCRYPTED {
            0 => Ok(()),
            _ => Err(refused(path, "is encrypted", "burn a file that is not")),
        }
    }
}

fn refused(path: &str, what: &str, hint: &str) -> Error {
    Error::new(ErrorKind::NotSupported, format!("{path} {what}\nhint: {hint}"))
}

impl Ext4<'_> {
    pub(super) fn inode(&self, number: u32) -> Result<Inode> {
        let superblock = &self.superblock;
        if number == 0 || number > superblock.inodes {
            return Err(damaged(format!("there is no inode {number}")));
        }
        let (group, index) = (
            (number - 1) / superblock.inodes_per_group,
            (number - 1) % superblock.inodes_per_group,
        );
        let at = self.inode_table(group)? + u64::from(index) * u64::from(superblock.inode_size);
        let raw: [u8; LEN] = self.part.bytes(at)?;
        if le16(&raw, 0x1A) == 0 {
            return Err(damaged(format!("inode {number} has a name and counts none")));
        }
        let mut map = [0; MAP_LEN];
        map.copy_from_slice(&raw[MAP_AT..MAP_AT + MAP_LEN]);
        Ok(Inode {
            offset: at,
            kind: match le16(&raw, 0) >> 12 {
                0x8 => Kind::File,
                0x4 => Kind::Directory,
                0xA => Kind::Link,
                _ => Kind::Other,
            },
            size: u64::from(le32(&raw, 0x6C)) << 32 | u64::from(le32(&raw, 0x4)),
            map,
            flags: le32(&raw, 0x20),
        })
    }

    /// Offset of a group's table of inodes, which lies inside the filesystem.
    pub(super) fn inode_table(&self, group: u32) -> Result<u64> {
        let superblock = &self.superblock;
        let at = superblock.descriptors_at + u64::from(group) * u64::from(superblock.descriptor_size);
        let low: u64 = le32(&self.part.bytes::<4>(at + 0x8)?, 0).into();
        let high = match superblock.descriptor_size {
            64.. => le32(&self.part.bytes::<4>(at + 0x28)?, 0).into(),
            _ => 0,
        };
        let block = high << 32 | low;
        if block == 0 || block >= superblock.blocks {
            return Err(damaged(format!("group {group} has its inodes outside")));
        }
        Ok(block * superblock.block_size)
    }
}
