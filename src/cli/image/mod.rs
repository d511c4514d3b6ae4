//! `okapi image`: disk images made, shown, compared, changed and removed.

mod base;
mod check;
mod diff;
mod directory;
mod export;
mod fleet;
mod import;
mod list;
mod part;
mod resize;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::mounts;
use super::outcome::{Outcome, print};
use super::progress::Progress;
use super::size::human;
use crate::error::Result;
use crate::serve::control::{Client, SizeRequest};

/// Make, show, compare, change and remove disk images
///
/// An image is a regular file in the directory `images` of the drive's root. Other programs can make and remove images as
/// they do files; a clone shares its base's memory until it is written to, and stays when its base goes. Names are text
/// without slashes and control characters, and do not begin with a dot.
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
    Import(import::Arguments),
    Export(export::Arguments),
    /// List the images, with what they take
    ///
    /// size is what a machine sees; private is the memory that removing the image would free, shared what others hold too.
    Ls {
        /// Print JSON: an array of objects; all sizes in bytes
        #[arg(long)]
        json: bool,
    },
    /// Make an image that has the bytes of another, and shares their memory; or one for each address of a subnet
    ///
    /// Nobody sees the clone before it is whole. It stays when its base goes.
    ///
    /// With --subnet a fleet is made: all of its images, or none. Texts are burned into each, in which {ip} {prefix}
    /// {netmask} {gateway} {dns} {host} {mac} {n} {machine_id} stand for what it is given. Run again, the command makes only
    /// the members that are missing.
    Clone {
        /// The image to be cloned
        base: String,
        /// The image to be made
        #[arg(required_unless_present = "subnet", conflicts_with_all = fleet::OPTIONS)]
        name: Option<String>,
        #[command(flatten)]
        fleet: Box<fleet::Arguments>,
    },
    /// Remove images: none where one does not exist or is in use
    ///
    /// Clones of an image stay when it goes. An image that a client of an export uses is not removed; a program that has the
    /// file open keeps it until it closes it. Where a client begins to use one meanwhile, it stays, and those behind it by name.
    Rm {
        /// Their names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Remove also what clients use: it lives on, without a name, until they leave
        #[arg(long)]
        force: bool,
    },
    /// Show where the bytes of two images differ
    ///
    /// In pages of 4 KiB. What they share is passed over, all else is compared; the shorter one counts as if it went on with
    /// zeros.
    Diff {
        /// An image
        a: String,
        /// Another one
        b: String,
        /// Print JSON: an object with `sizes` and an array `ranges` of `offset` and `length`, all in bytes
        #[arg(long)]
        json: bool,
    },
    /// Make a clone a base: it forgets the one that it has
    ///
    /// No byte changes and no memory moves: the image goes on sharing what it shares. It leaves its fleet too. Clones of it
    /// stay its clones.
    Commit {
        /// The clone
        name: String,
    },
    /// Give an image another base, and share with it what is equal
    ///
    /// No byte changes: pages of 4 KiB that the base has too take its memory in place of their own, whoever writes meanwhile.
    Rebase {
        /// The image
        name: String,
        /// Its new base
        base: String,
    },
    /// Make an image longer, by zeros that take no memory, or shorter
    Resize {
        /// The image
        name: String,
        /// Its new size, or +SIZE or -SIZE for a change: multiples of 512, as in 20G or +512M
        #[arg(allow_hyphen_values = true, value_parser = resize::parse)]
        size: SizeRequest,
        /// Let the image lose bytes at its end
        #[arg(long)]
        shrink: bool,
    },
    /// Verify images: their sizes, their bases, where their bytes are
    ///
    /// Exits with 1 where something is found, and says what cures it.
    Check {
        /// Images [default: all]
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
}

impl Command {
    /// Whether it depends on the bytes of images: the others need not be able to open the drive.
    fn uses_bytes(&self) -> bool {
        match self {
            Self::Import(_)
            | Self::Export(_)
            | Self::Clone { .. }
            | Self::Diff { .. }
            | Self::Rebase { .. }
            | Self::Resize { .. } => true,
            Self::Ls { .. } | Self::Rm { .. } | Self::Commit { .. } | Self::Check { .. } => false,
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let drive = mounts::drive(arguments.mount.as_deref())?;
    if arguments.command.uses_bytes() {
        // What programs have changed through mappings counts too.
        drive.flush()?;
    }
    let mut client = drive.connect()?;
    match &arguments.command {
        Command::Import(arguments) => return import::run(arguments, &drive),
        Command::Export(arguments) => return export::run(arguments, &drive),
        Command::Ls { json } => return list::run(&mut client, *json),
        Command::Clone { base, name, fleet } => match name {
            Some(name) => client.clone_image(base, name)?,
            None => return fleet::run(&drive, base, fleet),
        },
        Command::Rm { names, force } => client.remove_images(names, *force)?,
        Command::Diff { a, b, json } => return diff::run(&mut client, [a, b], *json),
        Command::Commit { name } => client.commit_image(name)?,
        Command::Rebase { name, base } => {
            let shared = rebase(&mut client, name, base)?;
            return print(format!("{name}: {} more shared with {base}\n", human(shared)));
        }
        Command::Resize { name, size, shrink } => return resize::run(&mut client, name, *size, *shrink),
        Command::Check { names } => return check::run(&mut client, names),
    }
    Ok(())
}

/// Has an image rebased, step by step; returns how many bytes are shared since.
fn rebase(client: &mut Client, name: &str, base: &str) -> Result<u64> {
    let mut progress = None;
    let (mut offset, mut shared) = (0, 0);
    loop {
        let step = client.rebase_image(name, base, offset)?;
        shared += step.shared_bytes;
        let Some(next) = step.next else {
            return Ok(shared);
        };
        offset = next;
        progress
            .get_or_insert_with(|| Progress::new("rebasing", step.size_bytes))
            .at(offset);
    }
}
