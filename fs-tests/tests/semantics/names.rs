//! Names: their bytes and lengths, links, renames, removals, and files without a name.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, RenameFlags, open, renameat2};
use nix::sys::stat::Mode;
use nix::unistd::linkat;

use super::{error_of, file, on_both, on_each, open_rw};

fn rename(from: &Path, to: &Path, flags: RenameFlags) -> Result<(), Errno> {
    renameat2(AT_FDCWD, from, AT_FDCWD, to, flags)
}

fn ino(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

#[test]
fn a_name_has_at_most_255_bytes() {
    on_both(|dir| {
        let longest = dir.join("n".repeat(255));
        let longer = dir.join("n".repeat(256));
        file(longest.clone(), b"");
        assert_eq!(error_of(fs::File::create(&longer)), Errno::ENAMETOOLONG);
        assert_eq!(error_of(fs::create_dir(&longer)), Errno::ENAMETOOLONG);
        assert_eq!(error_of(symlink("target", &longer)), Errno::ENAMETOOLONG);
        assert_eq!(error_of(fs::rename(&longest, &longer)), Errno::ENAMETOOLONG);
        assert_eq!(error_of(fs::hard_link(&longest, &longer)), Errno::ENAMETOOLONG);
        assert_eq!(error_of(fs::metadata(&longer)), Errno::ENAMETOOLONG);
        assert_eq!(error_of(fs::remove_file(&longer)), Errno::ENAMETOOLONG);
    });
}

#[test]
fn a_name_holds_any_byte_but_slash_and_nul() {
    on_both(|dir| {
        let mut names: Vec<Vec<u8>> = (1..=255_u8)
            .filter(|byte| *byte != b'/')
            .map(|byte| vec![b'x', byte])
            .collect();
        names.push((1..=255_u8).filter(|byte| *byte != b'/').collect());
        for name in &names {
            file(dir.join(OsStr::from_bytes(name)), name);
        }
        let mut found: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().as_bytes().to_vec())
            .collect();
        found.sort();
        names.sort();
        assert_eq!(found, names);
        for name in &names {
            assert_eq!(fs::read(dir.join(OsStr::from_bytes(name))).unwrap(), *name);
        }
    });
}

#[test]
fn names_that_differ_in_case_or_normal_form_are_different() {
    on_both(|dir| {
        for name in ["a", "A", "\u{e9}", "e\u{301}"] {
            file(dir.join(name), name.as_bytes());
        }
        assert_eq!(fs::read_dir(dir).unwrap().count(), 4);
    });
}

#[test]
fn hard_links_share_one_inode_until_the_last_is_gone() {
    on_both(|dir| {
        let (a, b) = (file(dir.join("a"), b"one"), dir.join("b"));
        fs::hard_link(&a, &b).unwrap();
        assert_eq!((ino(&a), fs::metadata(&a).unwrap().nlink()), (ino(&b), 2));
        fs::write(&b, b"two").unwrap();
        assert_eq!(fs::read(&a).unwrap(), b"two");
        fs::remove_file(&a).unwrap();
        assert_eq!(fs::metadata(&b).unwrap().nlink(), 1);
        assert_eq!(fs::read(&b).unwrap(), b"two");
    });
}

#[test]
fn a_link_to_a_symlink_names_the_symlink_itself() {
    on_both(|dir| {
        let (link, second) = (dir.join("link"), dir.join("second"));
        symlink("nowhere", &link).unwrap();
        fs::hard_link(&link, &second).unwrap();
        assert_eq!(fs::read_link(&second).unwrap(), Path::new("nowhere"));
        assert_eq!(ino(&link), ino(&second));
    });
}

#[test]
fn a_directory_gets_no_second_link_and_a_taken_name_no_link() {
    on_both(|dir| {
        let (a, sub) = (file(dir.join("a"), b""), dir.join("sub"));
        fs::create_dir(&sub).unwrap();
        assert_eq!(error_of(fs::hard_link(&sub, dir.join("b"))), Errno::EPERM);
        assert_eq!(error_of(fs::hard_link(&a, &sub)), Errno::EEXIST);
        assert_eq!(
            error_of(fs::hard_link(dir.join("none"), dir.join("b"))),
            Errno::ENOENT
        );
    });
}

