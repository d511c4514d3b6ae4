//! Timestamps: range and resolution, what sets which, and relatime.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use super::{chmod, file, on_both, open_rw};

type Time = (i64, i64);

fn atime(path: &Path) -> Time {
    let stat = fs::symlink_metadata(path).unwrap();
    (stat.atime(), stat.atime_nsec())
}

fn mtime(path: &Path) -> Time {
    let stat = fs::symlink_metadata(path).unwrap();
    (stat.mtime(), stat.mtime_nsec())
}

fn ctime(path: &Path) -> Time {
    let stat = fs::symlink_metadata(path).unwrap();
    (stat.ctime(), stat.ctime_nsec())
}

fn set(path: &Path, atime: Time, mtime: Time) {
    let [atime, mtime] = [atime, mtime].map(|(secs, nanos)| TimeSpec::new(secs, nanos));
    utimensat(AT_FDCWD, path, &atime, &mtime, UtimensatFlags::NoFollowSymlink).unwrap();
}

/// Longer than the granularity of any kernel's clock for files.
fn tick() {
    sleep(Duration::from_millis(20));
}

/// Which of (mtime, ctime) `change` moves forward.
fn moved(path: &Path, change: impl FnOnce()) -> (bool, bool) {
    let before = (mtime(path), ctime(path));
    tick();
    change();
    (mtime(path) > before.0, ctime(path) > before.1)
}

#[test]
fn times_before_1970_and_after_2038_keep_their_nanoseconds() {
    on_both(|dir| {
        let a = file(dir.join("a"), b"");
        symlink("x", dir.join("link")).unwrap();
        for path in [a.as_path(), &dir.join("link"), dir] {
            for secs in [-86_400 * 365, -1, 0, 1, i64::from(i32::MAX) + 1, 1 << 33] {
                for nanos in [0, 1, 123_456_789, 999_999_999] {
                    set(path, (secs, nanos), (secs + 1, nanos));
                    assert_eq!((atime(path), mtime(path)), ((secs, nanos), (secs + 1, nanos)));
                }
            }
        }
    });
}

#[test]
fn setting_times_can_omit_one_and_take_now() {
    on_both(|dir| {
        let a = file(dir.join("a"), b"");
        set(&a, (10, 10), (20, 20));
        set(&a, (0, libc::UTIME_OMIT), (30, 30));
        assert_eq!((atime(&a), mtime(&a)), ((10, 10), (30, 30)));
        set(&a, (40, 40), (0, libc::UTIME_OMIT));
        assert_eq!((atime(&a), mtime(&a)), ((40, 40), (30, 30)));
        tick();
        let b = file(dir.join("b"), b"");
        tick();
        set(&a, (0, libc::UTIME_NOW), (0, libc::UTIME_NOW));
        assert!(atime(&a) > mtime(&b) && mtime(&a) > mtime(&b));
        let (_, changed) = moved(&a, || set(&a, (1, 1), (1, 1)));
        assert!(changed, "ctime cannot be set");
    });
}

#[test]
fn changes_of_a_file_move_its_times() {
    on_both(|dir| {
        let a = file(dir.join("a"), b"text");
        let open = open_rw(&a);
        assert_eq!(
            moved(&a, || (&open).write_all(b"x").unwrap()),
            (true, true),
            "write"
        );
        assert_eq!(moved(&a, || open.set_len(1).unwrap()), (true, true), "cut");
        assert_eq!(
            moved(&a, || drop(File::create(&a).unwrap())),
            (true, true),
            "open that cuts"
        );
        assert_eq!(moved(&a, || chmod(&a, 0o600)), (false, true), "chmod");
        assert_eq!(
            moved(&a, || fs::hard_link(&a, dir.join("b")).unwrap()),
            (false, true),
            "link"
        );
        assert_eq!(
            moved(&a, || fs::remove_file(dir.join("b")).unwrap()),
            (false, true),
            "unlink"
        );
        assert_eq!(moved(&a, || drop(fs::read(&a).unwrap())), (false, false), "read");
        let renamed = dir.join("c");
        fs::hard_link(&a, &renamed).unwrap();
        assert!(
            !moved(&renamed, || fs::rename(&a, dir.join("d")).unwrap()).0,
            "rename"
        );
    });
}

#[test]
fn changes_of_entries_move_the_times_of_their_directories() {
    on_both(|dir| {
        let sub = dir.join("sub");
        fs::create_dir(&sub).unwrap();
        let a = dir.join("a");
        assert_eq!(moved(dir, || drop(file(a.clone(), b""))), (true, true), "create");
        assert_eq!(
            moved(dir, || fs::hard_link(&a, dir.join("b")).unwrap()),
            (true, true),
            "link"
        );
        assert_eq!(
            moved(dir, || fs::remove_file(dir.join("b")).unwrap()),
            (true, true),
            "unlink"
        );
        assert_eq!(
            moved(dir, || symlink("x", dir.join("l")).unwrap()),
            (true, true),
            "symlink"
        );
        assert_eq!(
            moved(dir, || fs::create_dir(dir.join("d")).unwrap()),
            (true, true),
            "mkdir"
        );
        assert_eq!(
            moved(dir, || fs::remove_dir(dir.join("d")).unwrap()),
            (true, true),
            "rmdir"
        );
        let target = sub.join("a");
        let from = moved(dir, || {
            let to = moved(&sub, || fs::rename(&a, &target).unwrap());
            assert_eq!(to, (true, true), "rename into");
        });
        assert_eq!(from, (true, true), "rename out of");
        assert_eq!(
            moved(dir, || open_rw(&target).write_all(b"x").unwrap()),
            (false, false),
            "write below"
        );
        assert_eq!(moved(dir, || chmod(dir, 0o700)), (false, true), "chmod");
    });
}

#[test]
fn a_mapped_write_moves_the_times() {
    on_both(|dir| {
        let a = file(dir.join("a"), &[1; 4096]);
        let mut map = fs_tests::sys::Mapping::new(open_rw(&a), 0, 4096, true).unwrap();
        let times = moved(&a, || {
            map.write(0, b"x");
            map.sync().unwrap();
        });
        assert_eq!(times, (true, true));
    });
}

#[test]
fn reading_sets_the_access_time_as_relatime_asks() {
    on_both(|dir| {
        let read = |path: &Path| {
            let mut byte = [0];
            File::open(path).unwrap().read_exact(&mut byte).unwrap();
        };
        // older than the last change: set
        let a = file(dir.join("a"), b"text");
        set(&a, (1000, 0), (2000, 0));
        tick(); // setting them was a change, too
        read(&a);
        let first = atime(&a);
        assert!(first > (2000, 0), "{first:?}");
        // newer than the last change and not a day old: left alone
        tick();
        read(&a);
        assert_eq!(atime(&a), first);
    });
}
