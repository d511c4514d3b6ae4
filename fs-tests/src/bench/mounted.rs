//! Filesystems that are measured beside okapi, mounted where nothing else is.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, umount2};

use super::program::succeed;
use crate::harness::{Place, Scratch, Tmpfs};

/// An empty mount; goes with the value.
pub struct Mounted {
    point: Scratch,
    /// What is shown, or holds the image.
    below: Option<Tmpfs>,
}

/// A filesystem of the kernel that lives in a file on a tmpfs.
pub struct Image<'a> {
    /// The program that makes it, and its arguments before the file.
    pub mkfs: (&'a str, &'a [&'a str]),
    /// Length of the file.
    pub len_bytes: u64,
}

impl Mounted {
    /// Mounts by the command that `command` makes of the mountpoint.
    ///
    /// # Errors
    /// Why that cannot be done here, in a line.
    pub fn by(command: impl FnOnce(&Path) -> Command) -> Result<Self, String> {
        Self::mount(None, |point, _| Ok(command(point)))
    }

    /// As [`Mounted::by`], above a tmpfs of that size (as mount(8) takes it), whose directory comes second.
    ///
    /// # Errors
    /// Why that cannot be done here, in a line.
    pub fn above(size: &str, command: impl FnOnce(&Path, &Path) -> Command) -> Result<Self, String> {
        Self::mount(Some(Tmpfs::mount(size)), |point, below| Ok(command(point, below)))
    }

    /// Makes a filesystem in a file of a tmpfs of that size, and mounts it.
    ///
    /// # Errors
    /// Why that cannot be done here, in a line.
    pub fn image(image: &Image<'_>, size: &str) -> Result<Self, String> {
        Self::mount(Some(Tmpfs::mount(size)), |point, below| {
            let path = below.join(IMAGE_NAME);
            make(&path, image.len_bytes).map_err(|err| format!("{}: {err}", path.display()))?;
            let (program, arguments) = image.mkfs;
            succeed(Command::new(program).args(arguments).arg(&path))?;
            // the loop device goes with the mount
            let mut command = Command::new("mount");
            command.args(["-o", "loop"]).arg(path).arg(point);
            Ok(command)
        })
    }

    fn mount(
        below: Option<Tmpfs>,
        command: impl FnOnce(&Path, &Path) -> Result<Command, String>,
    ) -> Result<Self, String> {
        let point = Scratch::new();
        let below_path = below.as_ref().map_or(Path::new(""), Place::path);
        succeed(&mut command(point.path(), below_path)?)?;
        let mounted = Self { point, below };
        mounted.expect_mounted()?;
        Ok(mounted)
    }

    /// The mounted directory.
    pub fn path(&self) -> &Path {
        self.point.path()
    }

    /// The file of a filesystem made by [`Mounted::image`].
    ///
    /// # Panics
    /// Where there is nothing below.
    pub fn image_path(&self) -> PathBuf {
        let below = self.below.as_ref().expect("an image lies on a tmpfs");
        below.path().join(IMAGE_NAME)
    }

    fn expect_mounted(&self) -> Result<(), String> {
        let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev());
        let parent = self.path().parent().expect("a scratch directory lies in another");
        match (device(self.path()), device(parent)) {
            (Ok(point), Ok(parent)) if point != parent => Ok(()),
            (Err(err), _) | (_, Err(err)) => Err(err.to_string()),
            _ => Err("the program ended well, but nothing is mounted".to_owned()),
        }
    }
}

const IMAGE_NAME: &str = "image";

fn make(path: &Path, len_bytes: u64) -> std::io::Result<()> {
    File::create_new(path)?.set_len(len_bytes)
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // after a run that failed, files may still be open: then the mount goes when they do
        if umount2(self.path(), MntFlags::empty()).is_err() {
            let _ = umount2(self.path(), MntFlags::MNT_DETACH);
        }
    }
}