#[test]
fn a_symlink_holds_up_to_4095_bytes_and_is_not_followed_in_a_circle() {
    on_both(|dir| {
        let longest = "t".repeat(4095);
        symlink(&longest, dir.join("long")).unwrap();
        assert_eq!(fs::read_link(dir.join("long")).unwrap(), Path::new(&longest));
        assert_eq!(fs::symlink_metadata(dir.join("long")).unwrap().len(), 4095);
        assert_eq!(
            error_of(symlink("t".repeat(4096), dir.join("b"))),
            Errno::ENAMETOOLONG
        );
        assert_eq!(error_of(symlink("", dir.join("b"))), Errno::ENOENT);
        symlink("y", dir.join("x")).unwrap();
        symlink("x", dir.join("y")).unwrap();
        assert_eq!(error_of(fs::metadata(dir.join("x"))), Errno::ELOOP);
        assert_eq!(error_of(fs::read_link(dir)), Errno::EINVAL);
    });
}

#[test]
fn rename_replaces_a_file_that_stays_open() {
    on_both(|dir| {
        let (a, b) = (file(dir.join("a"), b"new"), file(dir.join("b"), b"old"));
        let mut old = open_rw(&b);
        fs::rename(&a, &b).unwrap();
        assert_eq!(fs::read(&b).unwrap(), b"new");
        let mut text = String::new();
        old.read_to_string(&mut text).unwrap();
        assert_eq!(text, "old");
        assert_eq!(old.metadata().unwrap().nlink(), 0);
        assert!(!a.exists());
    });
}

#[test]
fn rename_keeps_files_and_directories_apart() {
    on_both(|dir| {
        let a = file(dir.join("a"), b"");
        let [empty, full] = ["empty", "full"].map(|name| dir.join(name));
        fs::create_dir(&empty).unwrap();
        fs::create_dir_all(full.join("below/deep")).unwrap();
        assert_eq!(error_of(fs::rename(&a, &empty)), Errno::EISDIR);
        assert_eq!(error_of(fs::rename(&empty, &a)), Errno::ENOTDIR);
        assert_eq!(error_of(fs::rename(&empty, &full)), Errno::ENOTEMPTY);
        assert_eq!(
            error_of(fs::rename(&full, full.join("below/deep/x"))),
            Errno::EINVAL
        );
        assert_eq!(
            error_of(fs::rename(full.join("below/deep"), &full)),
            Errno::ENOTEMPTY
        );
        assert_eq!(error_of(fs::rename(full.join("."), &empty)), Errno::EBUSY);
        assert_eq!(error_of(fs::rename(dir.join("none"), &empty)), Errno::ENOENT);
        fs::rename(&full, &empty).unwrap();
        assert!(empty.join("below/deep").is_dir());
        assert_eq!(fs::metadata(dir).unwrap().nlink(), 3);
    });
}

#[test]
fn rename_between_two_names_of_one_file_does_nothing() {
    on_both(|dir| {
        let (a, b) = (file(dir.join("a"), b""), dir.join("b"));
        fs::hard_link(&a, &b).unwrap();
        fs::rename(&a, &b).unwrap();
        assert!(a.exists() && b.exists());
    });
}

#[test]
fn rename_can_refuse_to_replace() {
    on_both(|dir| {
        let (a, b) = (file(dir.join("a"), b"a"), file(dir.join("b"), b"b"));
        let flags = RenameFlags::RENAME_NOREPLACE;
        assert_eq!(rename(&a, &b, flags), Err(Errno::EEXIST));
        assert_eq!(rename(&a, &a, flags), Err(Errno::EEXIST));
        assert_eq!(rename(&a, &dir.join("c"), flags), Ok(()));
        assert_eq!(fs::read(dir.join("c")).unwrap(), b"a");
    });
}

#[test]
fn rename_can_exchange_a_file_with_a_directory() {
    on_both(|dir| {
        let (a, sub) = (file(dir.join("a"), b"a"), dir.join("sub"));
        fs::create_dir_all(sub.join("below")).unwrap();
        let flags = RenameFlags::RENAME_EXCHANGE;
        assert_eq!(rename(&a, &sub, flags), Ok(()));
        assert!(a.join("below").is_dir());
        assert_eq!(fs::read(&sub).unwrap(), b"a");
        assert_eq!(rename(&a, &dir.join("none"), flags), Err(Errno::ENOENT));
        assert_eq!(rename(&a, &a.join("below"), flags), Err(Errno::EINVAL));
        assert_eq!(rename(&a.join("below"), &a, flags), Err(Errno::EINVAL));
        assert_eq!(
            rename(&a, &sub, flags | RenameFlags::RENAME_NOREPLACE),
            Err(Errno::EINVAL)
        );
    });
}

