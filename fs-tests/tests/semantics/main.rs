//! What POSIX and Linux ask of a filesystem, executed: each behaviour on tmpfs first, which shows that the test is
//! right, then on a drive. docs/semantics.md says the same in prose.

#![allow(clippy::unwrap_used)] // a test that cannot go on fails

mod acls;
mod attributes;
mod data;
mod directories;
mod locks;
mod names;
mod nodes;
mod permissions;
mod space;
mod times;

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use fs_tests::harness::{Drive, Place, Tmpfs};
use nix::errno::Errno;

/// Runs a behaviour in a fresh directory of each filesystem.
fn on_both(behaviour: impl Fn(&Path)) {
    on_each(|place| behaviour(&place.path().join("case")));
}

/// As [`on_both`], for the few behaviours in which the two differ.
fn on_each(behaviour: impl Fn(&dyn Place)) {
    let tmpfs = Tmpfs::mount("256M");
    let drive = Drive::mount(&["--size", "256M", "--allow-other", "-o", "dev,suid"]);
    for place in [&tmpfs as &dyn Place, &drive] {
        println!("on {}", place.name());
        let case = place.path().join("case");
        std::fs::create_dir(&case).unwrap();
        chmod(&case, 0o777);
        behaviour(place);
    }
    drive.check();
}

/// The error of a call that must fail.
#[track_caller]
fn error_of<T>(result: io::Result<T>) -> Errno {
    match result {
        Ok(_) => panic!("succeeded, but must fail"),
        Err(error) => Errno::from_raw(error.raw_os_error().expect("the system answered")),
    }
}

#[track_caller]
fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// Permission bits with set-ID bits and sticky bit.
#[track_caller]
fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// A new file with this content.
#[track_caller]
fn file(path: PathBuf, content: &[u8]) -> PathBuf {
    let mut file = File::create_new(&path).unwrap();
    file.write_all(content).unwrap();
    path
}

/// An existing file, open for reading and writing.
#[track_caller]
fn open_rw(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}
