//! What is mounted where, from /proc/self/mountinfo, which never asks the filesystems themselves.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::syncfs;

use crate::error::{Error, ErrorKind, Result};
use crate::serve::control::{Client, DeviceNumber};
use crate::serve::fuse::FILESYSTEM_TYPE;

/// A mounted filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) device: DeviceNumber,
    pub(super) mountpoint: PathBuf,
    pub(super) filesystem_type: String,
    /// The user who mounted it, where it is a FUSE filesystem.
    pub(super) owner: u32,
}

impl Mount {
    pub(super) fn is_ours(&self) -> bool {
        self.filesystem_type == FILESYSTEM_TYPE
    }

    /// Has the kernel write back what programs have changed through mappings: all else has reached the drive already.
    pub(super) fn flush(&self) -> Result<()> {
        let failed = |source: io::Error| {
            let place = self.mountpoint.display();
            let (kind, context) = match source.kind() {
                io::ErrorKind::PermissionDenied => (
                    ErrorKind::AccessDenied,
                    format!(
                        "cannot flush {place}, which you may not open\nhint: ask as the user who has mounted it"
                    ),
                ),
                _ => (ErrorKind::Corrupt, format!("cannot flush {place}")),
            };
            Error::new(kind, context).with_source(source)
        };
        let root = File::open(&self.mountpoint).map_err(failed)?;
        syncfs(root).map_err(|errno| failed(errno.into()))
    }

    /// Connects to the program that serves this mount.
    pub(super) fn connect(&self) -> Result<Client> {
        Client::connect(self.device, self.owner).map_err(|source| {
            let place = self.mountpoint.display();
            Error::new(
                ErrorKind::NotFound,
                format!(
                    "the drive on {place} does not answer: {source}\nhint: if its program was killed, \
                     `okapi umount {place}` clears it away; if it is another user's, ask as that user or as root"
                ),
            )
        })
    }
}

/// All mounts of this mount namespace, later ones last.
pub(super) fn all() -> Result<Vec<Mount>> {
    fs::read("/proc/self/mountinfo")
        .map(|table| parse(&table))
        .map_err(|source| {
            Error::new(ErrorKind::NotFound, "cannot read /proc/self/mountinfo").with_source(source)
        })
}

/// What is mounted on a directory: the last of several.
pub(super) fn on(mountpoint: &Path) -> Result<Option<Mount>> {
    Ok(all()?.into_iter().rfind(|mount| mount.mountpoint == mountpoint))
}

/// The absolute path of a mountpoint, without touching what is mounted there if that can be helped.
pub(super) fn resolve(path: &Path) -> Result<PathBuf> {
    let failed = |source: io::Error| {
        let kind = match source.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::NotADirectory => ErrorKind::NotDirectory,
            _ => ErrorKind::AccessDenied,
        };
        Error::new(kind, format!("cannot use {}", path.display())).with_source(source)
    };
    let absolute: PathBuf = std::path::absolute(path).map_err(failed)?.components().collect();
    if on(&absolute)?.is_some() {
        return Ok(absolute);
    }
    match absolute.canonicalize() {
        Ok(path) => Ok(path),
        // The path leads over a symbolic link to a dead mount.
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => {
            let (parent, name) = absolute
                .parent()
                .zip(absolute.file_name())
                .ok_or(error)
                .map_err(failed)?;
            Ok(parent.canonicalize().map_err(failed)?.join(name))
        }
        Err(error) => Err(failed(error)),
    }
}

/// The okapi drive on a mountpoint; without one, the only okapi drive that there is.
pub(super) fn drive(mountpoint: Option<&Path>) -> Result<Mount> {
    match mountpoint {
        Some(path) => drive_on(&resolve(path)?),
        None => only_drive(all()?),
    }
}

/// The okapi drive that a path is on, from what stat(2) says about it.
pub(super) fn drive_of(path: &Path, metadata: &fs::Metadata) -> Result<Mount> {
    let device = DeviceNumber {
        major: libc::major(metadata.dev()),
        minor: libc::minor(metadata.dev()),
    };
    let mounts = all()?;
    let of_device = |mount: &&Mount| mount.device == device;
    let place = path.display();
    let context = match mounts.iter().rfind(of_device) {
        Some(mount) if mount.is_ours() => return Ok(mount.clone()),
        Some(mount) => format!(
            "{place} is not on an okapi drive but on a filesystem of type {}",
            mount.filesystem_type
        ),
        None => format!("{place} is not on an okapi drive"),
    };
    let hint = "hint: `okapi stat` names the drives that there are";
    Err(Error::new(
        ErrorKind::InvalidArgument,
        format!("{context}\n{hint}"),
    ))
}

