//! Mounting and unmounting: by system call for root, by fusermount3 for everybody else.
//!
//! fuser has this too, but unmounts by path once more when its session ends, which may hit another filesystem that
//! lies beneath or was mounted since; and it needs to open /dev/fuse itself where only fusermount3 may.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};
use nix::unistd::{getegid, geteuid};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::transport::Transport;
use crate::error::{Error, ErrorKind, Result};

/// The type of our mounts, as /proc/self/mountinfo shows it.
pub const FILESYSTEM_TYPE: &str = "fuse.okapi";

const DEVICE: &str = "/dev/fuse";
const HELPER: &str = "fusermount3";
/// Tells the helper on which descriptor it shall hand over the device.
const HELPER_SOCKET: &str = "_FUSE_COMMFD";

/// How a filesystem is mounted.
#[derive(Clone, Debug)]
pub struct MountConfig {
    /// An existing directory, as an absolute path.
    pub mountpoint: PathBuf,
    /// What mount(8) and df(1) show as the source.
    pub source: String,
    /// Refuse every change.
    pub read_only: bool,
    /// Let other users in; permission bits decide what they may do.
    pub allow_other: bool,
    /// Honour set-user-ID and set-group-ID bits and file capabilities of programs.
    pub suid: bool,
    /// Honour device nodes.
    pub dev: bool,
    /// Run programs.
    pub exec: bool,
    /// By what the requests shall come.
    pub transport: Transport,
}

/// When a filesystem goes that is being unmounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detach {
    /// At once, or not at all where it is in use.
    WhenIdle,
    /// From the tree at once, for its present users when they let go (MNT_DETACH).
    Lazy,
}

/// Mounts; returns the descriptor on which the kernel sends its requests.
pub(super) fn mount(config: &MountConfig) -> Result<OwnedFd> {
    if geteuid().is_root() {
        mount_by_call(config)
    } else {
        mount_by_helper(config)
    }
}

/// Whether /dev/fuse can be used; the reason where not.
pub(super) fn probe_device() -> Result<(), String> {
    open_device()
        .map(drop)
        .map_err(|source| no_device(source).to_string())
}

/// Whether fusermount3 can be run.
pub(super) fn probe_helper() -> Result<()> {
    Command::new(HELPER)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map(drop)
        .map_err(no_helper)
}

/// Unmounts what was last mounted on `mountpoint`, which is an absolute path.
///
/// # Errors
/// `Busy` where a file is open or a directory is in use, `NotPermitted`, `NotFound` without fusermount3,
/// `InvalidArgument` where nothing is mounted there.
pub fn unmount(mountpoint: &Path, detach: Detach) -> Result<()> {
    let flags = match detach {
        Detach::WhenIdle => MntFlags::UMOUNT_NOFOLLOW,
        Detach::Lazy => MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH,
    };
    let place = mountpoint.display();
    match nix::mount::umount2(mountpoint, flags) {
        Ok(()) => Ok(()),
        Err(Errno::EPERM) if !geteuid().is_root() => unmount_by_helper(mountpoint, detach),
        Err(Errno::EBUSY) => Err(busy(mountpoint)),
        Err(Errno::EINVAL) => Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("{place} is not mounted"),
        )),
        Err(other) => {
            Err(Error::new(ErrorKind::NotPermitted, format!("cannot unmount {place}")).with_source(other))
        }
    }
}

/// Opens the FUSE device, which some systems leave to root and fusermount3.
pub(super) fn open_device() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(DEVICE)
}

fn mount_by_call(config: &MountConfig) -> Result<OwnedFd> {
    let device = open_device().map_err(no_device)?;
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions",
        device.as_raw_fd(),
        geteuid(),
        getegid(),
    );
    if config.allow_other {
        data.push_str(",allow_other");
    }
    nix::mount::mount(
        Some(config.source.as_str()),
        &config.mountpoint,
        Some(FILESYSTEM_TYPE),
        flags(config),
        Some(data.as_str()),
    )
    .map(|()| OwnedFd::from(device))
    .map_err(|errno| refused(config, errno))
}

fn flags(config: &MountConfig) -> MsFlags {
    [
        (config.read_only, MsFlags::MS_RDONLY),
        (!config.suid, MsFlags::MS_NOSUID),
        (!config.dev, MsFlags::MS_NODEV),
        (!config.exec, MsFlags::MS_NOEXEC),
    ]
    .into_iter()
    .filter_map(|(set, flag)| set.then_some(flag))
    .collect()
}

fn no_device(source: io::Error) -> Error {
    let (kind, context) = match source.kind() {
        io::ErrorKind::NotFound => (
            ErrorKind::NotFound,
            "there is no /dev/fuse\nhint: `modprobe fuse`; in a container, start it with `--device /dev/fuse`",
        ),
        _ => (
            ErrorKind::NotPermitted,
            "cannot open /dev/fuse\nhint: a container needs `--device /dev/fuse` and the capability SYS_ADMIN",
        ),
    };
    Error::new(kind, context)
}

