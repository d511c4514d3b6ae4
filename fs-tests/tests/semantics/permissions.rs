//! Permissions: mode bits, sticky and set-group-ID directories, set-ID bits that go, who may change what.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};

use fs_tests::sys::as_user;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, FallocateFlags, fallocate};
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::{TimeSpec, TimeValLike};

use super::{chmod, error_of, file, mode, on_both, open_rw};

const USER: u32 = 54_321;
const OTHER: u32 = 54_322;

/// A new file of a user.
fn owned(path: std::path::PathBuf, uid: u32, bits: u32) -> std::path::PathBuf {
    let path = file(path, b"text");
    chown(&path, Some(uid), Some(uid)).unwrap();
    chmod(&path, bits);
    path
}

#[test]
fn mode_bits_bind_users_but_not_root() {
    on_both(|dir| {
        let private = owned(dir.join("private"), OTHER, 0o600);
        let shared = owned(dir.join("shared"), OTHER, 0o644);
        as_user(USER, USER, || {
            assert_eq!(error_of(File::open(&private)), Errno::EACCES);
            assert_eq!(fs::read(&shared).unwrap(), b"text");
            assert_eq!(
                error_of(OpenOptions::new().write(true).open(&shared)),
                Errno::EACCES
            );
        });
        as_user(OTHER, OTHER, || assert_eq!(fs::read(&private).unwrap(), b"text"));
        chmod(&private, 0);
        assert_eq!(fs::read(&private).unwrap(), b"text");
    });
}

#[test]
fn a_directory_without_bits_is_closed_to_users() {
    on_both(|dir| {
        let closed = dir.join("closed");
        fs::create_dir(&closed).unwrap();
        file(closed.join("a"), b"text");
        let attempt = |bits: u32| {
            chmod(&closed, bits);
            as_user(USER, USER, || {
                let listed = fs::read_dir(&closed).map(Iterator::count);
                (
                    listed.ok(),
                    fs::metadata(closed.join("a")).is_ok(),
                    File::create(closed.join("b")).is_ok(),
                )
            })
        };
        assert_eq!(attempt(0), (None, false, false));
        assert_eq!(attempt(0o005), (Some(1), true, false));
        assert_eq!(attempt(0o001), (None, true, false));
        assert_eq!(attempt(0o004), (Some(1), false, false));
        assert_eq!(attempt(0o003), (None, true, true));
    });
}

#[test]
fn removing_asks_the_directory_not_the_file() {
    on_both(|dir| {
        let a = owned(dir.join("a"), OTHER, 0);
        as_user(USER, USER, || fs::remove_file(&a).unwrap());
        let b = owned(dir.join("b"), USER, 0o666);
        chmod(dir, 0o755);
        as_user(USER, USER, || {
            assert_eq!(error_of(fs::remove_file(&b)), Errno::EACCES)
        });
    });
}

#[test]
fn in_a_sticky_directory_only_owners_remove() {
    on_both(|dir| {
        chmod(dir, 0o1777);
        let (a, b) = (
            owned(dir.join("a"), OTHER, 0o666),
            owned(dir.join("b"), USER, 0o666),
        );
        as_user(USER, USER, || {
            assert_eq!(error_of(fs::remove_file(&a)), Errno::EPERM);
            assert_eq!(error_of(fs::rename(&a, dir.join("c"))), Errno::EPERM);
            assert_eq!(error_of(fs::rename(&b, &a)), Errno::EPERM);
            fs::remove_file(&b).unwrap();
        });
        chown(dir, Some(USER), None).unwrap();
        as_user(USER, USER, || fs::remove_file(&a).unwrap());
    });
}

#[test]
fn a_set_group_id_directory_hands_down_its_group() {
    on_both(|dir| {
        chown(dir, None, Some(777)).unwrap();
        chmod(dir, 0o2777);
        as_user(USER, USER, || {
            file(dir.join("a"), b"");
            fs::create_dir(dir.join("sub")).unwrap();
            let tricky = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o2770)
                .open(dir.join("tricky"));
            drop(tricky.unwrap());
        });
        let group = |name: &str| fs::metadata(dir.join(name)).unwrap().gid();
        assert_eq!((group("a"), group("sub"), group("tricky")), (777, 777, 777));
        assert_eq!(mode(&dir.join("sub")) & 0o2000, 0o2000);
        assert_eq!(mode(&dir.join("a")) & 0o2000, 0);
        // one who is not in the group gets no set-group-ID program of it
        assert_eq!(mode(&dir.join("tricky")) & 0o2000, 0);
    });
}

#[test]
fn set_id_bits_go_when_a_user_changes_the_bytes() {
    on_both(|dir| {
        let a = owned(dir.join("a"), OTHER, 0o6777);
        let change = |what: &str, change: &(dyn Fn() + Sync)| {
            chmod(&a, 0o6777);
            as_user(USER, USER, change);
            assert_eq!(mode(&a), 0o777, "after {what}");
        };
        change("a write", &|| open_rw(&a).write_all(b"x").unwrap());
        change("a cut", &|| open_rw(&a).set_len(1).unwrap());
        change("an open that cuts", &|| drop(File::create(&a).unwrap()));
        change("an allocation", &|| {
            fallocate(open_rw(&a), FallocateFlags::empty(), 0, 8192).unwrap()
        });
        chmod(&a, 0o6777);
        open_rw(&a).write_all(b"x").unwrap();
        assert_eq!(mode(&a), 0o6777, "root may keep them");
    });
}