#[test]
fn rename_can_leave_a_whiteout() {
    on_both(|dir| {
        let (a, b) = (file(dir.join("a"), b"a"), dir.join("b"));
        assert_eq!(rename(&a, &b, RenameFlags::RENAME_WHITEOUT), Ok(()));
        let whiteout = fs::symlink_metadata(&a).unwrap();
        assert!(whiteout.file_type().is_char_device());
        assert_eq!(whiteout.rdev(), 0);
        assert_eq!(fs::read(&b).unwrap(), b"a");
    });
}

#[test]
fn removals_ask_for_the_right_kind() {
    on_both(|dir| {
        let (a, sub) = (file(dir.join("a"), b""), dir.join("sub"));
        fs::create_dir_all(sub.join("below")).unwrap();
        assert_eq!(error_of(fs::remove_file(&sub)), Errno::EISDIR);
        assert_eq!(error_of(fs::remove_dir(&a)), Errno::ENOTDIR);
        assert_eq!(error_of(fs::remove_dir(&sub)), Errno::ENOTEMPTY);
        assert_eq!(error_of(fs::remove_dir(sub.join("."))), Errno::EINVAL);
        assert_eq!(error_of(fs::remove_dir(sub.join("below/.."))), Errno::ENOTEMPTY);
        assert_eq!(error_of(fs::remove_dir(dir.parent().unwrap())), Errno::EBUSY);
        assert_eq!(error_of(fs::remove_file(dir.join("none"))), Errno::ENOENT);
        assert_eq!(error_of(fs::remove_file(a.join("x"))), Errno::ENOTDIR);
    });
}

#[test]
fn an_unlinked_file_lives_as_long_as_it_is_open() {
    on_both(|dir| {
        let a = file(dir.join("a"), b"kept");
        let mut open = open_rw(&a);
        fs::remove_file(&a).unwrap();
        assert_eq!(open.metadata().unwrap().nlink(), 0);
        open.seek(SeekFrom::End(0)).unwrap();
        open.write_all(b" and more").unwrap();
        open.rewind().unwrap();
        let mut text = String::new();
        open.read_to_string(&mut text).unwrap();
        assert_eq!(text, "kept and more");
        // it has no name to link from, and a new file under the old name is another
        let held = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open));
        let flags = AtFlags::AT_SYMLINK_FOLLOW;
        let linked = linkat(AT_FDCWD, held.as_str(), AT_FDCWD, &dir.join("b"), flags);
        assert_eq!(linked, Err(Errno::ENOENT));
        file(a.clone(), b"other");
        assert_ne!(open.metadata().unwrap().ino(), ino(&a));
    });
}

#[test]
fn a_file_without_a_name_can_be_made_on_tmpfs_only() {
    on_each(|place| {
        let flags = OFlag::O_TMPFILE | OFlag::O_RDWR;
        let made = open(place.path(), flags, Mode::from_bits_truncate(0o600));
        match place.name() {
            "tmpfs" => assert!(made.is_ok()),
            // programs take this answer as "make a file and unlink it instead"
            _ => assert_eq!(made.unwrap_err(), Errno::EOPNOTSUPP),
        }
    });
}

#[test]
fn open_flags_are_obeyed() {
    on_both(|dir| {
        let a = file(dir.join("a"), b"text");
        symlink("a", dir.join("link")).unwrap();
        let open = |path: &Path, flags: OFlag| open(path, flags, Mode::from_bits_truncate(0o644)).map(drop);
        assert_eq!(
            open(&a, OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY),
            Err(Errno::EEXIST)
        );
        assert_eq!(
            open(&dir.join("link"), OFlag::O_NOFOLLOW | OFlag::O_RDONLY),
            Err(Errno::ELOOP)
        );
        assert_eq!(
            open(&a, OFlag::O_DIRECTORY | OFlag::O_RDONLY),
            Err(Errno::ENOTDIR)
        );
        assert_eq!(open(dir, OFlag::O_WRONLY), Err(Errno::EISDIR));
        assert_eq!(open(&dir.join("none"), OFlag::O_RDONLY), Err(Errno::ENOENT));
        assert_eq!(
            open(&a.join("b"), OFlag::O_CREAT | OFlag::O_WRONLY),
            Err(Errno::ENOTDIR)
        );
        assert_eq!(open(&a, OFlag::O_TRUNC | OFlag::O_WRONLY), Ok(()));
        assert_eq!(fs::metadata(&a).unwrap().len(), 0);
    });
}
