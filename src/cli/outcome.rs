//! How a command ends: what it prints, what it complains about, with which code it exits.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;

use crate::error::{Error, ErrorKind};

/// Why a command did not do what was asked.
pub(super) enum Failure {
    /// The arguments make no sense: exit code 2.
    Usage(String),
    /// The wish could not be fulfilled: exit code 1.
    Failed(Error),
    /// The reader of the output has gone: it wants no more, and no complaint.
    ClosedPipe,
    /// Another process has said why already, and ended with this code.
    Reported(u8),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Failure {
    pub(super) fn failed(kind: ErrorKind, context: impl Into<Cow<'static, str>>) -> Self {
        Self::Failed(Error::new(kind, context))
    }
}

pub(super) type Outcome = Result<(), Failure>;

pub(super) fn exit_code(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) | Err(Failure::ClosedPipe) => ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => {
            complain(&message);
            ExitCode::from(2)
        }
        Err(Failure::Failed(error)) => {
            complain(&error);
            ExitCode::from(1)
        }
        Err(Failure::Reported(code)) => ExitCode::from(code),
    }
}

/// Writes to stderr; where that is closed too, there is nobody left to tell.
pub(super) fn complain(message: &impl fmt::Display) {
    let _ = writeln!(io::stderr(), "okapi: {message}");
}

/// Writes to stdout.
pub(super) fn print(bytes: impl AsRef<[u8]>) -> Outcome {
    let mut out = io::stdout().lock();
    out.write_all(bytes.as_ref())
        .and_then(|()| out.flush())
        .map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::ClosedPipe,
            _ => Error::new(ErrorKind::Corrupt, "cannot write to stdout")
                .with_source(error)
                .into(),
        })
}

/// A report as JSON for programs, on lines for people.
pub(super) fn json(report: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string_pretty(report)
        .map(|text| text + "\n")
        .map_err(|source| Error::new(ErrorKind::Corrupt, "cannot print JSON").with_source(source))
}
