//! Extended attributes: limits, flags, prefixes, and who may use them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use fs_tests::sys::{as_user, get_xattr, list_xattrs, remove_xattr, set_xattr};
use nix::errno::Errno;

use super::{c, chmod, file, on_both};

fn set(path: &Path, name: &str, value: &[u8], flags: i32) -> Result<(), Errno> {
    set_xattr(path, false, &c(name), value, flags)
}

fn get(path: &Path, name: &str) -> Result<Vec<u8>, Errno> {
    get_xattr(path, false, &c(name))
}

#[test]
fn values_have_up_to_64_kib_and_names_up_to_255_bytes() {
    on_both(|dir| {
        let a = file(dir.join("a"), b"");
        let longest = format!("user.{}", "n".repeat(250));
        for name in ["user.a", &longest] {
            for len in [0, 1, 4096, 65_536] {
                assert_eq!(set(&a, name, &vec![7; len], 0), Ok(()), "{len}");
                assert_eq!(get(&a, name), Ok(vec![7; len]));
            }
        }
        assert_eq!(set(&a, "user.a", &vec![7; 65_537], 0), Err(Errno::E2BIG));
        assert_eq!(set(&a, &format!("{longest}n"), b"", 0), Err(Errno::ERANGE));
        assert_eq!(set(&a, "", b"", 0), Err(Errno::ERANGE));
    });
}

#[test]
fn flags_ask_for_a_new_or_an_existing_attribute() {
    on_both(|dir| {
        let a = file(dir.join("a"), b"");
        assert_eq!(set(&a, "user.a", b"1", libc::XATTR_REPLACE), Err(Errno::ENODATA));
        assert_eq!(set(&a, "user.a", b"1", libc::XATTR_CREATE), Ok(()));
        assert_eq!(set(&a, "user.a", b"2", libc::XATTR_CREATE), Err(Errno::EEXIST));
        assert_eq!(set(&a, "user.a", b"3", libc::XATTR_REPLACE), Ok(()));
        assert_eq!(get(&a, "user.a"), Ok(b"3".to_vec()));
        assert_eq!(remove_xattr(&a, false, &c("user.a")), Ok(()));
        assert_eq!(remove_xattr(&a, false, &c("user.a")), Err(Errno::ENODATA));
        assert_eq!(get(&a, "user.a"), Err(Errno::ENODATA));
    });
}

#[test]
fn many_attributes_are_listed() {
    on_both(|dir| {
        let a = file(dir.join("a"), b"");
        let names: Vec<Vec<u8>> = (100..300)
            .map(|number| format!("user.{number}").into_bytes())
            .collect();
        for name in &names {
            set(&a, std::str::from_utf8(name).unwrap(), name, 0).unwrap();
        }
        assert_eq!(list_xattrs(&a, false).unwrap(), names);
    });
}

#[test]
fn prefixes_say_who_may_use_an_attribute() {
    on_both(|dir| {
        let a = file(dir.join("a"), b"");
        chmod(&a, 0o666);
        assert_eq!(set(&a, "trusted.a", b"1", 0), Ok(()));
        assert_eq!(set(&a, "security.a", b"1", 0), Ok(()));
        assert_eq!(set(&a, "odd.a", b"1", 0), Err(Errno::EOPNOTSUPP));
        assert_eq!(set(&a, "system.odd", b"1", 0), Err(Errno::EOPNOTSUPP));
        assert_eq!(get(&a, "odd.a"), Err(Errno::EOPNOTSUPP));
        as_user(54_321, 54_321, || {
            assert_eq!(set(&a, "user.a", b"1", 0), Ok(()));
            assert_eq!(set(&a, "trusted.a", b"2", 0), Err(Errno::EPERM));
            assert_eq!(get(&a, "trusted.a"), Err(Errno::ENODATA));
            assert_eq!(set(&a, "security.a", b"2", 0), Err(Errno::EPERM));
            let names = list_xattrs(&a, false).unwrap();
            assert!(!names.contains(&b"trusted.a".to_vec()), "{names:?}");
        });
        chmod(&a, 0o644);
        as_user(54_321, 54_321, || {
            assert_eq!(set(&a, "user.b", b"1", 0), Err(Errno::EACCES))
        });
    });
}

#[test]
fn only_files_and_directories_carry_attributes_of_users() {
    on_both(|dir| {
        let (link, fifo) = (dir.join("link"), dir.join("fifo"));
        symlink("x", &link).unwrap();
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
        for path in [&link, &fifo] {
            assert_eq!(set(path, "user.a", b"1", 0), Err(Errno::EPERM));
            assert_eq!(set(path, "trusted.a", b"1", 0), Ok(()));
            assert_eq!(get(path, "trusted.a"), Ok(b"1".to_vec()));
        }
        assert_eq!(set(dir, "user.a", b"1", 0), Ok(()));
    });
}

#[test]
fn attributes_go_with_the_inode_not_with_the_name() {
    on_both(|dir| {
        let (a, b) = (file(dir.join("a"), b""), dir.join("b"));
        set(&a, "user.a", b"1", 0).unwrap();
        fs::hard_link(&a, &b).unwrap();
        fs::rename(&a, dir.join("c")).unwrap();
        assert_eq!(get(&b, "user.a"), Ok(b"1".to_vec()));
        let fresh = file(a, b"");
        assert_eq!(get(&fresh, "user.a"), Err(Errno::ENODATA));
    });
}
