//! From kinds of error to the error numbers of the NBD protocol.

use tracing::error;

use super::protocol::Code;
use crate::{Error, ErrorKind};

/// Damage and refused memory are the operator's concern too, so they are logged.
impl From<Error> for Code {
    fn from(error: Error) -> Self {
        if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NoMemory) {
            error!("{error}");
        }
        code(error.kind())
    }
}

/// The protocol has few numbers; what none of them tells is an input/output error.
fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::NoSpace | ErrorKind::QuotaExceeded | ErrorKind::FileTooBig => Code::NoSpace,
        ErrorKind::NotPermitted | ErrorKind::AccessDenied | ErrorKind::ReadOnly => Code::NotPermitted,
        ErrorKind::InvalidArgument
        | ErrorKind::OutOfRange
        | ErrorKind::TooLarge
        | ErrorKind::NotSupported => Code::Invalid,
        ErrorKind::NoMemory => Code::NoMemory,
        ErrorKind::NotFound
        | ErrorKind::Corrupt
        | ErrorKind::BeyondEnd
        | ErrorKind::Busy
        | ErrorKind::Exists
        | ErrorKind::NotDirectory
        | ErrorKind::IsDirectory
        | ErrorKind::TooManyLinks
        | ErrorKind::NameTooLong
        | ErrorKind::NotEmpty
        | ErrorKind::NoAttribute
        | ErrorKind::Stale => Code::InputOutput,
    }
}
