//! The command line; the only place that names two frontends.

#[cfg(target_os = "linux")]
mod check;
#[cfg(target_os = "linux")]
mod clone;
#[cfg(target_os = "linux")]
mod daemon;
#[cfg(target_os = "linux")]
mod dedup;
#[cfg(target_os = "linux")]
mod defrag;
#[cfg(target_os = "linux")]
mod doctor;
#[cfg(target_os = "linux")]
mod du;
#[cfg(target_os = "linux")]
mod export;
#[cfg(target_os = "linux")]
mod exporter;
#[cfg(target_os = "linux")]
mod grid;
#[cfg(target_os = "linux")]
mod helper;
#[cfg(target_os = "linux")]
mod image;
#[cfg(target_os = "linux")]
mod mount;
#[cfg(target_os = "linux")]
mod mounts;
#[cfg(target_os = "linux")]
mod options;
mod outcome;
#[cfg(target_os = "linux")]
mod paths;
#[cfg(target_os = "linux")]
mod plan;
#[cfg(target_os = "linux")]
mod progress;
mod size;
#[cfg(target_os = "linux")]
mod snapshot;
#[cfg(target_os = "linux")]
mod stat;
#[cfg(target_os = "linux")]
mod subjects;
#[cfg(target_os = "linux")]
mod umount;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use outcome::exit_code;

/// Memory blocks on a grid, mounted as a POSIX filesystem.
///
/// The drive lives in this machine's memory until it is unmounted, and then its memory is free again.
#[derive(Debug, Parser)]
#[command(name = "okapi", version, max_term_width = 100)]
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
    Du(du::Arguments),
    #[cfg(target_os = "linux")]
    Snapshot(snapshot::Arguments),
    #[cfg(target_os = "linux")]
    Clone(clone::Arguments),
    #[cfg(target_os = "linux")]
    Dedup(dedup::Arguments),
    #[cfg(target_os = "linux")]
    Defrag(defrag::Arguments),
    #[cfg(target_os = "linux")]
    Image(image::Arguments),
    #[cfg(target_os = "linux")]
    Export(export::Arguments),
    #[cfg(target_os = "linux")]
    Grid(grid::Arguments),
    #[cfg(target_os = "linux")]
    Check(check::Arguments),
    #[cfg(target_os = "linux")]
    Doctor(doctor::Arguments),
    #[cfg(target_os = "linux")]
    #[command(hide = true)]
    Daemon(daemon::Arguments),
}

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
        Command::Du(arguments) => du::run(&arguments),
        #[cfg(target_os = "linux")]
        Command::Snapshot(arguments) => snapshot::run(&arguments),
        #[cfg(target_os = "linux")]
        Command::Clone(arguments) => clone::run(&arguments),
        #[cfg(target_os = "linux")]
        Command::Dedup(arguments) => dedup::run(&arguments),
        #[cfg(target_os = "linux")]
        Command::Defrag(arguments) => defrag::run(&arguments),
        #[cfg(target_os = "linux")]
        Command::Image(arguments) => image::run(&arguments),
        #[cfg(target_os = "linux")]
        Command::Export(arguments) => export::run(&arguments),
        #[cfg(target_os = "linux")]
        Command::Grid(arguments) => grid::run(&arguments),
        #[cfg(target_os = "linux")]
        Command::Check(arguments) => check::run(&arguments),
        #[cfg(target_os = "linux")]
        Command::Doctor(arguments) => doctor::run(&arguments),
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
