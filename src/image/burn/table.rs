//! The partitions of a disk, by whichever table it has.

use super::disk::{Part, ReadAt};
use super::partition::Partition;
use super::{gpt, mbr};
use crate::error::Result;

/// The partitions of a disk; `None` where it has no table of them.
///
/// A table is GPT's (UEFI specification, chapter 5) or the older one of four entries, each a partition or the first link of
/// a chain of logical ones.
///
/// # Errors
/// `Corrupt` for a table that contradicts itself or the disk's length.
pub fn partitions(disk: &dyn ReadAt) -> Result<Option<Vec<Partition>>> {
    let disk = Part::whole(disk);
    match mbr::read(disk)? {
        mbr::Table::None => Ok(None),
        mbr::Table::Partitions(found) => Ok(Some(found)),
        mbr::Table::Protective => gpt::read(disk).map(Some),
    }
}
