//! POSIX access control lists (IEEE 1003.1e draft 17, acl(5)), in the byte form of Linux's extended attributes.
//!
//! ```text
//! version u32 = 2 | entry*      entry: tag u16 | permissions u16 (rwx) | id u32       all little-endian
//! ```
//! The kernel decides about access; here lists are validated, inherited, and kept in step with the mode bits.

use super::inode::{Meta, Xattrs};
use super::volume::Volume;
use super::xattr_store::{self, ACL_ACCESS, ACL_DEFAULT};
use crate::vfs::FileKind;
use crate::{Error, ErrorKind, Result};

const VERSION: u32 = 2;
const HEADER_LEN: usize = 4;
const ENTRY_LEN: usize = 8;
/// The id of entries that name nobody.
const NO_ID: u32 = u32::MAX;

const TAG_USER_OBJ: u16 = 0x01;
const TAG_USER: u16 = 0x02;
const TAG_GROUP_OBJ: u16 = 0x04;
const TAG_GROUP: u16 = 0x08;
const TAG_MASK: u16 = 0x10;
const TAG_OTHER: u16 = 0x20;

/// Read, write and execute for owner, group and others.
const PERMISSIONS: u16 = 0o777;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    tag: u16,
    permissions: u16,
    id: u32,
}

/// A valid list: owner, named users, owning group, named groups, mask where somebody is named, others.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Acl {
    entries: Vec<Entry>,
}

impl Acl {
    /// Reads and validates the byte form; `None` for a list without entries, which means "no list".
    fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        let malformed = || Error::new(ErrorKind::InvalidArgument, "malformed access control list");
        let (version, rest) = bytes.split_first_chunk::<HEADER_LEN>().ok_or_else(malformed)?;
        if u32::from_le_bytes(*version) != VERSION {
            return Err(ErrorKind::NotSupported.into());
        }
        let (chunks, tail) = rest.as_chunks::<ENTRY_LEN>();
        if !tail.is_empty() {
            return Err(malformed());
        }
        let entries: Vec<Entry> = chunks.iter().map(Entry::parse).collect();
        if entries.is_empty() {
            return Ok(None);
        }
        let acl = Self { entries };
        if acl.is_valid() {
            Ok(Some(acl))
        } else {
            Err(malformed())
        }
    }

    /// The order and multiplicity of acl(5).
    fn is_valid(&self) -> bool {
        let count = |tag| self.entries.iter().filter(|entry| entry.tag == tag).count();
        let rank = |entry: &Entry| {
            let named = matches!(entry.tag, TAG_USER | TAG_GROUP);
            (entry.tag, if named { entry.id } else { 0 })
        };
        let named = count(TAG_USER) + count(TAG_GROUP);
        let ordered = self
            .entries
            .windows(2)
            .all(|pair| rank(&pair[0]) < rank(&pair[1]));
        let known = TAG_USER_OBJ | TAG_USER | TAG_GROUP_OBJ | TAG_GROUP | TAG_MASK | TAG_OTHER;
        let sound = |entry: &Entry| {
            let named = matches!(entry.tag, TAG_USER | TAG_GROUP);
            entry.tag.is_power_of_two()
                && entry.tag & known != 0
                && entry.permissions <= 7
                && (!named || entry.id != NO_ID)
        };
        ordered
            && self.entries.iter().all(sound)
            && count(TAG_USER_OBJ) == 1
            && count(TAG_GROUP_OBJ) == 1
            && count(TAG_OTHER) == 1
            && (named == 0 || count(TAG_MASK) == 1)
    }

    fn to_bytes(&self) -> Box<[u8]> {
        let mut bytes = Vec::with_capacity(HEADER_LEN + ENTRY_LEN * self.entries.len());
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        for entry in &self.entries {
            bytes.extend_from_slice(&entry.tag.to_le_bytes());
            bytes.extend_from_slice(&entry.permissions.to_le_bytes());
            bytes.extend_from_slice(&entry.id.to_le_bytes());
        }
        bytes.into_boxed_slice()
    }

    /// Whether mode bits alone say the same.
    fn is_minimal(&self) -> bool {
        self.entries.len() == 3
    }

    /// The entry behind each of the three digits of a mode; the group's is the mask where there is one.
    fn digits(&mut self) -> [(usize, u32); 3] {
        let at = |tag| self.entries.iter().position(|entry| entry.tag == tag);
        let group = at(TAG_MASK).or_else(|| at(TAG_GROUP_OBJ));
        let place = |found: Option<usize>| found.expect("a valid list has owner, group and others");
        [
            (place(at(TAG_USER_OBJ)), 6),
            (place(group), 3),
            (place(at(TAG_OTHER)), 0),
        ]
    }

    /// The nine permission bits that stand for the list.
    fn mode(&mut self) -> u16 {
        self.digits().into_iter().fold(0, |mode, (at, shift)| {
            mode | self.entries[at].permissions << shift
        })
    }

    /// Sets the entries behind the mode bits (chmod(2) on a file with a list).
    fn set_mode(&mut self, mode: u16) {
        for (at, shift) in self.digits() {
            self.entries[at].permissions = (mode >> shift) & 7;
        }
    }

    /// Takes what `mode` does not grant from the entries behind it (creation below a default list).
    fn restrict(&mut self, mode: u16) {
        for (at, shift) in self.digits() {
            self.entries[at].permissions &= (mode >> shift) & 7;
        }
    }
}

impl Entry {
    fn parse(bytes: &[u8; ENTRY_LEN]) -> Self {
        let [t0, t1, p0, p1, id @ ..] = *bytes;
        Self {
            tag: u16::from_le_bytes([t0, t1]),
            permissions: u16::from_le_bytes([p0, p1]),
            id: u32::from_le_bytes(id),
        }
    }
}

