//! Files of ext2, ext3 and ext4, and where on the disk their bytes lie.
//!
//! The layout is that of the kernel's documentation (Documentation/filesystems/ext4). Data of files has no checksum in any
//! of the three, so bytes of a file may be written in place while the filesystem is not mounted, and it stays clean.

mod checked;
mod damage;
mod directory;
mod inline;
mod inode;
mod map;
mod superblock;
mod volume;
mod walk;

pub(super) use volume::Ext4;
