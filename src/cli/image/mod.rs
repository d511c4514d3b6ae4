//! `okapi image`: disk images made, shown, compared and removed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::mounts;
use super::outcome::Outcome;

/// Make, show, compare and remove disk images
///
/// An image is a regular file in the directory `images` of the drive's root. Other programs can make and remove images as
/// they do files; a clone shares its base's memory until it is written to. Names are text without slashes and control
/// characters, and do not begin with a dot.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Where the drive is mounted [default: the only one]
    #[arg(long, value_name = "DIR", global = true)]
    mount: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an image that has the bytes of another, and shares their memory
    ///
    /// Nobody sees the clone before it is whole. It stays when its base goes.
    Clone {
        /// The image to be cloned
        base: String,
        /// The image to be made
        name: String,
    },
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let drive = mounts::drive(arguments.mount.as_deref())?;
    match &arguments.command {
        Command::Clone { base, name } => {
            drive.flush()?;
            drive.connect()?.clone_image(base, name)?;
        }
    }
    Ok(())
}
