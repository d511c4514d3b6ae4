//! Changing attributes: mode, owner, size, times; and what other operations change in passing.

use super::acl;
use super::inode::change::{Change, Writable};
use super::inode::{Inode, MODE_MASK, Meta, S_ISGID, S_ISUID, S_IXGRP};
use super::volume::Volume;
use super::xattr_store;
use crate::Result;
use crate::range::ByteRange;
use crate::vfs::{Attr, FileKind, Ino, SetAttr, TimeOrNow};

/// An access time older than this is renewed even if nothing changed since (mount(8), relatime).
const RELATIME_SECS: i64 = 24 * 60 * 60;

pub(super) fn setattr(volume: &Volume, ino: Ino, changes: &SetAttr) -> Result<Attr> {
    let change = volume.change();
    let inode = change.inode(ino)?;
    if let Some(size) = changes.size {
        ByteRange::at(0, size)?;
        inode.content_mut()?.set_len(size);
    }
    let now = volume.now();
    let mut meta = inode.meta_mut();
    if changes.size.is_some() {
        meta.mtime = now;
    }
    let chown = changes.uid.is_some() || changes.gid.is_some();
    if changes.clear_privileges || chown {
        clear_privileges(inode.kind, &mut meta);
    }
    meta.uid = changes.uid.unwrap_or(meta.uid);
    meta.gid = changes.gid.unwrap_or(meta.gid);
    if let Some(mode) = changes.mode {
        meta.mode = mode & MODE_MASK;
        acl::follow_mode(&mut meta);
    }
    let time = |time: TimeOrNow| if let TimeOrNow::At(at) = time { at } else { now };
    meta.atime = changes.atime.map_or(meta.atime, time);
    meta.mtime = changes.mtime.map_or(meta.mtime, time);
    meta.ctime = changes.ctime.unwrap_or(now);
    let capable = xattr_store::has_capability(&meta);
    drop(meta);
    if capable && (chown || changes.size.is_some()) {
        remove_capability(volume, &change, &inode);
    }
    Ok(inode.attr())
}

/// Marks a file's content as changed; `privileges`: clear what a writer without privilege may not keep.
pub(super) fn content_changed(volume: &Volume, change: &Change<'_>, inode: &Writable<'_>, privileges: bool) {
    let now = volume.now();
    let mut meta = inode.meta_mut();
    meta.mtime = now;
    meta.ctime = now;
    if privileges {
        clear_privileges(inode.kind, &mut meta);
    }
    let capable = xattr_store::has_capability(&meta);
    drop(meta);
    if capable {
        remove_capability(volume, change, inode);
    }
}

/// Clears set-user-ID, and set-group-ID where the group may execute (chown(2), write(2)).
fn clear_privileges(kind: FileKind, meta: &mut Meta) {
    if kind == FileKind::Directory {
        return;
    }
    meta.mode &= !S_ISUID;
    if meta.mode & S_IXGRP != 0 {
        meta.mode &= !S_ISGID;
    }
}

/// File capabilities do not survive a change of content or owner (capabilities(7)).
fn remove_capability(volume: &Volume, change: &Change<'_>, inode: &Writable<'_>) {
    change.charging(|| xattr_store::remove_capability(volume, &mut inode.meta_mut()));
}

/// Renews the access time by the rule of relatime: when it is not younger than the last change, or a day old.
pub(super) fn touch_atime(volume: &Volume, inode: &Inode) {
    let now = volume.now();
    inode.touch_atime(now, |meta| {
        meta.atime <= meta.mtime
            || meta.atime <= meta.ctime
            || now.secs.saturating_sub(meta.atime.secs) >= RELATIME_SECS
    });
}
