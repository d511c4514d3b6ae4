//! From kinds of error to error numbers.

use fuser::Errno;
use tracing::error;

use crate::{Error, ErrorKind};

/// The number that the kernel hands to the program. Damage and refused memory are the operator's concern too, so
/// they are logged.
pub(super) fn errno(error: &Error) -> Errno {
    if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NoMemory) {
        error!("{error}");
    }
    number(error.kind())
}

fn number(kind: ErrorKind) -> Errno {
    match kind {
        ErrorKind::NotPermitted => Errno::EPERM,
        ErrorKind::NotFound => Errno::ENOENT,
        ErrorKind::Corrupt => Errno::EIO,
        ErrorKind::BeyondEnd => Errno::ENXIO,
        ErrorKind::TooLarge => Errno::E2BIG,
        ErrorKind::AccessDenied => Errno::EACCES,
        ErrorKind::Busy => Errno::EBUSY,
        ErrorKind::Exists => Errno::EEXIST,
        ErrorKind::NotDirectory => Errno::ENOTDIR,
        ErrorKind::IsDirectory => Errno::EISDIR,
        ErrorKind::InvalidArgument => Errno::EINVAL,
        ErrorKind::FileTooBig => Errno::EFBIG,
        ErrorKind::NoSpace => Errno::ENOSPC,
        ErrorKind::QuotaExceeded => Errno::EDQUOT,
        ErrorKind::ReadOnly => Errno::EROFS,
        ErrorKind::TooManyLinks => Errno::EMLINK,
        ErrorKind::OutOfRange => Errno::ERANGE,
        ErrorKind::NameTooLong => Errno::ENAMETOOLONG,
        ErrorKind::NotEmpty => Errno::ENOTEMPTY,
        ErrorKind::NoAttribute => Errno::ENODATA,
        ErrorKind::Stale => Errno::ESTALE,
        ErrorKind::NotSupported => Errno::EOPNOTSUPP,
        ErrorKind::NoMemory => Errno::ENOMEM,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_carry_the_numbers_that_their_documentation_names() {
        assert_eq!(errno(&ErrorKind::NoSpace.into()).code(), libc::ENOSPC);
        assert_eq!(errno(&ErrorKind::NoAttribute.into()).code(), libc::ENODATA);
        assert_eq!(errno(&Error::new(ErrorKind::Busy, "drive")).code(), libc::EBUSY);
    }
}
