//! The bytes of regular files: read, write, fallocate, seek, copy. All but the copy take no lock above the content's.

use super::attributes::{content_changed, settle_shared, settle_shared_locked, touch_atime};
use super::volume::Volume;
use crate::limits::EXTENT_COST;
use crate::range::ByteRange;
use crate::vfs::{CopyRange, Fallocate, Ino, SeekTo, WriteAt, Written};
use crate::{Error, ErrorKind, Result};

pub(super) fn read(volume: &Volume, ino: Ino, offset: u64, out: &mut [u8]) -> Result<usize> {
    let inode = volume.table.get(ino)?;
    let content = inode.content()?.read();
    let reading = inode.readers.read();
    let plan = content.plan(offset, out.len());
    drop(content);
    let len = plan.copy_to(out);
    drop(plan);
    drop(reading);
    touch_atime(volume, &inode);
    Ok(len)
}

pub(super) fn write(
    volume: &Volume,
    ino: Ino,
    at: WriteAt,
    bytes: &[u8],
    clear_privileges: bool,
) -> Result<Written> {
    let inode = volume.table.get(ino)?;
    let mut content = inode.content()?.write();
    let offset = match at {
        WriteAt::Offset(offset) => offset,
        WriteAt::End => content.len(),
    };
    ByteRange::at(offset, bytes.len() as u64)?;
    if bytes.is_empty() {
        return Ok(Written { offset, len: 0 });
    }
    let len = content.write(&volume.namespace, offset, bytes).or_else(|_full| {
        // A block that a reader has pinned is copied, unless there is no room for the copy.
        let _no_readers = inode.readers.write();
        content.write(&volume.namespace, offset, bytes)
    })?;
    drop(content);
    content_changed(volume, &inode, clear_privileges);
    Ok(Written { offset, len })
}

pub(super) fn fallocate(volume: &Volume, ino: Ino, range: ByteRange, mode: Fallocate) -> Result<()> {
    let inode = volume.table.get(ino)?;
    if range.is_empty() {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            "a range to allocate or punch needs a length above 0",
        ));
    }
    let mut content = inode.content()?.write();
    let grow_to = match mode {
        Fallocate::Allocate { keep_size } => {
            content.allocate(&volume.namespace, range)?;
            (!keep_size).then_some(range.end)
        }
        Fallocate::Zero { keep_size } => {
            content.zero(&volume.namespace, range)?;
            (!keep_size).then_some(range.end)
        }
        Fallocate::Punch => {
            content.punch(&volume.namespace, range)?;
            None
        }
    };
    if let Some(end) = grow_to.filter(|&end| end > content.len()) {
        content.set_len(end);
    }
    drop(content);
    content_changed(volume, &inode, false);
    settle_shared(volume, &inode)
}

pub(super) fn seek(volume: &Volume, ino: Ino, offset: u64, to: SeekTo) -> Result<u64> {
    let inode = volume.table.get(ino)?;
    let content = inode.content()?.read();
    let found = match to {
        SeekTo::Data => content.seek_data(offset),
        SeekTo::Hole => content.seek_hole(offset),
    };
    found.ok_or_else(|| ErrorKind::BeyondEnd.into())
}

/// The source is pinned before the target is locked, so that no two contents are locked at once.
pub(super) fn copy_range(volume: &Volume, copy: &CopyRange, clear_privileges: bool) -> Result<u64> {
    let source = volume.table.get(copy.source)?;
    let target = volume.table.get(copy.target)?;
    let to = ByteRange::at(copy.target_offset, copy.len)?;
    let from = ByteRange::at(copy.source_offset, copy.len)?;
    target.content()?;
    if copy.source == copy.target && from.overlaps(to) {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            "source and target overlap in one file",
        ));
    }
    let clip = {
        let content = source.content()?.read();
        let from = from.clamp_end(content.len());
        if from.is_empty() {
            return Ok(0);
        }
        content.clip(from)
    };
    // Where source and target lie differently in their blocks, an extent becomes two.
    let cost = 2 * clip.extent_count() * EXTENT_COST;
    let structure = volume.structure.read();
    volume.namespace.charge(cost)?;
    let pasted = target
        .content()?
        .write()
        .paste(&volume.namespace, copy.target_offset, &clip);
    target.meta.lock().shared_cost += cost;
    settle_shared_locked(volume, &target)?;
    drop(structure);
    let copied = pasted?;
    content_changed(volume, &target, clear_privileges);
    touch_atime(volume, &source);
    Ok(copied)
}
