//! A file that is made aside and gets its name when it is whole; of one that is not nothing stays.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::signal::{SigSet, Signal};
use rustix::fs::{FlockOperation, flock};

use super::super::outcome::complain;
use crate::error::{Error, ErrorKind, Result};

/// Files made aside at a time by processes of one number, each in a namespace of its own.
const TRIES: u32 = 100;

/// A file without its name yet.
pub(super) struct Part {
    /// Locked as long as somebody works on it, so that what a killed process has left can be told.
    pub(super) file: File,
    aside: PathBuf,
    name: PathBuf,
}

impl Part {
    /// Makes an empty file beside `name`, under a name that begins with a dot. SIGINT, SIGTERM and SIGHUP remove it and end
    /// the process from now on.
    pub(super) fn create(name: &Path, force: bool) -> Result<Self> {
        check_free(name, force)?;
        let directory = match name.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let signals = blocked_signals()?;
        for number in 0..TRIES {
            let aside = directory.join(format!(".{}-{number}.part", std::process::id()));
            let made = create_locked(&aside);
            if let Some(file) = made.map_err(|source| failed("cannot make a file in", directory, source))? {
                remove_on(signals, aside.clone())?;
                let name = name.to_path_buf();
                return Ok(Self { file, aside, name });
            }
        }
        let context = format!("{} is full of unfinished files", directory.display());
        Err(Error::new(ErrorKind::Exists, context))
    }

    /// Gives the file its name, in the place of one that has it where `force`.
    pub(super) fn finish(self, force: bool) -> Result<()> {
        self.file
            .sync_all()
            .map_err(|source| failed("cannot write", &self.name, source))?;
        self.rename(force)?;
        let parent = self.name.parent().filter(|parent| !parent.as_os_str().is_empty());
        // The name is there; only whether it outlives a loss of power is not known where this fails.
        if let Ok(directory) = File::open(parent.unwrap_or(Path::new("."))) {
            let _ = directory.sync_all();
        }
        Ok(())
    }

    fn rename(&self, force: bool) -> Result<()> {
        let flags = match force {
            true => RenameFlags::empty(),
            false => RenameFlags::RENAME_NOREPLACE,
        };
        match renameat2(AT_FDCWD, &self.aside, AT_FDCWD, &self.name, flags) {
            Ok(()) => Ok(()),
            Err(Errno::EEXIST) => Err(taken(&self.name)),
            // Filesystems without the flag: a link takes no name that is taken either.
            Err(Errno::EINVAL) if !force => match fs::hard_link(&self.aside, &self.name) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(taken(&self.name)),
                linked => linked.map_err(|source| failed("cannot make", &self.name, source)),
            },
            Err(errno) => Err(failed("cannot make", &self.name, errno.into())),
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It has gone where it has its name.
        let _ = fs::remove_file(&self.aside);
    }
}

/// Removes what processes have left in a directory that were killed.
pub(super) fn sweep(directory: &Path) -> Result<()> {
    let unread = |source| failed("cannot read", directory, source);
    for entry in fs::read_dir(directory).map_err(unread)? {
        let entry = entry.map_err(unread)?;
        let name = entry.file_name();
        let is_part = name.to_str().is_some_and(is_part_name);
        if !is_part || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        // Whoever still works on it has it locked; another one may be sweeping too.
        if let Ok(file) = File::open(entry.path())
            && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Whether a name is `.NUMBER-NUMBER.part`.
fn is_part_name(name: &str) -> bool {
    let numbers = name.strip_prefix('.').and_then(|name| name.strip_suffix(".part"));
    let parts = numbers.and_then(|numbers| numbers.split_once('-'));
    parts.is_some_and(|(process, number)| [process, number].iter().all(|part| part.parse::<u32>().is_ok()))
}

/// Makes a file and locks it; `None` where there is one, or somebody swept it before it was locked.
fn create_locked(aside: &Path) -> io::Result<Option<File>> {
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    let file = match options.open(aside) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        made => made?,
    };
    // Where a filesystem knows no locks nobody can sweep either.
    let locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
    if locked == Err(rustix::io::Errno::WOULDBLOCK) {
        return Ok(None);
    }
    let links = file.metadata()?.nlink();
    Ok((links > 0).then_some(file))
}

/// Refuses a name that is taken, but for a regular file that is to be replaced.
fn check_free(name: &Path, force: bool) -> Result<()> {
    match fs::symlink_metadata(name) {
        Ok(metadata) if !metadata.is_file() => Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "{} is there already, and no regular file\nhint: choose another name",
                name.display()
            ),
        )),
        Ok(_) if !force => Err(taken(name)),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(failed("cannot look at", name, source)),
    }
}

fn taken(name: &Path) -> Error {
    Error::new(
        ErrorKind::Exists,
        format!(
            "{} is there already\nhint: choose another name, or replace it with --force",
            name.display()
        ),
    )
}

pub(super) fn failed(what: &str, path: &Path, source: io::Error) -> Error {
    let kind = match source.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::NotADirectory => ErrorKind::NotDirectory,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
        _ => ErrorKind::AccessDenied,
    };
    Error::new(kind, format!("{what} {}", path.display())).with_source(source)
}

/// Those that would end the process; what nohup(1) or a shell has it ignore, it goes on ignoring.
fn blocked_signals() -> Result<SigSet> {
    let ignored = fs::read_to_string("/proc/self/status").map_or(0, |status| ignored_of(&status));
    let ending = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];
    let heeded = |signal: &Signal| ignored >> (*signal as i32 - 1) & 1 == 0;
    let signals = SigSet::from_iter(ending.into_iter().filter(heeded));
    signals
        .thread_block()
        .map_err(|source| Error::new(ErrorKind::NotPermitted, "cannot block signals").with_source(source))?;
    Ok(signals)
}

/// The line `SigIgn: 0000000000001000` of proc_pid_status(5): a bit for each signal from the first on.
fn ignored_of(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

/// Removes a file and ends the process at a signal, also where the rest of it waits for a pipe.
fn remove_on(signals: SigSet, aside: PathBuf) -> Result<()> {
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let Ok(signal) = signals.wait() else {
                return;
            };
            let _ = fs::remove_file(&aside);
            complain(&format_args!("ended by {signal}: nothing is left of it"));
            std::process::exit(128 + signal as i32);
        })
        .map(drop)
        .map_err(|source| Error::new(ErrorKind::NoMemory, "cannot start a thread").with_source(source))
}

#[cfg(test)]
mod tests {
    use super::{ignored_of, is_part_name};

    #[test]
    fn unfinished_files_are_told_by_their_names() {
        assert!(is_part_name(".17-0.part") && is_part_name(".1-99.part"));
        for name in [
            "17-0.part",
            ".17.part",
            ".a-0.part",
            ".17-0.part2",
            ".17--0.part",
            ".part",
            ".-.part",
        ] {
            assert!(!is_part_name(name), "{name}");
        }
    }
    #[test]
    fn ignored_signals_are_read_from_the_status() {
        assert_eq!(
            ignored_of("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"),
            0x1001
        );
        assert_eq!(ignored_of("Name:\tx\n"), 0);
    }
}
