//! Extended attributes as an inode stores them: charged to the budget, whatever they mean.

use super::inode::{Meta, Xattrs, xattr_cost, xattrs_cost};
use super::volume::Volume;
use crate::limits::XATTR_LIST_MAX;
use crate::{Error, ErrorKind, Result};

/// POSIX ACLs travel as these two attributes.
pub(super) const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
/// See [`ACL_ACCESS`].
pub(super) const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

/// File capabilities, which do not survive a change of the content or the owner.
const CAPABILITY: &[u8] = b"security.capability";

/// Stores a value, charging the new one before the old one is given back.
pub(super) fn store(volume: &Volume, meta: &mut Meta, name: &[u8], value: &[u8]) -> Result<()> {
    let xattrs = meta.xattrs.get_or_insert_default();
    let listed: usize = xattrs
        .keys()
        .filter(|key| &***key != name)
        .map(|key| key.len() + 1)
        .sum();
    let charged = if listed + name.len() + 1 > XATTR_LIST_MAX {
        Err(Error::new(
            ErrorKind::NoSpace,
            format!("the names of one inode's attributes exceed {XATTR_LIST_MAX} bytes"),
        ))
    } else {
        volume.namespace.charge(xattr_cost(name, value))
    };
    if charged.is_ok() {
        if let Some(old) = xattrs.insert(name.into(), value.into()) {
            volume.namespace.release(xattr_cost(name, &old));
        }
    } else if xattrs.is_empty() {
        meta.xattrs = None;
    }
    charged
}

/// Removes a value; `false` where there was none.
pub(super) fn discard(volume: &Volume, meta: &mut Meta, name: &[u8]) -> bool {
    let Some(xattrs) = meta.xattrs.as_mut() else {
        return false;
    };
    let Some(old) = xattrs.remove(name) else {
        return false;
    };
    volume.namespace.release(xattr_cost(name, &old));
    if xattrs.is_empty() {
        meta.xattrs = None;
    }
    true
}

/// Charges for the attributes that a new inode begins with.
pub(super) fn charge_all(volume: &Volume, xattrs: Option<Box<Xattrs>>) -> Result<Option<Box<Xattrs>>> {
    if let Some(xattrs) = &xattrs {
        volume.namespace.charge(xattrs_cost(xattrs))?;
    }
    Ok(xattrs)
}

/// Whether the file has capabilities.
pub(super) fn has_capability(meta: &Meta) -> bool {
    meta.xattrs
        .as_ref()
        .is_some_and(|xattrs| xattrs.contains_key(CAPABILITY))
}

/// Removes the file's capabilities; the caller holds the structure lock.
pub(super) fn remove_capability(volume: &Volume, meta: &mut Meta) {
    discard(volume, meta, CAPABILITY);
}