#[test]
fn set_group_id_without_group_execution_stays() {
    on_both(|dir| {
        // it once meant mandatory locking, and Linux keeps it for members of the group
        let a = owned(dir.join("a"), USER, 0o2766);
        as_user(USER, USER, || open_rw(&a).write_all(b"x").unwrap());
        assert_eq!(mode(&a), 0o2766);
    });
}

#[test]
fn set_id_bits_go_with_a_new_owner() {
    on_both(|dir| {
        let a = owned(dir.join("a"), USER, 0o6755);
        chown(&a, Some(OTHER), None).unwrap();
        assert_eq!(mode(&a), 0o755);
        let sub = dir.join("sub");
        fs::create_dir(&sub).unwrap();
        chmod(&sub, 0o6755);
        chown(&sub, Some(OTHER), None).unwrap();
        assert_eq!(mode(&sub), 0o6755, "a directory keeps them");
    });
}

#[test]
fn only_the_owner_changes_attributes() {
    on_both(|dir| {
        let (a, own) = (
            owned(dir.join("a"), OTHER, 0o666),
            owned(dir.join("own"), USER, 0o644),
        );
        as_user(USER, USER, || {
            let set = |path: &Path, bits| {
                fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(bits))
            };
            assert_eq!(error_of(set(&a, 0o600)), Errno::EPERM);
            assert_eq!(error_of(chown(&a, Some(USER), None)), Errno::EPERM);
            assert_eq!(error_of(chown(&own, Some(OTHER), None)), Errno::EPERM);
            assert_eq!(error_of(chown(&own, None, Some(OTHER))), Errno::EPERM);
            chown(&own, None, Some(USER)).unwrap();
            set(&own, 0o640).unwrap();
            // who may write may set the times to now, but to no other time
            let [now, then] = [libc::UTIME_NOW, 1].map(|nanos| TimeSpec::new(1, nanos));
            let times = |time| utimensat(AT_FDCWD, &a, &time, &time, UtimensatFlags::FollowSymlink);
            assert_eq!(times(now), Ok(()));
            assert_eq!(times(then), Err(Errno::EPERM));
            assert_eq!(TimeSpec::seconds(1).tv_sec(), 1);
        });
    });
}

#[test]
fn a_stranger_to_the_group_gets_no_set_group_id() {
    on_both(|dir| {
        let a = owned(dir.join("a"), USER, 0o644);
        chown(&a, None, Some(OTHER)).unwrap();
        as_user(USER, USER, || chmod(&a, 0o2755));
        assert_eq!(mode(&a), 0o755);
    });
}

#[test]
fn a_new_node_belongs_to_its_maker() {
    on_both(|dir| {
        as_user(USER, OTHER, || {
            file(dir.join("a"), b"");
            fs::DirBuilder::new().mode(0o700).create(dir.join("sub")).unwrap();
            std::os::unix::fs::symlink("a", dir.join("link")).unwrap();
        });
        for name in ["a", "sub", "link"] {
            let made = fs::symlink_metadata(dir.join(name)).unwrap();
            assert_eq!((made.uid(), made.gid()), (USER, OTHER), "{name}");
        }
        assert_eq!(mode(&dir.join("sub")), 0o700);
        assert_eq!(mode(&dir.join("link")), 0o777);
    });
}

/// Starts a program that was just written. A process that another test forked meanwhile may still hold it open for
/// writing, until it executes its own program.
fn start(command: &mut Command) -> std::process::Child {
    for _ in 0..500 {
        match command.spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            started => return started.unwrap(),
        }
    }
    panic!("{command:?} stays busy");
}

#[test]
fn a_program_runs_and_cannot_be_written_meanwhile() {
    on_both(|dir| {
        let program = dir.join("sleep");
        fs::copy("/bin/sleep", &program).unwrap();
        chmod(&program, 0o755);
        let mut running = start(Command::new(&program).arg("60"));
        let written = error_of(OpenOptions::new().write(true).open(&program));
        running.kill().unwrap();
        running.wait().unwrap();
        assert_eq!(written, Errno::ETXTBSY);
        assert!(start(Command::new(&program).arg("0")).wait().unwrap().success());
        chmod(&program, 0o644);
        assert_eq!(error_of(Command::new(&program).arg("0").spawn()), Errno::EACCES);
    });
}

#[test]
fn a_set_user_id_program_runs_as_its_owner() {
    on_both(|dir| {
        let program = dir.join("id");
        fs::copy("/usr/bin/id", &program).unwrap();
        chown(&program, Some(OTHER), None).unwrap();
        chmod(&program, 0o4755);
        let output = start(Command::new(&program).arg("-u").stdout(Stdio::piped()))
            .wait_with_output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), OTHER.to_string());
    });
}
