//! The edges of the transports: how they end, what they leave, and the largest requests that they carry; of io_uring
//! also how it is switched on.

#![allow(clippy::unwrap_used)] // a test that cannot go on fails

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fs_tests::harness::{Drive, Place, Scratch, binary, run};
use fs_tests::sys;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use okapi::clock::SystemClock;
use okapi::fs::{Volume, VolumeConfig};
use okapi::grid::{Grid, GridConfig};
use okapi::serve::fuse::{Detach, MountConfig, Running, Session, Transport, URING_SWITCH, unmount};
use okapi::vfs::Vfs;

const TRANSPORTS: [Transport; 2] = [Transport::Uring, Transport::Classic];

/// A drive by each transport, one after the other.
fn drives() -> impl Iterator<Item = Drive> {
    ["uring", "classic"]
        .into_iter()
        .map(|transport| Drive::mount(&["--size", "64M", "--transport", transport]))
}

fn entries_of(path: &str) -> usize {
    fs::read_dir(path).unwrap().count()
}

/// Waits for what must come true soon.
#[track_caller]
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn when_the_daemon_is_killed_everybody_at_work_is_told_and_umount_clears_the_mount() {
    drives().for_each(|drive| kill_at_work(&drive));
}

fn kill_at_work(drive: &Drive) {
    let told = &AtomicUsize::new(0);
    let started = &AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let dir = drive.path().join(worker.to_string());
            scope.spawn(move || {
                let error = work_until_it_fails(&dir, started);
                // ECANCELED where the daemon had the request already
                let expected = [libc::ENOTCONN, libc::ECONNABORTED, libc::ECANCELED];
                assert!(
                    error
                        .raw_os_error()
                        .is_some_and(|errno| expected.contains(&errno)),
                    "{error}"
                );
                told.fetch_add(1, Ordering::SeqCst);
            });
        }
        eventually("all work", || started.load(Ordering::SeqCst) >= 400);
        kill(Pid::from_raw(drive.pid().cast_signed()), Signal::SIGKILL).unwrap();
        eventually("all are told", || told.load(Ordering::SeqCst) == 4);
    });
    run(Command::new(binary()).arg("umount").arg(drive.path()));
    assert_eq!(
        fs::read_dir(drive.path()).unwrap().count(),
        0,
        "the directory beneath is back"
    );
}

/// Makes, reads and removes files; returns the first error.
fn work_until_it_fails(dir: &Path, rounds: &AtomicUsize) -> io::Error {
    let round = || -> io::Result<()> {
        let path = dir.join("file");
        fs::write(&path, vec![7; 100_000])?;
        assert_eq!(fs::read(&path)?.len(), 100_000);
        fs::metadata(dir.join("missing"))
            .map(drop)
            .or_else(|error| match error.kind() {
                ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })?;
        fs::remove_file(&path)?;
        rounds.fetch_add(1, Ordering::SeqCst);
        Ok(())
    };
    if let Err(error) = fs::create_dir(dir) {
        return error;
    }
    loop {
        if let Err(error) = round() {
            return error;
        }
    }
}

#[test]
fn a_drive_in_use_goes_when_its_last_user_does() {
    drives().for_each(|drive| unmount_in_use(&drive));
}

fn unmount_in_use(drive: &Drive) {
    let path = drive.path().join("file");
    fs::write(&path, "bytes").unwrap();
    let file = File::open(&path).unwrap();
    let refused = Command::new(binary())
        .arg("umount")
        .arg(drive.path())
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("in use"),
        "{refused:?}"
    );
    assert_eq!(fs::read(&path).unwrap(), b"bytes", "a refusal changes nothing");

    run(Command::new(binary())
        .args(["umount", "--lazy"])
        .arg(drive.path()));
    assert!(!path.exists());
    let mut bytes = [0; 5];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"bytes", "who has a file open still reads it");
    let status = format!("/proc/{}/status", drive.pid());
    assert!(fs::read_to_string(&status).unwrap().contains("Threads:"));
    drop(file);
    eventually("the daemon ends", || {
        !fs::read_to_string(&status)
            .is_ok_and(|status| status.contains("Threads:") && !status.contains("(zombie)"))
    });
}

#[test]
fn a_signal_ends_a_drive_at_work_in_order() {
    drives().for_each(|drive| end_at_work(&drive));
}

fn end_at_work(drive: &Drive) {
    let dir = drive.path().join("dir");
    let rounds = &AtomicUsize::new(0);
    std::thread::scope(|scope| {
        // what is in the way of an unmount is detached: the worker fails when it looks for its path again
        let worker = scope.spawn(|| work_until_it_fails(&dir, rounds));
        eventually("work has begun", || rounds.load(Ordering::SeqCst) > 10);
        kill(Pid::from_raw(drive.pid().cast_signed()), Signal::SIGTERM).unwrap();
        assert_eq!(worker.join().unwrap().kind(), ErrorKind::NotFound);
    });
    eventually("the daemon ends", || {
        let status = fs::read_to_string(format!("/proc/{}/status", drive.pid()));
        !status.is_ok_and(|status| !status.contains("(zombie)"))
    });
}

