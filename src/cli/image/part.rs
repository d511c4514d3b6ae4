//! A file that is made aside and gets its name when it is whole; of one that is not nothing stays.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use nix::sys::signal::{SigSet, Signal};
use parking_lot::Mutex;
use rustix::fs::{
    AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags, flock, linkat, openat, renameat,
    renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use super::super::outcome::complain;
use super::directory::{Directory, failed};
use crate::error::{Error, ErrorKind, Result};

/// Files made aside at a time by processes of one number, each in a namespace of its own.
const TRIES: u32 = 100;
/// Permission bits that a file for bytes can have.
const BITS: u32 = 0o666;
/// Those that its owner needs to use it as a disk.
const OWNER_BITS: u32 = 0o600;

/// A file without its name yet.
pub(super) struct Part {
    /// Locked as long as somebody works on it, so that what a killed process has left can be told.
    pub(super) file: File,
    directory: Directory,
    aside: String,
    name: OsString,
    /// Whether the file has its name. Held while it gets it, so that a signal comes before that or behind it.
    is_named: Arc<Mutex<bool>>,
}

impl Part {
    /// Makes an empty file beside `path`, under a name that begins with a dot. SIGINT, SIGTERM and SIGHUP remove it and end
    /// the process from now on.
    ///
    /// Others than its owner may do with it what `mode` allows them, less what the umask forbids; where it is to replace a
    /// file, no more than they may do with that.
    pub(super) fn create(path: &Path, force: bool, mode: u32) -> Result<Self> {
        Self::create_in(Directory::above(path)?, path, force, mode)
    }

    /// The same in a directory that is open, for the last part of `path`.
    pub(super) fn create_in(directory: Directory, path: &Path, force: bool, mode: u32) -> Result<Self> {
        let Some(name) = path.file_name() else {
            let context = format!("{} is no name for a file", path.display());
            return Err(Error::new(ErrorKind::InvalidArgument, context));
        };
        let most = check_free(&directory, name, force)?;
        let mode = Mode::from_raw_mode(mode & most & BITS | OWNER_BITS);
        let signals = blocked_signals()?;
        for number in 0..TRIES {
            let aside = format!(".{}-{number}.part", std::process::id());
            let made = create_locked(&directory, &aside, mode);
            let made = made.map_err(|source| failed("cannot make a file in", &directory.path, source))?;
            if let Some(file) = made {
                let part = Self {
                    file,
                    directory,
                    aside,
                    name: name.to_owned(),
                    is_named: Arc::default(),
                };
                part.remove_on(signals)?;
                return Ok(part);
            }
        }
        let context = format!("{} is full of unfinished files", directory.path.display());
        Err(Error::new(ErrorKind::Exists, context))
    }

    /// Gives the file its name, in the place of one that has it where `force`.
    pub(super) fn finish(self, force: bool) -> Result<()> {
        self.file
            .sync_all()
            .map_err(|source| failed("cannot write", &self.path(), source))?;
        self.rename(force)?;
        // The name is there; only whether it outlives a loss of power is not known where this fails.
        let _ = self
            .directory
            .readable()
            .and_then(|directory| directory.sync_all());
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.directory.path.join(&self.name)
    }

    fn rename(&self, force: bool) -> Result<()> {
        let mut is_named = self.is_named.lock();
        let (directory, aside, name) = (&self.directory, self.aside.as_str(), self.name.as_os_str());
        let renamed = match force {
            true => renameat(directory, aside, directory, name),
            false => renameat_with(directory, aside, directory, name, RenameFlags::NOREPLACE),
        };
        let renamed = match renamed {
            // Filesystems without the flag: a link takes no name that is taken either.
            Err(Errno::INVAL) if !force => linkat(directory, aside, directory, name, AtFlags::empty())
                .map(|()| unlinkat(directory, aside, AtFlags::empty()).unwrap_or_default()),
            renamed => renamed,
        };
        renamed.map_err(|errno| match errno {
            Errno::EXIST => taken(&self.path()),
            errno => failed("cannot make", &self.path(), errno.into()),
        })?;
        *is_named = true;
        Ok(())
    }

    /// Removes the file and ends the process at a signal, also where the rest of it waits for a pipe.
    fn remove_on(&self, signals: SigSet) -> Result<()> {
        let (directory, aside, path) = (self.directory.clone(), self.aside.clone(), self.path());
        let is_named = Arc::clone(&self.is_named);
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                let Ok(signal) = signals.wait() else {
                    return;
                };
                // Kept to the end, so that the file does not get its name behind the message.
                let is_named = is_named.lock();
                match *is_named {
                    true => complain(&format_args!("ended by {signal}: {} is whole", path.display())),
                    false => {
                        let _ = unlinkat(&directory, aside.as_str(), AtFlags::empty());
                        complain(&format_args!("ended by {signal}: nothing is left of it"));
                    }
                }
                std::process::exit(128 + signal as i32);
            })
            .map(drop)
            .map_err(|source| Error::new(ErrorKind::NoMemory, "cannot start a thread").with_source(source))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !*self.is_named.lock() {
            let _ = unlinkat(&self.directory, self.aside.as_str(), AtFlags::empty());
        }
    }
}

