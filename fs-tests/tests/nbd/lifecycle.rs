//! How an export begins and ends: its command, its socket, the drive beneath.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::process::Command;

use fs_tests::harness::{Place, Scratch, binary, run};
use fs_tests::nbd::Client;
use nix::sys::signal::Signal;
use okapi::limits::EXPORTS_MAX;

use crate::support::{Export, drive_with, eventually, exists, export, pattern};

#[test]
fn an_export_ends_with_its_command_and_takes_its_socket_along() {
    let drive = drive_with(&[("disk", 1 << 20)]);
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
        let mut running = Export::start(&drive);
        let socket = running.socket();
        let (mut client, _) = Client::open(&socket, "disk");
        client.write(0, b"x").unwrap();
        running.signal(signal);
        assert!(client.is_closed(), "{signal}: clients are sent away");
        eventually("the socket goes", || !exists(&socket));
        let status = running.wait();
        assert_eq!(status.success(), signal != Signal::SIGKILL, "{signal}: {status}");
    }
}

#[test]
fn a_socket_is_for_its_owner_alone() {
    let drive = drive_with(&[]);
    let export = Export::start(&drive);
    let socket = fs::symlink_metadata(export.socket()).unwrap();
    assert_eq!((socket.mode() & 0o777, socket.uid()), (0o600, 0));
    assert_eq!(
        export.address,
        format!("nbd+unix:///?socket={}", export.socket().display())
    );
    assert!(export.stop().success());
}

#[test]
fn without_a_path_the_socket_is_beside_the_control_socket() {
    let drive = drive_with(&[("disk", 4096)]);
    let mut command = export(&drive).spawn().unwrap();
    let mut address = String::new();
    let stdout = command.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut address).unwrap();
    let path = address.trim_end().strip_prefix("nbd+unix:///?socket=").unwrap();
    assert!(
        path.starts_with("/run/okapi/") && path.ends_with(".nbd.sock"),
        "{path}"
    );
    Client::open(path.as_ref(), "disk");
    fails(&mut export(&drive), 1, &["somebody listens", "another path"]);
    command.kill().unwrap();
    command.wait().unwrap();
    eventually("the socket goes", || !exists(path.as_ref()));
}

#[test]
fn a_dead_socket_is_replaced_and_nothing_else_is() {
    let drive = drive_with(&[("disk", 4096)]);
    let dir = Scratch::new();
    let path = dir.path().join("s");
    drop(UnixListener::bind(&path).unwrap());
    let mut at_path = export(&drive);
    let mut first = at_path.arg("--unix").arg(&path).spawn().unwrap();
    eventually("the socket is replaced", || Client::connect(&path).is_ok());
    let again = |words: &[&str]| fails(export(&drive).arg("--unix").arg(&path), 1, words);
    again(&["somebody listens", "another path"]);
    assert!(Client::connect(&path).is_ok(), "the first export goes on");
    first.kill().unwrap();
    first.wait().unwrap();
    eventually("the socket goes", || !exists(&path));

    fs::write(&path, "precious").unwrap();
    again(&["exists and is no socket"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    again(&["exists and is no socket"]);
    fs::remove_dir(&path).unwrap();
    let nowhere = dir.path().join("none/s");
    fails(export(&drive).arg("--unix").arg(nowhere), 1, &["cannot listen"]);
}

#[test]
fn a_port_is_open_to_this_machine_alone_unless_asked() {
    let drive = drive_with(&[("disk", 4096)]);
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:10809"] {
        fails(
            export(&drive).args(["--tcp", address]),
            2,
            &["other machines", "--allow-remote"],
        );
    }
    fails(export(&drive).args(["--tcp", "10809"]), 2, &["--tcp"]);
    let export = Export::with(&drive, &["--tcp", "127.0.0.1:0"]);
    let address = export
        .address
        .strip_prefix("nbd://")
        .unwrap()
        .trim_end_matches('/');
    let mut client = Client::connect_tcp(address).unwrap();
    client.structure();
    assert_eq!(client.go("disk").unwrap().size, 4096);
    client.write(0, &pattern(1, 4096)).unwrap();
    assert_eq!(client.read(0, 4096).unwrap(), pattern(1, 4096));
    assert!(export.stop().success());
    assert!(client.is_closed());
}

#[test]
fn exports_have_a_bound_and_leave_the_control_socket_free() {
    let drive = drive_with(&[("disk", 4096)]);
    let mut exports: Vec<_> = (0..EXPORTS_MAX).map(|_| Export::start(&drive)).collect();
    let dir = Scratch::new();
    let one_more = || {
        let mut command = export(&drive);
        command.arg("--unix").arg(dir.path().join("s"));
        command
    };
    fails(&mut one_more(), 1, &["too many exports", "hint: stop one"]);
    drive.check();
    assert!(exports.pop().unwrap().stop().success());
    let last = Export::start(&drive);
    Client::open(&last.socket(), "disk");
}

#[test]
fn an_exported_drive_is_in_use() {
    let drive = drive_with(&[("disk", 4096)]);
    let export = Export::start(&drive);
    let output = Command::new(binary())
        .arg("umount")
        .arg(drive.path())
        .output()
        .unwrap();
    assert!(!output.status.success(), "the export holds the drive");
    let (mut client, _) = Client::open(&export.socket(), "disk");
    client.write(0, b"still here").unwrap();
    run(Command::new(binary())
        .args(["umount", "--lazy"])
        .arg(drive.path()));
    client.write(0, b"until the export ends").unwrap();
    assert!(export.stop().success());
    assert!(client.is_closed());
}

#[test]
fn an_export_ends_with_the_program_of_its_drive() {
    let drive = drive_with(&[("disk", 4096)]);
    let export = Export::start(&drive);
    let (mut client, _) = Client::open(&export.socket(), "disk");
    let daemon = nix::unistd::Pid::from_raw(drive.pid().cast_signed());
    nix::sys::signal::kill(daemon, Signal::SIGKILL).unwrap();
    assert!(client.is_closed());
    assert_eq!(export.wait().code(), Some(1));
}

#[test]
fn the_image_s_own_permissions_do_not_bind_its_clients() {
    let drive = drive_with(&[("disk", 4096)]);
    let path = drive.path().join("images/disk");
    fs::set_permissions(&path, Permissions::from_mode(0o4111)).unwrap();
    let export = Export::start(&drive);
    let (mut client, _) = Client::open(&export.socket(), "disk");
    client.write(0, b"changed").unwrap();
    let mode = fs::metadata(&path).unwrap().mode() & 0o7777;
    assert_eq!(mode, 0o111, "a change takes set-user-ID away");
}

#[track_caller]
fn fails(command: &mut Command, code: i32, words: &[&str]) {
    let output = command.stderr(std::process::Stdio::piped()).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{complaint}");
    for word in words {
        assert!(complaint.contains(word), "no {word:?} in: {complaint}");
    }
}
