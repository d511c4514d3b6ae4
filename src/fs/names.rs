//! Operations on names: lookup, create, link, unlink, rmdir, readdir.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::acl;
use super::attributes::touch_atime;
use super::directory::{COOKIE_DOT, COOKIE_DOT_DOT, Entries, Target};
use super::inode::change::{Change, Writable};
use super::inode::{Body, Directory, File, MODE_MASK, Meta, NewInode, S_ISGID};
use super::snapshot::place::CONTROL_NAME;
use super::volume::Volume;
use super::xattr_store;
use crate::clock::Timestamp;
use crate::limits::{LINK_MAX, NAME_MAX, SYMLINK_MAX};
use crate::vfs::{Attr, Caller, DirEntry, FileKind, Ino, NewName, NewNode};
use crate::{Error, ErrorKind, Result};

/// Refuses what cannot name an entry: empty, `.`, `..`, a slash or NUL inside, over 255 bytes; and the name under which
/// the root shows the snapshots.
pub(super) fn check_name(parent: Ino, name: &[u8]) -> Result<()> {
    if name.len() > NAME_MAX {
        return Err(ErrorKind::NameTooLong.into());
    }
    if matches!(name, b"" | b"." | b"..") || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("bad name {:?}", name.escape_ascii().to_string()),
        ));
    }
    refuse_control(parent, name)
}

/// Refuses to touch the directory in which the root shows the snapshots.
fn refuse_control(parent: Ino, name: &[u8]) -> Result<()> {
    match parent == Ino::ROOT && name == CONTROL_NAME {
        true => Err(Error::new(
            ErrorKind::NotPermitted,
            "`.okapi` is the drive's own directory",
        )),
        false => Ok(()),
    }
}

pub(super) fn lookup(volume: &Volume, parent: Ino, name: &[u8]) -> Result<Attr> {
    let parent = volume.table.get(parent)?;
    let inode = match name {
        b"." => Arc::clone(&parent),
        b".." => volume.table.get(parent.directory()?.parent())?,
        _ if name.len() > NAME_MAX => {
            parent.directory()?;
            return Err(ErrorKind::NameTooLong.into());
        }
        _ => {
            // The entries stay locked until the look-up is counted: until then only its name keeps the inode.
            let entries = parent.directory()?.entries();
            let target = entries.get(name).ok_or(ErrorKind::NotFound)?;
            let inode = volume.table.get(target.ino)?;
            inode.add_lookup();
            drop(entries);
            return Ok(inode.attr());
        }
    };
    inode.add_lookup();
    Ok(inode.attr())
}

pub(super) fn create(volume: &Volume, caller: Caller, at: NewName<'_>, node: NewNode<'_>) -> Result<Attr> {
    check_name(at.parent, at.name)?;
    let body = new_body(at.parent, node)?;
    let change = volume.change_names();
    let parent = change.inode(at.parent)?;
    let mut names = parent.names()?;
    check_free(&names, at.name)?;
    let inode = make(volume, &change, &parent, caller, (at, body))?;
    let target = Target {
        ino: inode.ino,
        kind: inode.kind,
    };
    let named = names.insert(at.name, target);
    match named {
        Ok(()) => entries_changed(
            &parent,
            i32::from(inode.kind == FileKind::Directory),
            volume.now(),
        ),
        Err(_) => drop_link(volume, &inode, volume.now()),
    }
    drop(names);
    let made = Arc::clone(&inode);
    drop((parent, inode));
    drop(change);
    if named.is_err() {
        volume.drop_lookups(made.ino, 1);
    }
    named.map(|()| made.attr())
}

/// The body of a new node below `parent`.
fn new_body(parent: Ino, node: NewNode<'_>) -> Result<(FileKind, Body)> {
    Ok(match node {
        NewNode::Regular => (FileKind::Regular, Body::File(File::default())),
        NewNode::Directory => (FileKind::Directory, Body::Directory(Directory::new(parent))),
        NewNode::Symlink([]) => return Err(ErrorKind::NotFound.into()),
        NewNode::Symlink(target) if target.len() > SYMLINK_MAX => return Err(ErrorKind::NameTooLong.into()),
        NewNode::Symlink(target) => (FileKind::Symlink, Body::Symlink(target.into())),
        NewNode::Fifo => (FileKind::Fifo, Body::Special(0)),
        NewNode::Socket => (FileKind::Socket, Body::Special(0)),
        NewNode::CharDevice(rdev) => (FileKind::CharDevice, Body::Special(rdev)),
        NewNode::BlockDevice(rdev) => (FileKind::BlockDevice, Body::Special(rdev)),
    })
}

/// A name may be added: the directory lives and the name is free.
pub(super) fn check_free(entries: &Entries, name: &[u8]) -> Result<()> {
    if entries.removed {
        return Err(ErrorKind::NotFound.into());
    }
    match entries.get(name) {
        Some(_) => Err(ErrorKind::Exists.into()),
        None => Ok(()),
    }
}

/// Makes the inode with owner, mode and ACLs as its parent asks for; it has one link and one look-up.
fn make<'c>(
    volume: &Volume,
    change: &'c Change<'_>,
    parent: &Writable<'_>,
    caller: Caller,
    (at, (kind, body)): (NewName<'_>, (FileKind, Body)),
) -> Result<Writable<'c>> {
    let (group, inherited) = {
        let meta = parent.meta();
        if kind == FileKind::Directory && meta.nlink >= LINK_MAX {
            return Err(ErrorKind::TooManyLinks.into());
        }
        let group = meta.group_of_new();
        (group, acl::inherit(&meta, kind, at.mode & MODE_MASK, at.umask)?)
    };
    let keep_setgid = group.is_some() && kind == FileKind::Directory;
    let mode = inherited.mode | if keep_setgid { S_ISGID } else { 0 };
    let target_len = if let Body::Symlink(target) = &body {
        target.len() as u64
    } else {
        0
    };
    let reservation = volume.table.reserve(target_len)?;
    let xattrs = xattr_store::charge_all(volume, inherited.xattrs)?;
    let nlink = if kind == FileKind::Directory { 2 } else { 1 };
    let mut meta = Meta::new(
        mode,
        (caller.uid, group.unwrap_or(caller.gid)),
        nlink,
        volume.now(),
    );
    meta.xattrs = xattrs;
    let new = NewInode {
        ino: reservation.number(),
        kind,
        lookups: 1,
        meta,
        body,
    };
    Ok(change.insert(reservation, new))
}

