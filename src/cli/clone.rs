//! `okapi clone`: a writable copy of a snapshot, in no time but that of its names.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use clap::Args;

use super::mounts;
use super::outcome::Outcome;
use crate::error::{Error, ErrorKind, Result};
use crate::serve::control::{CloneRequest, PathReply};

/// Make a writable copy of a snapshot, or of a directory in it
///
/// The copy is a new directory with everything that the snapshot shows: names, owners, modes, times, extended attributes,
/// access lists, hard links. Its files share their memory with the snapshot until they are written to, and stay when the
/// snapshot is deleted. Nobody sees it before it is whole; where it does not fit, nothing is left of it.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The name of a snapshot, or NAME/DIRECTORY, or a path in MOUNT/.okapi/snapshots
    snapshot: PathBuf,
    /// The directory to be made, on the snapshot's drive
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let (given, directory) = (&arguments.snapshot, &arguments.directory);
    let source = Source::of(given)?;
    let (Some(above), Some(name)) = (directory.parent(), directory.file_name()) else {
        let context = format!("{} is there already", directory.display());
        return Err(Error::new(ErrorKind::Exists, context).into());
    };
    // The directory itself, also where the path leads to it over a symbolic link.
    let metadata = mounts::look_at(&above.join("."))?;
    let drive = mounts::drive_of(directory, &metadata)?;
    if source.device.is_some_and(|device| device != metadata.dev()) {
        let context = format!(
            "{} is on another drive than {}\nhint: a clone shares memory with its snapshot: make it on the same drive",
            directory.display(),
            given.display()
        );
        return Err(Error::new(ErrorKind::InvalidArgument, context).into());
    }
    let request = CloneRequest {
        snapshot: source.snapshot,
        path: source.path,
        dir: metadata.ino(),
        name: name.as_bytes().to_vec().into(),
    };
    let made = drive.connect()?.clone_snapshot(request);
    Ok(made.map_err(|error| match error.kind() {
        ErrorKind::Exists => Error::new(
            ErrorKind::Exists,
            format!(
                "{} is there already\nhint: choose another name",
                directory.display()
            ),
        ),
        kind => Error::new(kind, format!("cannot make {}", directory.display())).with_source(error),
    })?)
}

/// What is to be cloned.
#[derive(Debug, PartialEq, Eq)]
struct Source {
    snapshot: String,
    path: PathReply,
    /// What `st_dev` says, where it was named by its path.
    device: Option<u64>,
}

impl Source {
    fn of(given: &Path) -> Result<Self> {
        let is_path = match given.components().next() {
            Some(Component::Normal(_)) => below_list(given).is_some(),
            _ => true,
        };
        if !is_path {
            return Self::named(given, None).ok_or_else(|| not_in_snapshot(given));
        }
        let failed = |source| {
            let context = format!("cannot look at {}", given.display());
            Error::new(ErrorKind::NotFound, context).with_source(source)
        };
        let path = given.canonicalize().map_err(failed)?;
        let device = fs::metadata(&path).map_err(failed)?.dev();
        below_list(&path)
            .and_then(|inside| Self::named(inside, Some(device)))
            .ok_or_else(|| not_in_snapshot(given))
    }

    /// A snapshot's name, and behind it the path of a directory in it.
    fn named(inside: &Path, device: Option<u64>) -> Option<Self> {
        let mut components = inside.components();
        let snapshot = components.next()?.as_os_str().to_str()?.to_owned();
        Some(Self {
            snapshot,
            path: components.as_path().as_os_str().as_bytes().to_vec().into(),
            device,
        })
    }
}

/// What is behind `.okapi/snapshots` in a path.
fn below_list(path: &Path) -> Option<&Path> {
    let mut components = path.components();
    let (control, list) = (OsStr::new(".okapi"), OsStr::new("snapshots"));
    while let Some(component) = components.next() {
        if component.as_os_str() == control && components.next()?.as_os_str() == list {
            return Some(components.as_path());
        }
    }
    None
}

fn not_in_snapshot(given: &Path) -> Error {
    let context = format!(
        "{} is not in a snapshot\nhint: `okapi snapshot list` names those that there are",
        given.display()
    );
    Error::new(ErrorKind::InvalidArgument, context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_a_path_behind_it() {
        let named = |given: &str| {
            let source = Source::of(Path::new(given)).unwrap();
            assert_eq!(source.device, None);
            (source.snapshot, source.path)
        };
        let text = |path: &str| PathReply::Text(path.into());
        assert_eq!(named("s"), ("s".into(), text("")));
        assert_eq!(named("s/"), ("s".into(), text("")));
        assert_eq!(named("s/a/b c/"), ("s".into(), text("a/b c")));
    }

    #[test]
    fn a_path_leads_to_what_is_in_a_snapshot() {
        let below = |path| below_list(Path::new(path)).map(|path: &Path| path.to_str().unwrap());
        assert_eq!(below("/mnt/.okapi/snapshots/s/a"), Some("s/a"));
        assert_eq!(below(".okapi/snapshots/s"), Some("s"));
        assert_eq!(below("/mnt/.okapi/snapshots"), Some(""));
        assert_eq!(below("/mnt/.okapi"), None);
        assert_eq!(below("/mnt/snapshots/s"), None);
        for outside in ["/", "..", "/no/such/path"] {
            assert!(Source::of(Path::new(outside)).is_err(), "{outside}");
        }
    }
}