#[test]
fn mounting_fifty_times_leaves_no_thread_no_descriptor_and_no_mount() {
    // this program itself serves, so that it would have what is left; a process of its own has nothing else
    if std::env::var_os("OKAPI_TEST_ALONE").is_none() {
        let name = "mounting_fifty_times_leaves_no_thread_no_descriptor_and_no_mount";
        let mut alone = Command::new(std::env::current_exe().unwrap());
        run(alone
            .args(["--exact", name, "--nocapture"])
            .env("OKAPI_TEST_ALONE", "1"));
        return;
    }
    let dir = Scratch::new();
    // what the libraries keep for good, and threads that end: the system lists them a moment longer than they run
    TRANSPORTS
        .into_iter()
        .for_each(|transport| serve_once(dir.path(), transport));
    let count = || (entries_of("/proc/self/task"), entries_of("/proc/self/fd"));
    let before = count();
    for _ in 0..25 {
        TRANSPORTS
            .into_iter()
            .for_each(|transport| serve_once(dir.path(), transport));
    }
    eventually("there are no more threads and descriptors than before", || {
        let after = count();
        after.0 <= before.0 && after.1 <= before.1
    });
    let place = dir.path().to_str().unwrap();
    assert!(
        !fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .contains(place)
    );
}

/// Mounts a new drive on `dir`, uses it, and unmounts it.
fn serve_once(dir: &Path, transport: Transport) {
    let grid = Grid::new(GridConfig::with_size(16 << 20)).unwrap();
    let namespace = grid.create_namespace("drive", None).unwrap();
    let volume = Volume::new(&grid, namespace, Arc::new(SystemClock), VolumeConfig::default()).unwrap();
    let mount = MountConfig {
        mountpoint: dir.to_owned(),
        source: "okapi-test".into(),
        read_only: false,
        allow_other: false,
        suid: false,
        dev: false,
        exec: true,
        transport,
    };
    let session = Session::mount(&(volume as Arc<dyn Vfs>), &mount).unwrap();
    match session.running() {
        Running::Uring { queues } => assert!(transport == Transport::Uring && *queues > 0),
        Running::Classic { .. } => assert_eq!(transport, Transport::Classic),
    }
    fs::write(dir.join("file"), "bytes").unwrap();
    assert_eq!(fs::read(dir.join("file")).unwrap(), b"bytes");
    unmount(dir, Detach::WhenIdle).unwrap();
    session.join().unwrap();
}

/// Runs a script in a world of mounts of its own, in which the kernel's switch reads `state`: nobody else sees it.
/// `$OKAPI` is a copy of the program that every user may run.
fn with_switch(state: &str, script: &str) -> Output {
    let (dir, mountpoint) = (Scratch::new(), Scratch::new());
    let (switch, program) = (dir.path().join("switch"), dir.path().join("okapi"));
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&switch, format!("{state}\n")).unwrap();
    fs::copy(binary(), &program).unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "bash", "-c"])
        .arg(format!(
            "mount --bind \"$SWITCH\" {URING_SWITCH} || exit 99\n{script}"
        ))
        .env("SWITCH", &switch)
        .env("OKAPI", &program)
        .env("DRIVE", mountpoint.path())
        .output()
        .unwrap();
    fs::remove_file(&switch).unwrap();
    fs::remove_file(&program).unwrap();
    output
}

#[test]
fn without_the_switch_uring_is_refused_with_a_hint_and_auto_does_without() {
    let output = with_switch("N", r#""$OKAPI" mount --size 16M --transport uring "$DRIVE""#);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    for word in [
        "io_uring cannot be used",
        "switched off",
        "hint: `okapi doctor`",
        "--transport auto",
    ] {
        assert!(complaint.contains(word), "no {word:?} in {complaint}");
    }

    let script =
        r#""$OKAPI" mount --size 16M "$DRIVE" && "$OKAPI" stat "$DRIVE" && "$OKAPI" umount "$DRIVE""#;
    let output = with_switch("N", script);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(
        text.contains("classic, not io_uring: the kernel has it switched off"),
        "{text}"
    );
}

#[test]
fn doctor_tells_of_the_switch_and_turns_it_only_when_asked_to() {
    let script = r#""$OKAPI" doctor; cat "$SWITCH"; "$OKAPI" doctor --enable-uring; cat "$SWITCH"; "$OKAPI" doctor --enable-uring"#;
    let output = with_switch("N", script);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    let (before, after) = text.split_once("\nN\n").expect("doctor alone changes nothing");
    assert!(
        before.contains("as root: `okapi doctor --enable-uring`"),
        "{before}"
    );
    let (turning, again) = after.split_once("\nY").expect("--enable-uring turns it");
    assert!(
        turning.contains("is Y now") && turning.contains("requests come over io_uring"),
        "{turning}"
    );
    assert!(again.contains("switched on already"), "{again}");
}

