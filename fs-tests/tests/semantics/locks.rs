//! Advisory locks: flock(2), fcntl(2) and those of open file descriptions.

use std::fs::File;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};

use super::{file, on_both, open_rw};

/// A lock of bytes `start..start + len`.
fn lock(kind: i32, start: i64, len: i64) -> libc::flock {
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: start,
        l_len: len,
        l_pid: 0,
    }
}

fn set(file: &File, kind: i32, start: i64, len: i64) -> Result<(), Errno> {
    fcntl(file, FcntlArg::F_OFD_SETLK(&lock(kind, start, len))).map(drop)
}

fn two(path: &Path) -> (File, File) {
    (open_rw(path), open_rw(path))
}

#[test]
fn flock_excludes_other_open_files() {
    on_both(|dir| {
        let (first, second) = two(&file(dir.join("a"), b""));
        let held = Flock::lock(first, FlockArg::LockExclusiveNonblock).unwrap();
        let (second, errno) = Flock::lock(second, FlockArg::LockSharedNonblock).unwrap_err();
        assert_eq!(errno, Errno::EWOULDBLOCK);
        drop(held);
        assert!(Flock::lock(second, FlockArg::LockExclusiveNonblock).is_ok());
    });
}

#[test]
fn locks_of_ranges_exclude_where_they_overlap() {
    on_both(|dir| {
        let (first, second) = two(&file(dir.join("a"), &[0; 100]));
        assert_eq!(set(&first, libc::F_WRLCK, 10, 10), Ok(()));
        assert_eq!(set(&second, libc::F_WRLCK, 0, 10), Ok(()));
        assert_eq!(set(&second, libc::F_RDLCK, 19, 1), Err(Errno::EAGAIN));
        assert_eq!(set(&second, libc::F_WRLCK, 20, 0), Ok(()));
        assert_eq!(set(&first, libc::F_UNLCK, 10, 10), Ok(()));
        assert_eq!(set(&second, libc::F_RDLCK, 19, 1), Ok(()));
        assert_eq!(set(&first, libc::F_RDLCK, 19, 1), Ok(()));
    });
}

#[test]
fn a_lock_of_a_process_meets_those_of_open_files() {
    on_both(|dir| {
        let (first, second) = two(&file(dir.join("a"), &[0; 100]));
        assert_eq!(set(&first, libc::F_WRLCK, 0, 0), Ok(()));
        let refused = fcntl(&second, FcntlArg::F_SETLK(&lock(libc::F_RDLCK, 5, 1)));
        assert_eq!(refused, Err(Errno::EAGAIN));
        let mut asked = lock(libc::F_RDLCK, 5, 1);
        fcntl(&second, FcntlArg::F_GETLK(&mut asked)).unwrap();
        assert_eq!(i32::from(asked.l_type), libc::F_WRLCK);
        drop(first);
        assert!(fcntl(&second, FcntlArg::F_SETLK(&lock(libc::F_RDLCK, 5, 1))).is_ok());
    });
}
