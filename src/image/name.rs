//! Names of images: what the command line, a terminal and the NBD protocol can all tell.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};
use crate::limits::NAME_MAX;

/// The name of an image: 1 to 255 bytes of text in one path component, without control characters, and not beginning
/// with a dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

impl Name {
    /// Takes a name as it was given.
    ///
    /// # Errors
    /// `InvalidArgument` and `NameTooLong` for what cannot be one.
    pub fn new(name: &str) -> Result<Self> {
        let complaint = if name.is_empty() {
            "it is empty\nhint: give it a letter at least"
        } else if name.len() > NAME_MAX {
            let context = format!(
                "a name of {} bytes is too long for an image\nhint: at most {NAME_MAX} bytes",
                name.len()
            );
            return Err(Error::new(ErrorKind::NameTooLong, context));
        } else if name.contains('/') {
            "images are in one directory\nhint: leave out the slash, and what is before it"
        } else if name.starts_with('.') {
            "files whose names begin with a dot are no images\nhint: leave the dot out"
        } else if name.chars().any(char::is_control) {
            "it has control characters\nhint: leave them out"
        } else {
            return Ok(Self(name.into()));
        };
        let context = format!("`{}` cannot name an image: {complaint}", name.escape_debug());
        Err(Error::new(ErrorKind::InvalidArgument, context))
    }

    /// The name that the bytes of an entry of a directory are, if they can be one.
    pub(crate) fn of_entry(bytes: &[u8]) -> Option<Self> {
        std::str::from_utf8(bytes)
            .ok()
            .and_then(|name| Self::new(name).ok())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as the filesystem takes it.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_component_of_text() {
        let longest = "n".repeat(NAME_MAX);
        for name in ["a", "vm-1.raw", "a b", "\u{e4}\u{1f980}", "-", "a.", &longest] {
            assert_eq!(Name::new(name).expect("a fine name").as_str(), name);
        }
        for name in ["", ".", "..", ".a", "a/b", "/", "a\n", "\u{7f}", "\u{85}", "a\0"] {
            let error = Name::new(name).expect_err("no name");
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{name:?}");
            let text = error.to_string();
            assert!(text.contains("hint: ") && text.lines().count() == 2, "{text}");
        }
        let error = Name::new(&(longest + "n")).expect_err("too long");
        assert_eq!(error.kind(), ErrorKind::NameTooLong);
        assert_eq!(Name::of_entry(b"\xff"), None);
    }
}
