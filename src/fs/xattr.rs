//! Extended attributes, bounded as Linux bounds them and charged to the budget.

use super::acl;
use super::inode::{Meta, S_ISGID};
use super::volume::Volume;
use super::xattr_store::{ACL_ACCESS, ACL_DEFAULT, discard, store};
use crate::limits::{XATTR_NAME_MAX, XATTR_SIZE_MAX};
use crate::vfs::{Caller, FileKind, Ino, XattrMode};
use crate::{Error, ErrorKind, Result};

/// What only root sees.
const TRUSTED: &[u8] = b"trusted.";

/// Refuses names outside the known prefixes, and `user.` on what is neither file nor directory (xattr(7)).
fn check_name(kind: FileKind, name: &[u8], writing: bool) -> Result<()> {
    if name.len() > XATTR_NAME_MAX {
        return Err(ErrorKind::OutOfRange.into());
    }
    let known = |prefix: &[u8]| name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty());
    if known(b"user.") {
        return match kind {
            FileKind::Regular | FileKind::Directory => Ok(()),
            _ if writing => Err(ErrorKind::NotPermitted.into()),
            _ => Err(ErrorKind::NoAttribute.into()),
        };
    }
    if known(TRUSTED) || known(b"security.") || name == ACL_ACCESS || name == ACL_DEFAULT {
        return Ok(());
    }
    Err(ErrorKind::NotSupported.into())
}

pub(super) fn get(volume: &Volume, ino: Ino, name: &[u8]) -> Result<Box<[u8]>> {
    let inode = volume.table.get(ino)?;
    value_of(inode.kind, &inode.meta(), name)
}

/// The value of an attribute.
pub(super) fn value_of(kind: FileKind, meta: &Meta, name: &[u8]) -> Result<Box<[u8]>> {
    check_name(kind, name, false)?;
    let value = meta.xattrs.as_ref().and_then(|xattrs| xattrs.get(name));
    value.cloned().ok_or_else(|| ErrorKind::NoAttribute.into())
}

pub(super) fn set(
    volume: &Volume,
    caller: Caller,
    ino: Ino,
    (name, value): (&[u8], &[u8]),
    mode: XattrMode,
) -> Result<()> {
    let change = volume.change_names();
    let inode = change.inode(ino)?;
    check_name(inode.kind, name, true)?;
    if value.len() > XATTR_SIZE_MAX {
        let context = format!(
            "an extended attribute holds at most {XATTR_SIZE_MAX} bytes, not {}",
            value.len()
        );
        return Err(Error::new(ErrorKind::TooLarge, context));
    }
    let mut meta = inode.meta_mut();
    check_mode(&meta, name, mode)?;
    if name == ACL_ACCESS || name == ACL_DEFAULT {
        acl::set(volume, inode.kind, &mut meta, name, value)?;
        if name == ACL_ACCESS && inode.kind == FileKind::Regular && is_stranger(caller, &meta) {
            meta.mode &= !S_ISGID;
        }
    } else {
        store(volume, &mut meta, name, value)?;
    }
    meta.ctime = volume.now();
    Ok(())
}

/// Whether a caller may not set set-group-ID: an access list sets the mode, and chmod(2) takes the bit from such a caller
/// too. Only the effective group is known here.
fn is_stranger(caller: Caller, meta: &Meta) -> bool {
    caller.uid != 0 && caller.gid != meta.gid
}

fn check_mode(meta: &Meta, name: &[u8], mode: XattrMode) -> Result<()> {
    let present = meta
        .xattrs
        .as_ref()
        .is_some_and(|xattrs| xattrs.contains_key(name));
    match mode {
        XattrMode::Create if present => Err(ErrorKind::Exists.into()),
        XattrMode::Replace if !present => Err(ErrorKind::NoAttribute.into()),
        XattrMode::Set | XattrMode::Create | XattrMode::Replace => Ok(()),
    }
}

pub(super) fn list(volume: &Volume, caller: Caller, ino: Ino) -> Result<Vec<u8>> {
    Ok(names_of(&volume.table.get(ino)?.meta(), caller))
}

/// The names of all attributes that a caller may see.
pub(super) fn names_of(meta: &Meta, caller: Caller) -> Vec<u8> {
    let mut names = Vec::new();
    let shown = |name: &[u8]| caller.uid == 0 || !name.starts_with(TRUSTED);
    for name in meta
        .xattrs
        .iter()
        .flat_map(|xattrs| xattrs.keys())
        .filter(|name| shown(name))
    {
        names.extend_from_slice(name);
        names.push(0);
    }
    names
}

pub(super) fn remove(volume: &Volume, ino: Ino, name: &[u8]) -> Result<()> {
    let change = volume.change_names();
    let inode = change.inode(ino)?;
    check_name(inode.kind, name, true)?;
    let mut meta = inode.meta_mut();
    if !discard(volume, &mut meta, name) {
        return Err(ErrorKind::NoAttribute.into());
    }
    meta.ctime = volume.now();
    Ok(())
}
