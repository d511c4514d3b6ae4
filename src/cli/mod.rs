//! The command line; the only place that names two frontends.

#[cfg(target_os = "linux")]
mod check;
#[cfg(target_os = "linux")]
mod daemon;
#[cfg(target_os = "linux")]
mod grid;
#[cfg(target_os = "linux")]
mod helper;
#[cfg(target_os = "linux")]
mod mount;
#[cfg(target_os = "linux")]
mod mounts;
#[cfg(target_os = "linux")]
mod options;
mod size;
#[cfg(target_os = "linux")]
mod stat;
#[cfg(target_os = "linux")]
mod umount;

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::Error;

/// Memory blocks on a grid, mounted as a POSIX filesystem.
///
/// The drive lives in this machine's memory until it is unmounted, and then its memory is free again.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[cfg(target_os = "linux")]
    Mount(Box<mount::Arguments>),
    #[cfg(target_os = "linux")]
    Umount(umount::Arguments),
    #[cfg(target_os = "linux")]
    Stat(stat::Arguments),
    #[cfg(target_os = "linux")]
    Grid(grid::Arguments),
    #[cfg(target_os = "linux")]
    Check(check::Arguments),
    #[cfg(target_os = "linux")]
    #[command(hide = true)]
    Daemon(daemon::Arguments),
}

/// Why a command did not do what was asked.
enum Failure {
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
    fn failed(kind: crate::ErrorKind, context: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self::Failed(Error::new(kind, context))
    }
}

type Outcome = Result<(), Failure>;

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    log_to_stderr();
    #[cfg(target_os = "linux")]
    if let Some(arguments) = helper::invocation() {
        return helper::run(&arguments);
    }
    let outcome = match Arguments::parse().command {
        #[cfg(target_os = "linux")]
        Command::Mount(arguments) => mount::run(&arguments),
        #[cfg(target_os = "linux")]
        Command::Umount(arguments) => umount::run(&arguments),
        #[cfg(target_os = "linux")]
        Command::Stat(arguments) => stat::run(&arguments),
        #[cfg(target_os = "linux")]
        Command::Grid(arguments) => grid::run(&arguments),
        #[cfg(target_os = "linux")]
        Command::Check(arguments) => check::run(&arguments),
        #[cfg(target_os = "linux")]
        Command::Daemon(arguments) => daemon::run(&arguments),
    };
    exit_code(outcome)
}

/// Warnings and errors, or what `OKAPI_LOG` asks for (`debug`, `okapi::serve=trace`).
fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("OKAPI_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(io::stderr)
        .init();
}

fn exit_code(outcome: Outcome) -> ExitCode {
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
fn complain(message: &impl fmt::Display) {
    let _ = writeln!(io::stderr(), "okapi: {message}");
}

/// Writes to stdout.
fn print(bytes: impl AsRef<[u8]>) -> Outcome {
    let mut out = io::stdout().lock();
    out.write_all(bytes.as_ref())
        .and_then(|()| out.flush())
        .map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::ClosedPipe,
            _ => Error::new(crate::ErrorKind::Corrupt, "cannot write to stdout")
                .with_source(error)
                .into(),
        })
}
