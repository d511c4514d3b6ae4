//! What okapi knows about an image beside its bytes: extended attributes of its file.
//!
//! An image made by other tools has none of them. Whoever may write to the file may change them, so they inform people and
//! choose what is compared; nothing is safe because of what they say.

use super::name::Name;
use crate::error::{ErrorKind, Result};
use crate::vfs::{Caller, Ino, Vfs, XattrMode};

/// Name of the image that this one was cloned from.
pub(crate) const BASE: &[u8] = b"user.okapi.base";
/// The address that was burned in, as text.
pub(crate) const IP: &[u8] = b"user.okapi.ip";
/// The subnet of the fleet that the image belongs to, as text.
pub(crate) const FLEET: &[u8] = b"user.okapi.fleet";

/// Hash of what was burned in, by which a member of a fleet is known again.
pub(crate) const BURNED: &[u8] = b"user.okapi.burned";

/// Bytes of an address or a subnet as text, with room for a scope.
const TEXT_MAX: usize = 128;

/// What okapi knows about an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The image that this one was cloned from.
    pub base: Option<Name>,
    /// The address that was burned in.
    pub ip: Option<String>,
    /// The subnet of the fleet that the image belongs to.
    pub fleet: Option<String>,
}

impl Record {
    /// What a file says about itself; what makes no sense counts as missing.
    ///
    /// # Errors
    /// `Stale` where the file is gone.
    pub fn read(fs: &dyn Vfs, ino: Ino) -> Result<Self> {
        Ok(Self {
            base: value(fs, ino, BASE)?.and_then(|base| Name::of_entry(&base)),
            ip: value(fs, ino, IP)?.and_then(text),
            fleet: value(fs, ino, FLEET)?.and_then(text),
        })
    }

    /// Makes a file say this about itself, and nothing else.
    ///
    /// # Errors
    /// `Stale`, `NoSpace`.
    pub fn write(&self, fs: &dyn Vfs, ino: Ino) -> Result<()> {
        set(fs, ino, BASE, self.base.as_ref().map(Name::as_bytes))?;
        set(fs, ino, IP, self.ip.as_deref().map(str::as_bytes))?;
        set(fs, ino, FLEET, self.fleet.as_deref().map(str::as_bytes))
    }
}

/// Makes a file say that it has this base; all else that it says stays.
///
/// # Errors
/// `Stale`, `NoSpace`.
pub(super) fn set_base(fs: &dyn Vfs, ino: Ino, base: &Name) -> Result<()> {
    set(fs, ino, BASE, Some(base.as_bytes()))
}

/// Makes a file say neither that it has a base nor that it belongs to a fleet.
///
/// # Errors
/// `Stale`.
pub(super) fn forget_base(fs: &dyn Vfs, ino: Ino) -> Result<()> {
    [BURNED, FLEET, BASE]
        .into_iter()
        .try_for_each(|name| set(fs, ino, name, None))
}

/// The value of an attribute, whatever it is; `None` where there is none.
pub(crate) fn value(fs: &dyn Vfs, ino: Ino, name: &[u8]) -> Result<Option<Box<[u8]>>> {
    match fs.getxattr(ino, name) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NoAttribute => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sets an attribute, or sees to it that there is none.
pub(crate) fn set(fs: &dyn Vfs, ino: Ino, name: &[u8], value: Option<&[u8]>) -> Result<()> {
    let Some(value) = value else {
        return match fs.removexattr(ino, name) {
            Err(error) if error.kind() != ErrorKind::NoAttribute => Err(error),
            _ => Ok(()),
        };
    };
    fs.setxattr(Caller::default(), ino, name, value, XattrMode::Set)
}

/// A short text that a terminal shows as it is.
fn text(value: Box<[u8]>) -> Option<String> {
    let text = String::from_utf8(value.into()).ok()?;
    let is_plain = !text.is_empty() && text.len() <= TEXT_MAX && !text.chars().any(char::is_control);
    is_plain.then_some(text)
}
