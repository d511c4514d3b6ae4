//! The bytes of regular files: read, write, fallocate, seek, copy.

use std::sync::Arc;

use super::attributes::{content_changed, touch_atime};
use super::dedup::Dedup;
use super::inode::Inode;
use super::snapshot::list::Snapshots;
use super::snapshot::place::is_shown;
use super::snapshot::view::View;
use super::volume::Volume;
use crate::extent::{Clip, Content};
use crate::limits::ROOM_SCARCE;
use crate::range::ByteRange;
use crate::vfs::{CopyRange, Fallocate, Ino, SeekTo, WriteAt, Written};
use crate::{Error, ErrorKind, Result};

pub(super) fn read(volume: &Volume, ino: Ino, offset: u64, out: &mut [u8]) -> Result<usize> {
    if is_shown(ino) {
        let content = volume.view(|view| view.content(ino))?;
        return Ok(content.plan(offset, out.len()).copy_to(out));
    }
    let inode = volume.table.get(ino)?;
    let content = inode.content()?;
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
    let change = volume.change();
    let inode = change.inode(ino)?;
    let mut content = inode.content_mut()?;
    let offset = match at {
        WriteAt::Offset(offset) => offset,
        WriteAt::End => content.len(),
    };
    ByteRange::at(offset, bytes.len() as u64)?;
    if bytes.is_empty() {
        return Ok(Written { offset, len: 0 });
    }
    // A block that a reader has pinned is copied, page by page, and what is left of it has two extents then, so that the
    // next write to it needs room too. Where that is scarce the writer waits for readers in time.
    let mut no_readers = (volume.namespace.room_bytes() < ROOM_SCARCE).then(|| inode.readers.write());
    let len = content.write(&volume.namespace, offset, bytes).or_else(|full| {
        if no_readers.is_some() {
            return Err(full);
        }
        no_readers = Some(inode.readers.write());
        content.write(&volume.namespace, offset, bytes)
    })?;
    drop(no_readers);
    drop(content);
    content_changed(volume, &change, &inode, clear_privileges);
    if volume.dedup == Dedup::Inline {
        let inode = Arc::clone(&inode);
        drop(change);
        volume.seal_inline(&inode, ByteRange::at(offset, len as u64)?);
    }
    Ok(Written { offset, len })
}

pub(super) fn fallocate(volume: &Volume, ino: Ino, range: ByteRange, mode: Fallocate) -> Result<()> {
    let change = volume.change();
    let inode = change.inode(ino)?;
    if range.is_empty() {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            "a range to allocate or punch needs a length above 0",
        ));
    }
    let mut content = inode.content_mut()?;
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
    content_changed(volume, &change, &inode, false);
    Ok(())
}

pub(super) fn seek(volume: &Volume, ino: Ino, offset: u64, to: SeekTo) -> Result<u64> {
    let seek = |content: &Content| match to {
        SeekTo::Data => content.seek_data(offset),
        SeekTo::Hole => content.seek_hole(offset),
    };
    let found = match is_shown(ino) {
        true => seek(&volume.view(|view| view.content(ino))?),
        false => seek(&*volume.table.get(ino)?.content()?),
    };
    found.ok_or_else(|| ErrorKind::BeyondEnd.into())
}

/// The source is pinned before the target is locked, so that no two contents are locked at once.
pub(super) fn copy_range(volume: &Volume, copy: &CopyRange, clear_privileges: bool) -> Result<u64> {
    let to = ByteRange::at(copy.target_offset, copy.len)?;
    let from = ByteRange::at(copy.source_offset, copy.len)?;
    if copy.source == copy.target && from.overlaps(to) {
        volume.table.get(copy.target)?.require_file()?;
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            "source and target overlap in one file",
        ));
    }
    let change = volume.change();
    let target = change.inode(copy.target)?;
    target.require_file()?;
    let source = Source::find(volume, change.snapshots(), copy.source)?;
    let clip = source.clip(from)?;
    if clip.is_empty() {
        return Ok(0);
    }
    let copied = target
        .content_mut()?
        .paste(&volume.namespace, copy.target_offset, &clip)?;
    content_changed(volume, &change, &target, clear_privileges);
    if let Source::Living(source) = &source {
        touch_atime(volume, source);
    }
    Ok(copied)
}

/// Where a copy comes from.
enum Source {
    Living(Arc<Inode>),
    /// A file in a snapshot.
    Kept(Content),
}

impl Source {
    fn find(volume: &Volume, snapshots: &Snapshots, ino: Ino) -> Result<Self> {
        if is_shown(ino) {
            return View::new(volume, snapshots).content(ino).map(Self::Kept);
        }
        let inode = volume.table.get(ino)?;
        inode.require_file()?;
        Ok(Self::Living(inode))
    }

    fn clip(&self, range: ByteRange) -> Result<Clip> {
        Ok(match self {
            Self::Living(inode) => inode.content()?.clip(range),
            Self::Kept(content) => content.clip(range),
        })
    }
}
