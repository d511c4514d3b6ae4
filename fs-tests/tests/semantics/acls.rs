//! POSIX ACLs, set and shown by setfacl(1) and getfacl(1).

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use fs_tests::harness::run;
use fs_tests::sys::as_user;
use nix::errno::Errno;

use super::{chmod, error_of, file, mode, on_both};

fn set(arguments: &[&str], path: &Path) {
    run(Command::new("setfacl").args(arguments).arg(path));
}

/// The entries of a file's ACLs, sorted, without the comments.
fn get(path: &Path) -> Vec<String> {
    let output = run(Command::new("getfacl")
        .args(["-n", "-p", "--omit-header"])
        .arg(path));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let entries = text
        .lines()
        .map(|line| line.split_whitespace().next().unwrap_or_default().to_owned());
    let mut entries: Vec<_> = entries.filter(|entry| !entry.is_empty()).collect();
    entries.sort();
    entries
}

#[test]
fn an_entry_for_one_user_lets_that_user_in() {
    on_both(|dir| {
        let a = file(dir.join("a"), b"text");
        chmod(&a, 0o600);
        as_user(54_321, 54_321, || {
            assert_eq!(error_of(File::open(&a)), Errno::EACCES)
        });
        set(&["-m", "u:54321:r"], &a);
        as_user(54_321, 54_321, || assert_eq!(fs::read(&a).unwrap(), b"text"));
        as_user(54_322, 54_322, || {
            assert_eq!(error_of(File::open(&a)), Errno::EACCES)
        });
        assert_eq!(
            get(&a),
            [
                "group::---",
                "mask::r--",
                "other::---",
                "user:54321:r--",
                "user::rw-"
            ]
        );
        // the mask stands where the group's bits were
        assert_eq!(mode(&a), 0o640);
    });
}

#[test]
fn chmod_changes_the_mask_and_the_mask_bounds_the_entries() {
    on_both(|dir| {
        let a = file(dir.join("a"), b"text");
        chmod(&a, 0o640);
        set(&["-m", "u:54321:rw,g:54322:rw"], &a);
        assert_eq!(mode(&a), 0o660);
        chmod(&a, 0o600);
        as_user(54_321, 54_321, || {
            assert_eq!(error_of(File::open(&a)), Errno::EACCES)
        });
        let entries = get(&a);
        assert!(entries.contains(&"mask::---".to_owned()), "{entries:?}");
        assert!(entries.contains(&"user:54321:rw-".to_owned()), "{entries:?}");
        chmod(&a, 0o640);
        as_user(54_321, 54_321, || {
            assert!(File::open(&a).is_ok());
            assert_eq!(error_of(File::options().write(true).open(&a)), Errno::EACCES);
        });
    });
}

#[test]
fn a_default_acl_is_handed_down_instead_of_the_umask() {
    on_both(|dir| {
        set(&["-d", "-m", "u::rwx,u:54321:rwx,g::rx,m::rwx,o::-"], dir);
        let (a, sub) = (dir.join("a"), dir.join("sub"));
        file(a.clone(), b"");
        fs::create_dir(&sub).unwrap();
        let entries = get(&a);
        assert_eq!(
            entries,
            [
                "group::r-x",
                "mask::rw-",
                "other::---",
                "user:54321:rwx",
                "user::rw-"
            ]
        );
        assert_eq!(mode(&a), 0o660, "the umask does not count");
        let entries = get(&sub);
        assert_eq!(
            entries
                .iter()
                .filter(|entry| entry.starts_with("default:"))
                .count(),
            5,
            "{entries:?}"
        );
        file(sub.join("b"), b"");
        assert!(get(&sub.join("b")).contains(&"user:54321:rwx".to_owned()));
    });
}

#[test]
fn removing_an_acl_leaves_the_mode() {
    on_both(|dir| {
        let a = file(dir.join("a"), b"");
        chmod(&a, 0o600);
        set(&["-m", "u:54321:r"], &a);
        set(&["-b"], &a);
        assert_eq!(get(&a), ["group::---", "other::---", "user::rw-"]);
        set(&["-d", "-m", "u:54321:r"], dir);
        set(&["-k"], dir);
        assert!(!get(dir).iter().any(|entry| entry.starts_with("default:")));
    });
}

#[test]
fn an_acl_that_says_no_more_than_the_mode_is_the_mode() {
    on_both(|dir| {
        let a = file(dir.join("a"), b"");
        set(&["-m", "u::rwx,g::r-x,o::r--"], &a);
        assert_eq!(mode(&a), 0o754);
        assert_eq!(get(&a), ["group::r-x", "other::r--", "user::rwx"]);
    });
}

#[test]
fn an_acl_by_a_stranger_to_the_group_takes_set_group_id_away() {
    on_both(|dir| {
        let a = file(dir.join("a"), b"");
        std::os::unix::fs::chown(&a, Some(54_321), Some(54_322)).unwrap();
        chmod(&a, 0o2755);
        as_user(54_321, 54_322, || set(&["-m", "u:54323:r"], &a));
        assert_eq!(mode(&a), 0o2755);
        as_user(54_321, 54_321, || set(&["-m", "u:54324:r"], &a));
        assert_eq!(mode(&a), 0o755);
    });
}