/// Removes what processes have left in a directory that were killed.
pub(super) fn sweep(directory: &Directory) -> Result<()> {
    let unread = |source| failed("cannot read", &directory.path, source);
    let readable = directory.readable().map_err(unread)?;
    for entry in Dir::read_from(readable).map_err(|errno| unread(errno.into()))? {
        let entry = entry.map_err(|errno| unread(errno.into()))?;
        let name = entry.file_name();
        if !name.to_str().is_ok_and(is_part_name) {
            continue;
        }
        // Whoever still works on it has it locked; another one may be sweeping too.
        let name = OsStr::from_bytes(name.to_bytes());
        if let Ok(Some(file)) = directory.regular_file(name)
            && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            let _ = unlinkat(directory, name, AtFlags::empty());
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
fn create_locked(directory: &Directory, aside: &str, mode: Mode) -> io::Result<Option<File>> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = match openat(directory, aside, flags, mode) {
        Err(Errno::EXIST) => return Ok(None),
        made => File::from(made?),
    };
    // Where a filesystem knows no locks nobody can sweep either.
    if flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
        return Ok(None);
    }
    let links = file.metadata()?.nlink();
    Ok((links > 0).then_some(file))
}

/// Refuses a name that is taken, but for a regular file that is to be replaced. Returns the permission bits that a new
/// file may have.
fn check_free(directory: &Directory, name: &OsStr, force: bool) -> Result<u32> {
    let path = directory.path.join(name);
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) if FileType::from_raw_mode(there.st_mode) != FileType::RegularFile => Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "{} is there already, and no regular file\nhint: choose another name",
                path.display()
            ),
        )),
        Ok(_) if !force => Err(taken(&path)),
        Ok(there) => Ok(there.st_mode),
        Err(Errno::NOENT) => Ok(BITS),
        Err(errno) => Err(failed("cannot look at", &path, errno.into())),
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Part, ignored_of, is_part_name};

    #[test]
    fn what_has_the_place_of_a_file_that_got_its_name_stays() {
        let directory = std::env::temp_dir().join(format!("okapi-part-{}", std::process::id()));
        fs::create_dir(&directory).expect("a directory of our own");
        let name = directory.join("name");
        let part = Part::create(&name, false, 0o600).expect("the directory is empty");
        let aside = directory.join(&part.aside);
        part.rename(false).expect("the name is free");
        fs::write(&aside, "another's").expect("the name aside is free again");
        drop(part);
        assert!(aside.exists() && name.exists());
        let unnamed = Part::create(&directory.join("other"), false, 0o600).expect("that name is free too");
        let its_aside = directory.join(&unnamed.aside);
        assert!(its_aside.exists() && its_aside != aside);
        drop(unnamed);
        assert!(!its_aside.exists());
        fs::remove_dir_all(&directory).expect("our own directory");
    }

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