#[test]
fn doctor_tells_users_that_only_root_may_turn_the_switch() {
    const NOBODY: &str = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    let output = with_switch("N", &format!(r#"{NOBODY} "$OKAPI" doctor"#));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(text.contains("as root: `okapi doctor --enable-uring`"), "{text}");

    let output = with_switch("N", &format!(r#"{NOBODY} "$OKAPI" doctor --enable-uring"#));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    assert!(complaint.contains("hint: as root"), "{complaint}");
}

#[test]
fn stat_tells_the_transport_and_mount_takes_it_as_an_option() {
    for (options, expected) in [
        (["--transport", "uring"], "io_uring, "),
        (
            ["--transport", "classic"],
            "classic, not io_uring: it was asked for",
        ),
        (
            ["-o", "transport=classic"],
            "classic, not io_uring: it was asked for",
        ),
    ] {
        let drive = Drive::mount(&[&["--size", "16M"], &options[..]].concat());
        let transport = drive.stat()["transport"].as_str().unwrap().to_owned();
        assert!(transport.starts_with(expected), "{options:?}: {transport}");
        drive.unmount();
    }
}

#[test]
fn other_transports_are_refused() {
    let dir = Scratch::new();
    for options in [["--transport", "io_uring"], ["-o", "transport=fast"]] {
        let output = Command::new(binary())
            .arg("mount")
            .args(options)
            .arg(dir.path())
            .output()
            .unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{complaint}");
        assert!(complaint.contains("auto, uring or classic"), "{complaint}");
    }
}

#[test]
fn the_longest_names_targets_and_attributes_come_back_whole() {
    drives().for_each(|drive| use_long_names(&drive));
}

fn use_long_names(drive: &Drive) {
    let name = "n".repeat(255);
    let path = drive.path().join(&name);
    fs::write(&path, "bytes").unwrap();
    let listed: Vec<_> = fs::read_dir(drive.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(listed, [name.as_str()]);
    let other = drive.path().join("m".repeat(255));
    fs::rename(&path, &other).unwrap();
    let too_long = fs::write(drive.path().join("n".repeat(256)), "bytes").unwrap_err();
    assert_eq!(too_long.raw_os_error(), Some(libc::ENAMETOOLONG));

    let target = "t/".repeat(2047) + "t";
    let link = drive.path().join("l".repeat(255));
    symlink(&target, &link).unwrap();
    assert_eq!(fs::read_link(&link).unwrap().to_str(), Some(target.as_str()));

    let value: Vec<u8> = (0..65_536_u32).map(|at| (at % 251) as u8).collect();
    let attribute = CString::new("user.".to_owned() + &"a".repeat(250)).unwrap();
    sys::set_xattr(&other, true, &attribute, &value, 0).unwrap();
    assert_eq!(sys::get_xattr(&other, true, &attribute), Ok(value));
    assert_eq!(sys::list_xattrs(&other, true), Ok(vec![attribute.into_bytes()]));
    drive.check();
}

#[test]
fn the_largest_and_smallest_reads_and_writes_come_back_whole() {
    drives().for_each(|drive| read_and_write_all_sizes(&drive));
}

fn read_and_write_all_sizes(drive: &Drive) {
    let bytes: Vec<u8> = (0..(1_u32 << 20) + 8192).map(|at| (at % 251) as u8).collect();
    let path = drive.path().join("file");
    let maker = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    let direct = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(&path)
        .unwrap();
    let cached = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    for (writer, what) in [(&maker, "past the page cache"), (&cached, "by the page cache")] {
        for offset in [0, 4096, 12_345] {
            let len = 1 << 20;
            assert_eq!(
                writer.write_at(&bytes[..len], offset).unwrap(),
                len,
                "{what}, in one go"
            );
            writer.write_all_at(b"!", offset + 77).unwrap();
            let mut found = vec![0; len];
            cached.read_exact_at(&mut found, offset).unwrap();
            assert_eq!(
                (found[77], &found[..77], &found[78..]),
                (b'!', &bytes[..77], &bytes[78..len]),
                "{what}"
            );
        }
    }
    let mut found = vec![0; 2 << 20];
    let start = found.as_ptr().align_offset(4096);
    let found = &mut found[start..start + (1 << 20)];
    assert_eq!(
        direct.read_at(found, 8192).unwrap(),
        1 << 20,
        "O_DIRECT, in one go"
    );
    let mut expected = vec![0; 1 << 20];
    cached.read_exact_at(&mut expected, 8192).unwrap();
    assert!(found == expected);
    drive.check();
}