/// Marks a directory as changed, with that many more (or fewer) subdirectories.
pub(super) fn entries_changed(directory: &Writable<'_>, subdirectories: i32, now: Timestamp) {
    let mut meta = directory.meta_mut();
    meta.nlink = meta.nlink.saturating_add_signed(subdirectories);
    meta.mtime = now;
    meta.ctime = now;
}

/// Takes one name off an inode; the caller takes it out if it is dead before it lets go of the structure lock.
pub(super) fn drop_link(volume: &Volume, inode: &Writable<'_>, now: Timestamp) {
    let mut meta = inode.meta_mut();
    meta.nlink = if inode.kind == FileKind::Directory {
        0
    } else {
        meta.nlink.saturating_sub(1)
    };
    meta.ctime = now;
    if meta.nlink == 0 {
        volume.table.note_orphan_locked();
    }
}

pub(super) fn link(volume: &Volume, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attr> {
    let change = volume.change_names();
    let inode = change.inode(ino)?;
    if inode.kind == FileKind::Directory {
        return Err(ErrorKind::NotPermitted.into());
    }
    check_name(parent, name)?;
    let parent = change.inode(parent)?;
    let mut names = parent.names()?;
    check_free(&names, name)?;
    let now = volume.now();
    {
        let mut meta = inode.meta_mut();
        match meta.nlink {
            0 => return Err(ErrorKind::NotFound.into()),
            LINK_MAX.. => return Err(ErrorKind::TooManyLinks.into()),
            _ => {}
        }
        let target = Target {
            ino,
            kind: inode.kind,
        };
        names.insert(name, target)?;
        meta.nlink += 1;
        meta.ctime = now;
    }
    inode.add_lookup();
    entries_changed(&parent, 0, now);
    Ok(inode.attr())
}

pub(super) fn unlink(volume: &Volume, parent: Ino, name: &[u8]) -> Result<()> {
    refuse_control(parent, name)?;
    let change = volume.change_names();
    let parent = change.inode(parent)?;
    let mut names = parent.names()?;
    let target = names.get(name).ok_or(ErrorKind::NotFound)?;
    if target.kind == FileKind::Directory {
        return Err(ErrorKind::IsDirectory.into());
    }
    let inode = change.inode(target.ino)?;
    let now = volume.now();
    names.remove(name);
    drop_link(volume, &inode, now);
    entries_changed(&parent, 0, now);
    drop(names);
    let dead = volume.table.take_dead_locked(&inode);
    // Its content ends without a lock.
    drop((parent, inode));
    drop(change);
    drop(dead);
    Ok(())
}

pub(super) fn rmdir(volume: &Volume, parent: Ino, name: &[u8]) -> Result<()> {
    match name {
        b"." => return Err(ErrorKind::InvalidArgument.into()),
        b".." => return Err(ErrorKind::NotEmpty.into()),
        _ => refuse_control(parent, name)?,
    }
    let change = volume.change_names();
    let parent = change.inode(parent)?;
    let mut names = parent.names()?;
    let target = names.get(name).ok_or(ErrorKind::NotFound)?;
    let inode = change.inode(target.ino)?;
    close_directory(&inode)?;
    let now = volume.now();
    names.remove(name);
    drop_link(volume, &inode, now);
    entries_changed(&parent, -1, now);
    drop(names);
    let dead = volume.table.take_dead_locked(&inode);
    drop((parent, inode));
    drop(change);
    drop(dead);
    Ok(())
}

/// Marks an empty directory as removed, so that nothing is added to it any more.
pub(super) fn close_directory(inode: &Writable<'_>) -> Result<()> {
    let mut names = inode.names()?;
    if !names.is_empty() {
        return Err(ErrorKind::NotEmpty.into());
    }
    names.set_removed(true);
    Ok(())
}

pub(super) fn readdir(
    volume: &Volume,
    dir: Ino,
    cookie: u64,
    plus: bool,
    visit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
) -> Result<()> {
    let inode = volume.table.get(dir)?;
    let directory = inode.directory()?;
    touch_atime(volume, &inode);
    let dots = [
        (COOKIE_DOT, dir, &b"."[..]),
        (COOKIE_DOT_DOT, directory.parent(), &b".."[..]),
    ];
    for (at, ino, name) in dots {
        let entry = DirEntry {
            cookie: at,
            ino,
            kind: FileKind::Directory,
            name,
            attr: None,
        };
        if cookie < at && visit(entry).is_break() {
            return Ok(());
        }
    }
    let entries = directory.entries();
    for (entry, target) in entries.after(cookie) {
        let child = if plus {
            Some(volume.table.get(target.ino)?)
        } else {
            None
        };
        let attr = child.as_ref().map(|child| child.attr());
        let taken = visit(DirEntry {
            cookie: entry.cookie,
            ino: target.ino,
            kind: target.kind,
            name: &entry.name,
            attr,
        });
        if taken.is_break() {
            break;
        }
        if let Some(child) = child {
            child.add_lookup();
        }
    }
    Ok(())
}
