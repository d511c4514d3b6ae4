//! How drives come, how they go, and what is left of them.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use fs_tests::harness::{Scratch, run};
use nix::sys::signal::Signal;

use crate::support::{
    Detached, Socket, eventually, fails, is_mounted, mount_line, okapi, served_by, stat, text,
};

#[test]
fn a_drive_comes_when_asked_and_leaves_nothing() {
    let dir = Scratch::new();
    let output = run(okapi(&["mount", "--size", "64M"]).arg(dir.path()));
    let drive = Detached {
        pid: served_by(dir.path()),
        dir,
    };
    let place = drive.path().display();
    assert_eq!(
        text(&output),
        format!(
            "okapi: {place}: 64.0 MiB, blocks of 64 KiB, {}, pid {}\n",
            stat(drive.path())["transport"]
                .as_str()
                .and_then(|text| text.split(',').next())
                .expect("a drive has a transport"),
            drive.pid
        )
    );
    assert!(
        mount_line(drive.path())
            .is_some_and(|line| line.contains(" fuse.okapi okapi ") && line.contains("nosuid,nodev"))
    );
    fs::write(drive.path().join("file"), "bytes").expect("the drive takes files");

    let socket = Socket::of(drive.path());
    assert_eq!(
        fs::metadata(&socket.path).expect("there is a socket").mode() & 0o777,
        0o600
    );
    drive.unmount();
    eventually("the program ends with the drive", || !drive.is_running());
    assert!(!is_mounted(drive.path()) && socket.is_gone());
    assert_eq!(
        fs::read_dir(drive.path())
            .expect("the directory is there")
            .count(),
        0
    );
}

#[test]
fn the_program_leaves_the_terminal_and_the_directory() {
    let drive = Detached::mount(&[]);
    let link = |what: &str| fs::read_link(format!("/proc/{}/{what}", drive.pid)).expect("the program runs");
    assert_eq!(link("cwd"), Path::new("/"));
    for descriptor in ["fd/0", "fd/1", "fd/2"] {
        assert_eq!(link(descriptor), Path::new("/dev/null"));
    }
    let stat = fs::read_to_string(format!("/proc/{}/stat", drive.pid)).expect("the program runs");
    let session = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.split(' ').nth(4))
        .map(str::to_owned);
    assert_eq!(
        session,
        Some(drive.pid.to_string()),
        "it leads a session of its own"
    );
}

#[test]
fn a_killed_program_is_reported_with_the_cure() {
    let drive = Detached::mount(&[]);
    let socket = Socket::of(drive.path());
    drive.signal(Signal::SIGKILL);
    eventually("a killed program ends", || !drive.is_running());
    fails(
        okapi(&["stat"]).arg(drive.path()),
        1,
        &["does not answer", "okapi umount"],
    );
    fails(
        okapi(&["mount"]).arg(drive.path()),
        1,
        &["was killed", "hint: `okapi umount"],
    );
    drive.unmount();
    assert!(!is_mounted(drive.path()) && socket.is_gone());

    let again = Detached::mount_on(Scratch::new(), &[]);
    fs::write(again.path().join("file"), "bytes").expect("the drive takes files");
}

#[test]
fn signals_unmount() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let drive = Detached::mount(&[]);
        let socket = Socket::of(drive.path());
        drive.signal(signal);
        eventually("the program ends", || !drive.is_running());
        assert!(!is_mounted(drive.path()) && socket.is_gone(), "{signal}");
    }
}

#[test]
fn a_signal_takes_a_drive_in_use_out_of_the_tree_until_its_users_let_go() {
    let drive = Detached::mount(&[]);
    let path = drive.path().join("file");
    fs::write(&path, "bytes").expect("the drive takes files");
    let mut file = fs::File::open(&path).expect("the file is there");
    drive.signal(Signal::SIGTERM);
    eventually("the drive is out of the tree", || !is_mounted(drive.path()));
    let mut bytes = String::new();
    file.read_to_string(&mut bytes)
        .expect("the file can still be read");
    assert!(bytes == "bytes" && drive.is_running());
    drop(file);
    eventually("the program ends", || !drive.is_running());
}

#[test]
fn umount_of_a_drive_in_use_is_refused_unless_lazy() {
    let drive = Detached::mount(&[]);
    let file = fs::File::create(drive.path().join("file")).expect("the drive takes files");
    fails(okapi(&["umount"]).arg(drive.path()), 1, &["in use", "--lazy"]);
    assert!(is_mounted(drive.path()) && drive.is_running());
    run(okapi(&["umount", "--lazy"]).arg(drive.path()));
    assert!(!is_mounted(drive.path()) && drive.is_running());
    drop(file);
    eventually("the program ends", || !drive.is_running());
}

#[test]
fn umount_from_outside_ends_the_program() {
    let drive = Detached::mount(&[]);
    let socket = Socket::of(drive.path());
    run(Command::new("umount").arg(drive.path()));
    eventually("the program ends", || !drive.is_running());
    assert!(socket.is_gone());
}

#[test]
fn umount_spares_what_is_not_a_drive() {
    let dir = Scratch::new();
    fails(
        okapi(&["umount"]).arg(dir.path()),
        1,
        &["not the mountpoint of an okapi drive"],
    );
    fails(&mut okapi(&["umount", "/proc"]), 1, &["a mount of type proc"]);
    fails(&mut okapi(&["umount", "/no/such/place"]), 1, &["/no/such/place"]);
    assert!(is_mounted(Path::new("/proc")));
}

#[test]
fn a_mount_beneath_a_drive_stays_when_the_drive_goes() {
    let dir = Scratch::new();
    run(Command::new("mount")
        .args(["-t", "tmpfs", "okapi-test"])
        .arg(dir.path()));
    let drive = Detached::mount_on(dir, &[]);
    run(Command::new("umount").arg(drive.path()));
    eventually("the program ends", || !drive.is_running());
    let beneath = mount_line(drive.path());
    run(Command::new("umount").arg(drive.path()));
    assert!(beneath.is_some_and(|line| line.contains(" - tmpfs ")));
}