/// What a new inode takes over from its directory.
pub(super) struct Inherited {
    pub(super) mode: u16,
    pub(super) xattrs: Option<Box<Xattrs>>,
}

/// Mode and lists of a node made in a directory: the default list decides where there is one, else the umask.
pub(super) fn inherit(parent: &Meta, kind: FileKind, mode: u16, umask: u16) -> Result<Inherited> {
    let default = parent.xattrs.as_ref().and_then(|xattrs| xattrs.get(ACL_DEFAULT));
    let Some(default) = default.filter(|_| kind != FileKind::Symlink) else {
        let umask = if kind == FileKind::Symlink {
            0
        } else {
            umask & PERMISSIONS
        };
        return Ok(Inherited {
            mode: mode & !umask,
            xattrs: None,
        });
    };
    let Some(mut access) = Acl::parse(default)? else {
        return Err(Error::new(
            ErrorKind::Corrupt,
            "an empty default access control list was stored",
        ));
    };
    access.restrict(mode);
    let mode = (mode & !PERMISSIONS) | access.mode();
    let mut xattrs = Xattrs::new();
    if !access.is_minimal() {
        xattrs.insert(ACL_ACCESS.into(), access.to_bytes());
    }
    if kind == FileKind::Directory {
        xattrs.insert(ACL_DEFAULT.into(), default.clone());
    }
    Ok(Inherited {
        mode,
        xattrs: (!xattrs.is_empty()).then(|| Box::new(xattrs)),
    })
}

/// Stores a list that came through setxattr(2): an access list sets the mode bits, and a list that says no more
/// than they do is not kept; a list without entries removes.
pub(super) fn set(volume: &Volume, kind: FileKind, meta: &mut Meta, name: &[u8], value: &[u8]) -> Result<()> {
    let is_default = name == ACL_DEFAULT;
    if kind == FileKind::Symlink {
        return Err(ErrorKind::NotSupported.into());
    }
    let acl = Acl::parse(value)?;
    if is_default && kind != FileKind::Directory {
        return if acl.is_none() {
            Ok(())
        } else {
            Err(ErrorKind::AccessDenied.into())
        };
    }
    let Some(mut acl) = acl else {
        xattr_store::discard(volume, meta, name);
        return Ok(());
    };
    if is_default || !acl.is_minimal() {
        xattr_store::store(volume, meta, name, value)?;
    } else {
        xattr_store::discard(volume, meta, name);
    }
    if !is_default {
        meta.mode = (meta.mode & !PERMISSIONS) | acl.mode();
    }
    Ok(())
}

/// Brings the access list in step after the mode bits were set.
pub(super) fn follow_mode(meta: &mut Meta) {
    let mode = meta.mode;
    let Some(stored) = meta.xattrs.as_mut().and_then(|xattrs| xattrs.get_mut(ACL_ACCESS)) else {
        return;
    };
    if let Ok(Some(mut acl)) = Acl::parse(stored) {
        acl.set_mode(mode);
        *stored = acl.to_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16, u32)]) -> Acl {
        let entries = entries
            .iter()
            .map(|&(tag, permissions, id)| Entry { tag, permissions, id })
            .collect();
        Acl { entries }
    }

    fn full() -> Acl {
        acl(&[
            (TAG_USER_OBJ, 7, NO_ID),
            (TAG_USER, 6, 1000),
            (TAG_GROUP_OBJ, 5, NO_ID),
            (TAG_MASK, 7, NO_ID),
            (TAG_OTHER, 4, NO_ID),
        ])
    }

    #[test]
    fn a_list_survives_its_byte_form() {
        assert_eq!(Acl::parse(&full().to_bytes()).unwrap(), Some(full()));
        assert_eq!(Acl::parse(&VERSION.to_le_bytes()).unwrap(), None);
    }

    #[test]
    fn malformed_lists_are_refused() {
        let unordered = acl(&[
            (TAG_GROUP_OBJ, 5, NO_ID),
            (TAG_USER_OBJ, 7, NO_ID),
            (TAG_OTHER, 0, NO_ID),
        ]);
        let maskless = acl(&[
            (TAG_USER_OBJ, 7, NO_ID),
            (TAG_USER, 7, 5),
            (TAG_GROUP_OBJ, 5, NO_ID),
            (TAG_OTHER, 0, NO_ID),
        ]);
        let wide = acl(&[
            (TAG_USER_OBJ, 8, NO_ID),
            (TAG_GROUP_OBJ, 5, NO_ID),
            (TAG_OTHER, 0, NO_ID),
        ]);
        for bad in [unordered, maskless, wide] {
            assert_eq!(
                Acl::parse(&bad.to_bytes()).unwrap_err().kind(),
                ErrorKind::InvalidArgument
            );
        }
        assert_eq!(Acl::parse(b"").unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(
            Acl::parse(&[1, 0, 0, 0]).unwrap_err().kind(),
            ErrorKind::NotSupported
        );
        assert!(Acl::parse(&full().to_bytes()[..13]).is_err());
    }

    #[test]
    fn the_mask_stands_for_the_groups_digit() {
        let mut list = full();
        assert_eq!(list.mode(), 0o774);
        list.set_mode(0o640);
        assert_eq!(list.mode(), 0o640);
        assert_eq!(
            list.entries[2].permissions, 5,
            "the owning group's own entry stays"
        );
        list.restrict(0o700);
        assert_eq!(list.mode(), 0o600);
    }
}