fn refused(config: &MountConfig, errno: Errno) -> Error {
    let place = config.mountpoint.display();
    match errno {
        Errno::EPERM | Errno::EACCES => Error::new(
            ErrorKind::NotPermitted,
            format!("mounting on {place} is not permitted\nhint: it needs the capability SYS_ADMIN"),
        ),
        Errno::ENODEV => Error::new(
            ErrorKind::NotSupported,
            "the kernel has no FUSE\nhint: `modprobe fuse`",
        ),
        other => {
            Error::new(ErrorKind::InvalidArgument, format!("cannot mount on {place}")).with_source(other)
        }
    }
}

/// Lets the set-user-ID helper mount, and takes the descriptor that it sends back.
fn mount_by_helper(config: &MountConfig) -> Result<OwnedFd> {
    let failed = |source: io::Error| Error::new(ErrorKind::Corrupt, HELPER).with_source(source);
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    // The socket is the helper's standard input: the one descriptor that a child inherits without more ado.
    let child = Command::new(HELPER)
        .arg("-o")
        .arg(helper_options(config))
        .arg("--")
        .arg(&config.mountpoint)
        .env(HELPER_SOCKET, "0")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(no_helper)?;
    let device = receive_descriptor(&ours);
    let output = child.wait_with_output().map_err(failed)?;
    match device {
        Ok(Some(device)) => Ok(device),
        Ok(None) => Err(helper_refused(config, &output)),
        Err(source) => Err(failed(source)),
    }
}

fn helper_options(config: &MountConfig) -> String {
    let source = config.source.replace('\\', "\\\\").replace(',', "\\,");
    let mut options = format!("fsname={source},subtype=okapi,default_permissions");
    for (set, option) in [
        (config.allow_other, ",allow_other"),
        (config.read_only, ",ro"),
        (!config.exec, ",noexec"),
        // The helper sets nosuid and nodev itself, and lets nobody but root drop them.
    ] {
        if set {
            options.push_str(option);
        }
    }
    options
}

fn receive_descriptor(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut bytes = [IoSliceMut::new(&mut byte)];
    loop {
        match recvmsg(socket, &mut bytes, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(_) => break,
        }
    }
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    }))
}

fn no_helper(source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::NotFound => Error::new(
            ErrorKind::NotFound,
            "there is no fusermount3, which mounts for users other than root\n\
             hint: install the package fuse3, or run as root",
        ),
        _ => Error::new(ErrorKind::NotPermitted, "cannot run fusermount3").with_source(source),
    }
}

fn helper_refused(config: &MountConfig, output: &Output) -> Error {
    let text = helper_text(output);
    let hint = if text.contains("user_allow_other") {
        "\nhint: root can add the line `user_allow_other` to /etc/fuse.conf"
    } else if text.contains("/dev/fuse: Permission denied") {
        "\nhint: root can open it to all users, as most systems do: `chmod 666 /dev/fuse`"
    } else {
        ""
    };
    let place = config.mountpoint.display();
    Error::new(
        ErrorKind::NotPermitted,
        format!("cannot mount on {place}: {text}{hint}"),
    )
}

fn unmount_by_helper(mountpoint: &Path, detach: Detach) -> Result<()> {
    let mut command = Command::new(HELPER);
    command.arg("-u");
    if detach == Detach::Lazy {
        command.arg("-z");
    }
    let output = command
        .arg("--")
        .arg(mountpoint)
        .stdin(Stdio::null())
        .output()
        .map_err(no_helper)?;
    if output.status.success() {
        return Ok(());
    }
    let text = helper_text(&output);
    if text.contains("busy") {
        return Err(busy(mountpoint));
    }
    let place = mountpoint.display();
    Err(Error::new(
        ErrorKind::NotPermitted,
        format!("cannot unmount {place}: {text}"),
    ))
}

/// What the helper complained about, in one line.
fn helper_text(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text
        .lines()
        .map(|line| line.trim_start_matches("fusermount3: ").trim())
        .filter(|line| !line.is_empty())
        .collect();
    match lines.is_empty() {
        true => format!("fusermount3 ended with {}", output.status),
        false => lines.join("; "),
    }
}

fn busy(mountpoint: &Path) -> Error {
    let place = mountpoint.display();
    Error::new(
        ErrorKind::Busy,
        format!(
            "{place} is in use by a program\nhint: `fuser -vm {place}` names it; `--lazy` unmounts when it is done"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_with_commas_stays_one_option() {
        let config = MountConfig {
            mountpoint: "/mnt/ram".into(),
            source: r"a,b\c".into(),
            read_only: true,
            allow_other: false,
            suid: false,
            dev: false,
            exec: true,
            transport: Transport::Auto,
        };
        assert_eq!(
            helper_options(&config),
            r"fsname=a\,b\\c,subtype=okapi,default_permissions,ro"
        );
        assert_eq!(
            flags(&config),
            MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV
        );
    }
}
