//! Files of FAT12, FAT16 and FAT32, and where on the disk their bytes lie (Microsoft's FAT specification, 1.03).

mod boot;
mod chain;
mod damage;
mod directory;
pub(in crate::image) mod long_name;
mod volume;
mod walk;

pub(super) use volume::Fat;
