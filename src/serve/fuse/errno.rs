//! From kinds of error to error numbers.

use tracing::error;

use crate::{Error, ErrorKind};

/// Why a request is refused: an error number, as the kernel hands it to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) i32);

/// The answer to a request.
pub(super) type Answer<T> = Result<T, Refusal>;

impl Refusal {
    /// An operation that okapi does not have. The kernel remembers that, and does without from then on.
    pub(super) const UNKNOWN: Self = Self(libc::ENOSYS);
    /// A request that makes no sense.
    pub(super) const INVALID: Self = Self(libc::EINVAL);
}

/// Damage and refused memory are the operator's concern too, so they are logged.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NoMemory) {
            error!("{error}");
        }
        Self(number(error.kind()))
    }
}

fn number(kind: ErrorKind) -> i32 {
    match kind {
        ErrorKind::NotPermitted => libc::EPERM,
        ErrorKind::NotFound => libc::ENOENT,
        ErrorKind::Corrupt => libc::EIO,
        ErrorKind::BeyondEnd => libc::ENXIO,
        ErrorKind::TooLarge => libc::E2BIG,
        ErrorKind::AccessDenied => libc::EACCES,
        ErrorKind::Busy => libc::EBUSY,
        ErrorKind::Exists => libc::EEXIST,
        ErrorKind::NotDirectory => libc::ENOTDIR,
        ErrorKind::IsDirectory => libc::EISDIR,
        ErrorKind::InvalidArgument => libc::EINVAL,
        ErrorKind::FileTooBig => libc::EFBIG,
        ErrorKind::NoSpace => libc::ENOSPC,
        ErrorKind::QuotaExceeded => libc::EDQUOT,
        ErrorKind::ReadOnly => libc::EROFS,
        ErrorKind::TooManyLinks => libc::EMLINK,
        ErrorKind::OutOfRange => libc::ERANGE,
        ErrorKind::NameTooLong => libc::ENAMETOOLONG,
        ErrorKind::NotEmpty => libc::ENOTEMPTY,
        ErrorKind::NoAttribute => libc::ENODATA,
        ErrorKind::Stale => libc::ESTALE,
        ErrorKind::NotSupported => libc::EOPNOTSUPP,
        ErrorKind::NoMemory => libc::ENOMEM,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_carry_the_numbers_that_their_documentation_names() {
        assert_eq!(Refusal::from(Error::from(ErrorKind::NoSpace)).0, libc::ENOSPC);
        assert_eq!(
            Refusal::from(Error::from(ErrorKind::NoAttribute)).0,
            libc::ENODATA
        );
        assert_eq!(Refusal::from(Error::new(ErrorKind::Busy, "drive")).0, libc::EBUSY);
    }
}
