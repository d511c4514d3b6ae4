//! Finds the bytes of a file on a disk, through its partitions and filesystems.

use super::disk::{Part, ReadAt};
use super::ext4::Ext4;
use super::fat::Fat;
use super::partition::Partition;
use super::place::Place;
use super::table::partitions;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::BURN_PATH_MAX;

/// A file that is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'w> {
    /// Its path from the root of its filesystem.
    pub path: &'w str,
    /// The only partition to look in.
    pub partition: Option<u32>,
}

/// A filesystem that files are found in.
enum Filesystem<'d> {
    Ext4(Ext4<'d>),
    Fat(Fat<'d>),
}

/// Where the bytes of a file are, in their order.
///
/// # Errors
/// `NotFound` where no filesystem has it, `InvalidArgument` where several have, `IsDirectory`, `TooLarge`; `Busy` for a
/// filesystem that was not unmounted, `ReadOnly` for one that must not be written, `NotSupported` for bytes that are not held as such, `Corrupt` for damage.
pub fn locate(disk: &dyn ReadAt, wanted: Wanted<'_>) -> Result<Vec<Place>> {
    if wanted.path.len() > BURN_PATH_MAX {
        return Err(Error::new(
            ErrorKind::NameTooLong,
            format!("a path in an image has at most {BURN_PATH_MAX} bytes"),
        ));
    }
    let mut found: Option<(u32, Vec<Place>)> = None;
    let mut reason = None;
    for partition in candidates(disk, wanted.partition)? {
        match locate_in(disk, partition, wanted.path) {
            Ok(places) => match &found {
                None => found = Some((partition.number, places)),
                Some((other, _)) => return Err(ambiguous(wanted.path, *other, partition.number)),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => reason = reason.or(Some(error)),
            Err(error) => reason = Some(error),
        }
    }
    match found {
        Some((_, places)) => Ok(places),
        None => Err(reason.unwrap_or_else(|| no_filesystem(wanted))),
    }
}

/// Whether a byte lies where a checksum covers it that would be wrong afterwards; says of what.
///
/// # Errors
/// `Busy` for a filesystem that was not unmounted, `ReadOnly` for one that must not be written; any, where the disk cannot be read.
pub(super) fn checked_by(disk: &dyn ReadAt, offset: u64) -> Result<Option<&'static str>> {
    for partition in candidates(disk, None)? {
        let inside = offset
            .checked_sub(partition.start)
            .filter(|inside| *inside < partition.len);
        let (Some(inside), Some(part)) = (inside, part_of(disk, partition)) else {
            continue;
        };
        if is_btrfs(part) {
            return Ok(Some("btrfs, which has checksums of all data"));
        }
        match filesystem(part) {
            Ok(Some(Filesystem::Ext4(ext4))) => {
                if let Some(what) = ext4.checked_by(inside)? {
                    return Ok(Some(what));
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::Busy | ErrorKind::ReadOnly) => return Err(error),
            // A filesystem that is not understood says nothing about its checksums.
            _ => (),
        }
    }
    Ok(None)
}

/// The partitions, or the disk as a whole where it has none or a filesystem begins at its beginning.
fn candidates(disk: &dyn ReadAt, only: Option<u32>) -> Result<Vec<Partition>> {
    let whole = Partition {
        number: 0,
        start: 0,
        len: disk.size(),
    };
    // A filesystem comes first: its boot sector can look like a table. What is broken counts only where there is no table.
    let first = filesystem(Part::whole(disk));
    if only.is_none() && matches!(first, Ok(Some(_))) {
        return Ok(vec![whole]);
    }
    let found = match partitions(disk) {
        Err(_) if first.is_err() => None,
        found => found?,
    };
    let found = found.unwrap_or_else(|| vec![whole]);
    Ok(found
        .into_iter()
        .filter(|partition| only.is_none_or(|number| number == partition.number))
        .collect())
}

fn locate_in(disk: &dyn ReadAt, partition: Partition, path: &str) -> Result<Vec<Place>> {
    let part = part_of(disk, partition).ok_or(ErrorKind::Corrupt)?;
    let places = match filesystem(part)? {
        Some(Filesystem::Ext4(ext4)) => ext4.locate(path),
        Some(Filesystem::Fat(fat)) => fat.locate(path),
        None => Err(no_filesystem(Wanted {
            path,
            partition: None,
        })),
    }?;
    match places.is_empty() {
        true => Err(Error::new(
            ErrorKind::NotSupported,
            format!("{path} is empty in the base\nhint: pad it with newlines to the longest text it gets"),
        )),
        false => Ok(places),
    }
}

fn part_of(disk: &dyn ReadAt, partition: Partition) -> Option<Part<'_>> {
    Part::whole(disk).part(partition.start, partition.len)
}

fn filesystem(part: Part<'_>) -> Result<Option<Filesystem<'_>>> {
    if let Some(ext4) = Ext4::open(part)? {
        return Ok(Some(Filesystem::Ext4(ext4)));
    }
    Ok(Fat::open(part)?.map(Filesystem::Fat))
}

fn is_btrfs(part: Part<'_>) -> bool {
    part.bytes::<8>((64 << 10) + 64)
        .is_ok_and(|magic| &magic == b"_BHRfS_M")
}

fn ambiguous(path: &str, one: u32, other: u32) -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        format!("partitions {one} and {other} both have {path}\nhint: choose with --partition {one}"),
    )
}

fn no_filesystem(wanted: Wanted<'_>) -> Error {
    let place = match wanted.partition {
        Some(number) => format!("there is no partition {number}, or no"),
        None => "there is no".to_owned(),
    };
    Error::new(
        ErrorKind::NotFound,
        format!(
            "{place} filesystem in the image in which okapi finds {}\n\
             hint: it reads ext2 to ext4 and FAT, in MBR or GPT partitions or without; for others put a token into the \
             file and use --patch",
            wanted.path
        ),
    )
}
