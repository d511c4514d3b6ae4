//! Directories: their entries, the order of a scan, offsets in it, and what a removed one still answers.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use fs_tests::sys::{DirEntry, entries};
use nix::errno::Errno;
use nix::unistd::{Whence, lseek64};

use super::{error_of, file, on_both};

/// Every entry, read with a buffer for few of them.
fn all(dir: &Path) -> Vec<DirEntry> {
    let dir = File::open(dir).unwrap();
    let mut all = Vec::new();
    loop {
        let some = entries(&dir, 512).unwrap();
        if some.is_empty() {
            return all;
        }
        all.extend(some);
    }
}

fn names(entries: &[DirEntry]) -> BTreeSet<String> {
    let names: BTreeSet<_> = entries
        .iter()
        .map(|entry| String::from_utf8_lossy(&entry.name).into_owned())
        .collect();
    assert_eq!(names.len(), entries.len(), "no entry comes twice");
    names
}

#[test]
fn dot_and_dot_dot_are_the_directory_and_its_parent() {
    on_both(|dir| {
        let sub = dir.join("sub");
        fs::create_dir(&sub).unwrap();
        let entries = all(&sub);
        let ino = |name: &str| {
            entries
                .iter()
                .find(|entry| entry.name == name.as_bytes())
                .unwrap()
                .ino
        };
        assert_eq!(ino("."), fs::metadata(&sub).unwrap().ino());
        assert_eq!(ino(".."), fs::metadata(dir).unwrap().ino());
        assert_eq!(
            fs::metadata(sub.join("..")).unwrap().ino(),
            fs::metadata(dir).unwrap().ino()
        );
        // not of a directory that was scanned before its move: the kernel may show what it remembers of that scan
        let (fresh, moved) = (dir.join("fresh"), dir.join("other/moved"));
        fs::create_dir(&fresh).unwrap();
        fs::create_dir(dir.join("other")).unwrap();
        fs::rename(&fresh, &moved).unwrap();
        let parent = all(&moved).iter().find(|entry| entry.name == b"..").unwrap().ino;
        assert_eq!(parent, fs::metadata(dir.join("other")).unwrap().ino());
    });
}

#[test]
fn links_of_a_directory_count_its_subdirectories() {
    on_both(|dir| {
        let nlink = || fs::metadata(dir).unwrap().nlink();
        assert_eq!(nlink(), 2);
        fs::create_dir(dir.join("a")).unwrap();
        fs::create_dir(dir.join("b")).unwrap();
        file(dir.join("c"), b"");
        assert_eq!(nlink(), 4);
        fs::rename(dir.join("a"), dir.join("b/a")).unwrap();
        assert_eq!(nlink(), 3);
        assert_eq!(fs::metadata(dir.join("b")).unwrap().nlink(), 3);
        fs::remove_dir_all(dir.join("b")).unwrap();
        assert_eq!(nlink(), 2);
    });
}

#[test]
fn types_of_entries_are_told() {
    on_both(|dir| {
        file(dir.join("file"), b"");
        fs::create_dir(dir.join("dir")).unwrap();
        std::os::unix::fs::symlink("x", dir.join("link")).unwrap();
        for (name, kind) in [
            ("file", libc::DT_REG),
            ("dir", libc::DT_DIR),
            ("link", libc::DT_LNK),
        ] {
            let found = all(dir)
                .into_iter()
                .find(|entry| entry.name == name.as_bytes())
                .unwrap();
            assert_eq!(found.kind, kind);
        }
    });
}

#[test]
fn a_scan_goes_on_from_any_offset_it_was_given() {
    on_both(|dir| {
        for number in 0..300 {
            file(dir.join(format!("file{number}")), b"");
        }
        let all = all(dir);
        let open = File::open(dir).unwrap();
        for (nth, entry) in all.iter().enumerate().rev().step_by(7) {
            lseek64(&open, entry.next, Whence::SeekSet).unwrap();
            let next = entries(&open, 512).unwrap();
            assert_eq!(
                next.first().map(|next| &next.name),
                all.get(nth + 1).map(|entry| &entry.name)
            );
        }
        lseek64(&open, 0, Whence::SeekSet).unwrap();
        assert_eq!(entries(&open, 512).unwrap()[0].name, b".");
    });
}

#[test]
fn what_stays_is_seen_once_while_others_come_and_go() {
    on_both(|dir| {
        for number in 0..500 {
            file(dir.join(format!("stays{number}")), b"");
            file(dir.join(format!("goes{number}")), b"");
        }
        let open = File::open(dir).unwrap();
        let mut seen = Vec::new();
        for round in 0.. {
            let some = entries(&open, 1024).unwrap();
            if some.is_empty() {
                break;
            }
            seen.extend(some);
            if round < 500 {
                fs::remove_file(dir.join(format!("goes{round}"))).unwrap();
                file(dir.join(format!("comes{round}")), b"");
            }
        }
        let seen = names(&seen);
        let stayed = seen.iter().filter(|name| name.starts_with("stays")).count();
        assert_eq!(stayed, 500);
    });
}

#[test]
fn removing_while_reading_leaves_nothing() {
    on_both(|dir| {
        for number in 0..1500 {
            file(dir.join(format!("file{number}")), b"");
        }
        for entry in fs::read_dir(dir).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        assert_eq!(fs::read_dir(dir).unwrap().count(), 0);
        fs::remove_dir(dir).unwrap();
    });
}

#[test]
fn a_rewound_scan_sees_what_has_changed() {
    on_both(|dir| {
        file(dir.join("a"), b"");
        let open = File::open(dir).unwrap();
        assert_eq!(names(&entries(&open, 4096).unwrap()).len(), 3);
        file(dir.join("b"), b"");
        fs::remove_file(dir.join("a")).unwrap();
        lseek64(&open, 0, Whence::SeekSet).unwrap();
        let again = names(&entries(&open, 4096).unwrap());
        assert!(again.contains("b") && !again.contains("a"), "{again:?}");
    });
}

#[test]
fn a_removed_directory_takes_no_names() {
    on_both(|dir| {
        let sub = dir.join("sub");
        fs::create_dir(&sub).unwrap();
        let open = File::open(&sub).unwrap();
        fs::remove_dir(&sub).unwrap();
        assert_eq!(open.metadata().unwrap().nlink(), 0);
        let held = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open));
        let held = Path::new(&held);
        assert_eq!(error_of(File::create(held.join("x"))), Errno::ENOENT);
        assert_eq!(error_of(fs::create_dir(held.join("x"))), Errno::ENOENT);
        assert_eq!(entries(&open, 512), Err(Errno::ENOENT));
        // the name can be taken again at once
        fs::create_dir(&sub).unwrap();
    });
}
