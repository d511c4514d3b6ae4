//! `okapi doctor`: what this host has of that which drives need, and how to get the rest.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use clap::Args;
use nix::unistd::geteuid;

use super::mounts::{self, Mount};
use super::outcome::{Failure, Outcome, print};
use crate::error::{Error, ErrorKind};
use crate::serve::fuse::{Host, URING_SWITCH, enable_uring, uring_switch};

/// The helper that mount(8) runs for `mount -t fuse.okapi` and lines of fstab.
const MOUNT_HELPER: &str = "/sbin/mount.fuse.okapi";
/// Where root lets other users mount for all.
const FUSE_CONFIG: &str = "/etc/fuse.conf";

/// Tell what this machine offers to drives, and how to get what is missing
///
/// Changes nothing, unless asked to by --enable-uring. Exits with 1 where no drive can be mounted.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Switch FUSE over io_uring on in the kernel (as root), for drives that are mounted from now on
    ///
    /// It lasts until the kernel's module `fuse` is loaded afresh, at the next boot as a rule.
    #[arg(long)]
    enable_uring: bool,
}

/// How it stands with one thing.
enum Finding {
    Good(String),
    /// Drives work without; how to get it.
    Lacking {
        what: String,
        cure: String,
    },
    /// No drive works without.
    Missing(String),
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    if arguments.enable_uring {
        switch_uring_on()?;
    }
    let findings = examine();
    let mut text = String::new();
    for (name, finding) in &findings {
        let (mark, what, cure) = match finding {
            Finding::Good(what) => ("ok", what, None),
            Finding::Lacking { what, cure } => ("--", what, Some(cure)),
            Finding::Missing(what) => ("!!", what, None),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{mark}  {name:<11} {}",
            what.replace('\n', "\n                ")
        );
        if let Some(cure) = cure {
            let _ = writeln!(text, "                hint: {cure}");
        }
    }
    print(text)?;
    match findings
        .iter()
        .any(|(_, finding)| matches!(finding, Finding::Missing(_)))
    {
        true => Err(Failure::Reported(1)),
        false => Ok(()),
    }
}

fn examine() -> Vec<(&'static str, Finding)> {
    let host = Host::look();
    let mut findings = vec![
        ("device", device(&host)),
        ("fusermount3", helper(&host)),
        ("io_uring", uring(&host)),
        ("allow_other", allow_other()),
        ("mount(8)", mount_helper()),
    ];
    findings.extend(dead_drives().map(|finding| ("drives", finding)));
    findings
}

fn device(host: &Host) -> Finding {
    match (&host.device, &host.helper) {
        (Ok(()), _) => Finding::Good("/dev/fuse can be opened".into()),
        (Err(_), Ok(())) if !geteuid().is_root() => {
            Finding::Good("fusermount3 opens /dev/fuse for you".into())
        }
        (Err(reason), _) => Finding::Missing(reason.clone()),
    }
}

fn helper(host: &Host) -> Finding {
    match &host.helper {
        Ok(()) => Finding::Good("users other than root can mount".into()),
        Err(reason) if geteuid().is_root() => {
            let what = reason.lines().next().unwrap_or_default().to_owned();
            let cure = "install the package fuse3 if others shall mount".into();
            Finding::Lacking { what, cure }
        }
        Err(reason) => Finding::Missing(reason.clone()),
    }
}

fn uring(host: &Host) -> Finding {
    match &host.uring {
        Ok(()) => Finding::Good("requests come over io_uring".into()),
        Err(reason) => Finding::Lacking {
            what: format!("drives use the classic device: {reason}"),
            cure: match uring_switch() {
                None => "boot Linux 6.14 or later with CONFIG_FUSE_IO_URING; `modprobe fuse` where FUSE is a module".into(),
                Some(false) => "as root: `okapi doctor --enable-uring`; for each boot: \
                     `echo options fuse enable_uring=1 > /etc/modprobe.d/okapi.conf`, \
                     or fuse.enable_uring=1 on the kernel's command line"
                    .into(),
                Some(true) => "`sysctl kernel.io_uring_disabled=0`; a container may need a seccomp profile with io_uring".into(),
            },
        },
    }
}

fn allow_other() -> Finding {
    let config = fs::read_to_string(FUSE_CONFIG).unwrap_or_default();
    if config.lines().any(|line| line.trim() == "user_allow_other") {
        return Finding::Good("drives of users other than root may let others in".into());
    }
    Finding::Lacking {
        what: "only root's drives may let others in".into(),
        cure: format!("as root: `echo user_allow_other >> {FUSE_CONFIG}`"),
    }
}

fn mount_helper() -> Finding {
    if Path::new(MOUNT_HELPER).exists() {
        return Finding::Good(format!("{MOUNT_HELPER} serves mount(8) and fstab"));
    }
    Finding::Lacking {
        what: format!("there is no {MOUNT_HELPER}, so mount(8) and fstab cannot mount drives"),
        cure: "scripts/install makes it".into(),
    }
}

/// Mounts whose program was killed.
fn dead_drives() -> Option<Finding> {
    let dead: Vec<String> = mounts::all()
        .unwrap_or_default()
        .iter()
        .filter(|mount| mount.is_ours() && mount.owner == geteuid().as_raw() && mount.connect().is_err())
        .map(|mount: &Mount| mount.mountpoint.display().to_string())
        .collect();
    let first = dead.first()?;
    Some(Finding::Lacking {
        what: format!("mounted, but without a program that answers: {}", dead.join(", ")),
        cure: format!("`okapi umount {first}` clears a killed drive away"),
    })
}

fn switch_uring_on() -> Outcome {
    match uring_switch() {
        Some(true) => return print("FUSE over io_uring is switched on already\n"),
        Some(false) => {}
        None => {
            let context = "this kernel has no FUSE over io_uring\nhint: Linux 6.14 brought it; `modprobe fuse` where FUSE is a module";
            return Err(Failure::failed(ErrorKind::NotSupported, context));
        }
    }
    enable_uring().map_err(|source| {
        let context =
            format!("cannot switch FUSE over io_uring on\nhint: as root, with {URING_SWITCH} writable");
        Error::new(ErrorKind::NotPermitted, context).with_source(source)
    })?;
    print(format!(
        "{URING_SWITCH} is Y now: drives mounted from now on use io_uring\n"
    ))
}
