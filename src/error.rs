//! The one error type of the crate: a kind that edges translate, a context that people read.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Result with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in terms that each edge translates to its own code (errno, NTSTATUS, HTTP).
///
/// The names follow the errno that POSIX gives to the condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ErrorKind {
    /// Not allowed to the caller whatever the mode bits say (EPERM).
    NotPermitted,
    /// No such file, block, namespace or snapshot (ENOENT).
    NotFound,
    /// The stored bytes or structures are damaged, or a device failed (EIO).
    Corrupt,
    /// An offset beyond the data, or no such device (ENXIO).
    BeyondEnd,
    /// Too large for one call (E2BIG).
    TooLarge,
    /// Mode bits or an ACL forbid it (EACCES).
    AccessDenied,
    /// In use by something that must let go first (EBUSY).
    Busy,
    /// The name is taken (EEXIST).
    Exists,
    /// A component is not a directory (ENOTDIR).
    NotDirectory,
    /// A directory where a file is needed (EISDIR).
    IsDirectory,
    /// An argument is outside its range (EINVAL).
    InvalidArgument,
    /// The file would outgrow the largest offset (EFBIG).
    FileTooBig,
    /// The grid's budget is spent (ENOSPC).
    NoSpace,
    /// A namespace's quota is spent (EDQUOT).
    QuotaExceeded,
    /// The volume is mounted read-only (EROFS).
    ReadOnly,
    /// The link count is at its limit (EMLINK).
    TooManyLinks,
    /// A buffer is too small, or a value out of range (ERANGE).
    OutOfRange,
    /// A name longer than its limit (ENAMETOOLONG).
    NameTooLong,
    /// The directory still has entries (ENOTEMPTY).
    NotEmpty,
    /// No such extended attribute (ENODATA).
    NoAttribute,
    /// The inode is gone (ESTALE).
    Stale,
    /// The operation is not one that this object has (EOPNOTSUPP).
    NotSupported,
    /// The host refused memory or another resource (ENOMEM).
    NoMemory,
}

/// An error: its kind, what it happened to, and what caused it.
///
/// Without a context it is as cheap as an integer, so look-ups may fail by the million.
pub struct Error {
    kind: ErrorKind,
    context: Option<Cow<'static, str>>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error whose message names the object, the value and the cure.
    pub fn new(kind: ErrorKind, context: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            context: Some(context.into()),
            source: None,
        }
    }

    /// Adds the error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self {
            kind,
            context: None,
            source: None,
        }
    }
}

impl ErrorKind {
    fn text(self) -> &'static str {
        match self {
            Self::NotPermitted => "operation not permitted",
            Self::NotFound => "not found",
            Self::Corrupt => "damaged",
            Self::BeyondEnd => "beyond the end of the data",
            Self::TooLarge => "too large for one call",
            Self::AccessDenied => "permission denied",
            Self::Busy => "in use",
            Self::Exists => "exists already",
            Self::NotDirectory => "not a directory",
            Self::IsDirectory => "is a directory",
            Self::InvalidArgument => "invalid argument",
            Self::FileTooBig => "file too big",
            Self::NoSpace => "no space left",
            Self::QuotaExceeded => "quota exceeded",
            Self::ReadOnly => "read-only",
            Self::TooManyLinks => "too many links",
            Self::OutOfRange => "out of range",
            Self::NameTooLong => "name too long",
            Self::NotEmpty => "directory not empty",
            Self::NoAttribute => "no such attribute",
            Self::Stale => "stale inode",
            Self::NotSupported => "not supported",
            Self::NoMemory => "out of memory",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.context {
            Some(context) => f.write_str(context)?,
            None => f.write_str(self.kind.text())?,
        }
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn std::error::Error + 'static))
    }
}