/// What stat(2) says about a path, of a symbolic link itself.
pub(super) fn look_at(path: &Path) -> Result<fs::Metadata> {
    fs::symlink_metadata(path).map_err(|source| {
        let kind = match source.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::NotADirectory => ErrorKind::NotDirectory,
            _ => ErrorKind::AccessDenied,
        };
        Error::new(kind, format!("cannot look at {}", path.display())).with_source(source)
    })
}

fn drive_on(mountpoint: &Path) -> Result<Mount> {
    let place = mountpoint.display();
    match on(mountpoint)? {
        Some(mount) if mount.is_ours() => Ok(mount),
        Some(mount) => Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "{place} is not an okapi drive but a mount of type {}",
                mount.filesystem_type
            ),
        )),
        None => Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "{place} is not the mountpoint of an okapi drive\nhint: `okapi stat` names those that there are"
            ),
        )),
    }
}

fn only_drive(mounts: Vec<Mount>) -> Result<Mount> {
    let mut drives: Vec<Mount> = mounts.into_iter().filter(Mount::is_ours).collect();
    match drives.len() {
        0 => Err(no_drive()),
        1 => Ok(drives.swap_remove(0)),
        several => {
            let places: Vec<String> = drives
                .iter()
                .map(|d| d.mountpoint.display().to_string())
                .collect();
            Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "{several} okapi drives are mounted: {}\nhint: name one",
                    places.join(", ")
                ),
            ))
        }
    }
}

pub(super) fn no_drive() -> Error {
    Error::new(
        ErrorKind::NotFound,
        "no okapi drive is mounted\nhint: `okapi mount DIRECTORY` mounts one",
    )
}

/// Lines like `36 35 0:45 / /mnt/ram rw,nosuid shared:1 - fuse.okapi okapi rw,user_id=0` (proc_pid_mountinfo(5)).
fn parse(table: &[u8]) -> Vec<Mount> {
    table
        .split(|&byte| byte == b'\n')
        .filter_map(parse_line)
        .collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    let (major, minor) = std::str::from_utf8(fields.get(2)?).ok()?.split_once(':')?;
    let separator = fields.iter().position(|&field| field == b"-")?;
    let options = String::from_utf8_lossy(fields.get(separator + 3).copied().unwrap_or_default());
    Some(Mount {
        device: DeviceNumber {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
        },
        mountpoint: PathBuf::from(OsString::from_vec(unescape(fields.get(4)?))),
        filesystem_type: String::from_utf8_lossy(fields.get(separator + 1)?).into_owned(),
        owner: options
            .split(',')
            .find_map(|option| option.strip_prefix("user_id=")?.parse().ok())
            .unwrap_or(0),
    })
}

/// The kernel writes space, tab, newline and backslash as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(escaped) if byte == b'\\' => {
                bytes.push(escaped);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
        36 22 0:45 / /mnt/my\\040ram\\134 rw,nosuid,nodev shared:7 master:2 - fuse.okapi okapi rw,user_id=1000,group_id=100\n\
        37 22 0:46 / /mnt/x rw - tmpfs tmpfs rw\n\
        38 22 0:47 / /mnt/x rw - fuse.okapi a\\040b rw,user_id=0,group_id=0,allow_other\n\
        garbage\n";

    #[test]
    fn the_table_of_mounts_is_understood() {
        let mounts = parse(TABLE);
        assert_eq!(mounts.len(), 4);
        assert_eq!(
            mounts[1],
            Mount {
                device: DeviceNumber { major: 0, minor: 45 },
                mountpoint: r"/mnt/my ram\".into(),
                filesystem_type: "fuse.okapi".into(),
                owner: 1000,
            }
        );
        assert!(mounts[1].is_ours() && !mounts[2].is_ours() && mounts[3].is_ours());
    }

    #[test]
    fn one_drive_needs_no_name_and_two_do() {
        let mounts = parse(TABLE);
        assert!(only_drive(mounts[..1].to_vec()).is_err());
        assert_eq!(
            only_drive(mounts[..3].to_vec()).expect("one of them is ours"),
            mounts[1]
        );
        let error = only_drive(mounts).expect_err("two of them are ours").to_string();
        assert!(error.contains(r"/mnt/my ram\, /mnt/x"), "{error}");
    }

    #[test]
    fn escapes_that_are_none_stay() {
        assert_eq!(unescape(br"a\04"), br"a\04");
        assert_eq!(unescape(br"\011\012\"), b"\t\n\\");
    }
}
