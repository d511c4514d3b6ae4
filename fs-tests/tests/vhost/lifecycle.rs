//! How the export of a disk begins and ends: its command, its socket, virtual machines that come and go.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::thread;

use fs_tests::export::{Export, command};
use fs_tests::harness::{Drive, Place, Scratch, binary, run};
use fs_tests::virtio::{Data, Machine, kind, status};
use nix::sys::signal::Signal;

use crate::support::{drive_with, eventually, held_bytes, image, pattern};

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// The command for an image, without a socket.
fn export(drive: &Drive, image: &str) -> Command {
    let mut command = command(drive, "vhost-user-blk");
    command.arg(image);
    command
}

#[track_caller]
fn fails(command: &mut Command, code: i32, words: &[&str]) {
    let output = command.stderr(std::process::Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "`{word}` in: {said}");
    }
}

#[test]
fn a_machine_that_left_can_come_back() {
    let drive = drive_with(1 << 20);
    let export = Export::vhost(&drive, "disk", &["--queues", "2"]);
    let threads = || count_threads(drive.pid(), &["vhost", "vring"]);
    let files = || fs::read_dir(format!("/proc/{}/fd", drive.pid())).unwrap().count();
    let mut machine = Machine::connect(&export.socket(), 2);
    let busy = (threads(), files());
    for seed in 0..20 {
        machine.write(0, 0, &pattern(seed, 4096));
        drop(machine);
        machine = Machine::connect(&export.socket(), 2);
        assert_eq!(machine.read(1, 0, 4096), pattern(seed, 4096));
    }
    eventually("nothing is left of those before", || (threads(), files()) == busy);
}

/// Threads of a process whose names begin with one of these.
fn count_threads(pid: u32, names: &[&str]) -> usize {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let comms = tasks
        .flatten()
        .flat_map(|task| fs::read_to_string(task.path().join("comm")));
    comms
        .filter(|comm| names.iter().any(|name| comm.starts_with(name)))
        .count()
}

#[test]
fn one_machine_uses_a_disk_and_the_next_one_waits() {
    let drive = drive_with(1 << 20);
    let export = Export::vhost(&drive, "disk", &[]);
    let mut first = Machine::connect(&export.socket(), 1);
    thread::scope(|scope| {
        let second = scope.spawn(|| Machine::connect(&export.socket(), 1).read(0, 0, 4096));
        first.write(0, 0, &pattern(1, 4096));
        drop(first);
        assert_eq!(second.join().unwrap(), pattern(1, 4096));
    });
}

#[test]
fn an_export_ends_with_its_command_and_takes_its_socket_along() {
    let drive = drive_with(1 << 20);
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
        let mut running = Export::vhost(&drive, "disk", &[]);
        let socket = running.socket();
        assert_eq!(running.address, socket.display().to_string());
        let metadata = fs::symlink_metadata(&socket).unwrap();
        assert_eq!((metadata.mode() & 0o777, metadata.uid()), (0o600, 0));
        let mut machine = Machine::connect(&socket, 1);
        machine.write(0, 0, &pattern(1, 512));
        running.signal(signal);
        eventually("the socket goes", || !exists(&socket));
        let status = running.wait();
        assert_eq!(status.success(), signal != Signal::SIGKILL, "{signal}: {status}");
    }
    let idle = Export::vhost(&drive, "disk", &[]);
    assert!(idle.stop().success(), "also where nobody is connected");
    eventually("no thread stays", || {
        count_threads(drive.pid(), &["vhost", "vring"]) == 0
    });
    drive.unmount();
}

#[test]
fn an_export_that_is_started_again_goes_on_where_it_was() {
    let drive = drive_with(1 << 20);
    let dir = Scratch::new();
    let socket = dir.path().join("s");
    for round in 0..3 {
        let mut running = export(&drive, "disk")
            .arg("--socket")
            .arg(&socket)
            .spawn()
            .unwrap();
        eventually("it listens", || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
        let mut machine = Machine::connect(&socket, 1);
        let expected = if round == 0 {
            vec![0; 4096]
        } else {
            pattern(round, 4096)
        };
        assert_eq!(machine.read(0, 0, 4096), expected);
        machine.write(0, 0, &pattern(round + 1, 4096));
        running.kill().unwrap();
        running.wait().unwrap();
        eventually("the socket goes", || !exists(&socket));
    }
}

#[test]
fn what_cannot_be_exported_is_refused() {
    let drive = drive_with(1 << 20);
    fs::create_dir(drive.path().join("images/directory")).unwrap();
    let dir = Scratch::new();
    let socket = dir.path().join("s");
    for name in ["none", "directory", "", "../images/disk"] {
        fails(
            export(&drive, name).arg("--socket").arg(&socket),
            1,
            &["there is no image", name, "hint"],
        );
        assert!(!exists(&socket), "no socket stays behind");
    }
    for queues in ["0", "65", "x"] {
        let mut command = export(&drive, "disk");
        fails(
            command.arg("--socket").arg(&socket).args(["--queues", queues]),
            2,
            &["--queues"],
        );
    }
    fails(&mut export(&drive, "disk"), 2, &["--socket"]);
    fs::write(&socket, "precious").unwrap();
    fails(
        export(&drive, "disk").arg("--socket").arg(&socket),
        1,
        &["exists and is no socket"],
    );
    fs::remove_file(&socket).unwrap();
    drop(UnixListener::bind(&socket).unwrap());
    let mut running = export(&drive, "disk")
        .arg("--socket")
        .arg(&socket)
        .spawn()
        .unwrap();
    eventually("a dead socket is replaced", || {
        std::os::unix::net::UnixStream::connect(&socket).is_ok()
    });
    fails(
        export(&drive, "disk").arg("--socket").arg(&socket),
        1,
        &["somebody listens", "another path"],
    );
    running.kill().unwrap();
    running.wait().unwrap();
    eventually("the socket goes", || !exists(&socket));
}

#[test]
fn each_machine_gets_what_has_the_name_by_then() {
    let drive = drive_with(1 << 20);
    let export = Export::vhost(&drive, "disk", &["--queues", "1"]);
    let mut machine = Machine::connect(&export.socket(), 1);
    machine.write(0, 0, &pattern(1, 1 << 20));
    let path = drive.path().join("images/disk");
    fs::remove_file(&path).unwrap();
    assert!(machine.read(0, 0, 1 << 20) == pattern(1, 1 << 20), "it lives on");
    assert!(held_bytes(&drive) >= 1 << 20);
    drop(machine);
    eventually("its memory is free", || held_bytes(&drive) == 0);
    let nothing = Machine::try_connect(&export.socket(), 1, u64::MAX);
    assert!(nothing.is_err(), "there is no such image");
    image(&drive, "disk").set_len(2 << 20).unwrap();
    let mut machine = Machine::connect(&export.socket(), 1);
    let answer = machine.request(0, kind::IN, (1 << 20) / 512, Data::In(512));
    assert_eq!(answer.status, status::OK, "it is longer than the old one");
}

#[test]
fn an_image_is_in_use_while_a_machine_is_connected() {
    let drive = drive_with(1 << 20);
    let export = Export::vhost(&drive, "disk", &[]);
    let remove = || {
        let mut command = Command::new(binary());
        command.args(["image", "rm", "disk", "--mount"]).arg(drive.path());
        command
    };
    let machine = Machine::connect(&export.socket(), 1);
    fails(&mut remove(), 1, &["`disk` is in use"]);
    drop(machine);
    eventually("it can be removed", || {
        remove().output().unwrap().status.success()
    });
}

#[test]
fn an_image_made_shorter_reads_as_zeros_behind_its_end_and_grows_again() {
    let drive = drive_with(1 << 20);
    let export = Export::vhost(&drive, "disk", &[]);
    let mut machine = Machine::connect(&export.socket(), 1);
    machine.write(0, 0, &pattern(1, 1 << 20));
    let file = image(&drive, "disk");
    file.set_len(10_000).unwrap();
    let expected = [pattern(1, 10_000), vec![0; 92_400]].concat();
    assert!(machine.read(0, 0, 102_400) == expected);
    machine.write(0, 51_200, &pattern(2, 512));
    assert_eq!(file.metadata().unwrap().len(), 51_712);
}

#[test]
fn a_low_bound_on_open_files_does_not_stop_machines() {
    let drive = drive_with(1 << 20);
    run(Command::new("prlimit")
        .args(["--nofile=40:4096", "--pid"])
        .arg(drive.pid().to_string()));
    let exports: Vec<_> = (0..20)
        .map(|_| Export::vhost(&drive, "disk", &["--queues", "1"]))
        .collect();
    let mut machines: Vec<_> = exports
        .iter()
        .map(|export| Machine::connect(&export.socket(), 1))
        .collect();
    for (seed, machine) in (0..).zip(&mut machines) {
        machine.write(0, 0, &pattern(seed, 4096));
    }
    for machine in &mut machines {
        assert_eq!(machine.read(0, 0, 4096), pattern(19, 4096));
    }
}

/// The number of open files ends while the queues' threads are started, one after the other.
#[test]
fn threads_of_a_machine_that_cannot_be_served_do_not_stay() {
    let drive = drive_with(1 << 20);
    let export = Export::vhost(&drive, "disk", &["--queues", "64"]);
    let queues = || count_threads(drive.pid(), &["vring"]);
    let limit = |files: &str| {
        run(Command::new("prlimit")
            .args([&format!("--nofile={files}:"), "--pid"])
            .arg(drive.pid().to_string()));
    };
    let files = fs::read_dir(format!("/proc/{}/fd", drive.pid())).unwrap().count();
    // Each queue needs two for its end, and three more when its thread starts.
    limit(&(files + 2 * 65 + 3 * 32).to_string());
    let before = pauses(drive.pid());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| Machine::connect(&export.socket(), 64));
        eventually("it is tried again and again", || {
            pauses(drive.pid()) > before + 20
        });
        limit("4096");
        let mut machine = waiting.join().unwrap();
        machine.write(63, 0, &pattern(1, 4096));
        eventually("only its own threads are there", || queues() == 64);
    });
    eventually("no thread stays", || queues() == 0);
}

/// How often the thread that waits for machines has paused.
fn pauses(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let is_waiting = |task: &fs::DirEntry| {
        let name = fs::read_to_string(task.path().join("comm"));
        name.is_ok_and(|name| name == "vhost\n")
    };
    let task = tasks.flatten().find(is_waiting).unwrap();
    let status = fs::read_to_string(task.path().join("status")).unwrap();
    let count = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    count.unwrap().trim().parse().unwrap()
}

#[test]
fn an_exported_drive_is_in_use() {
    let drive = drive_with(1 << 20);
    let export = Export::vhost(&drive, "disk", &[]);
    let mut machine = Machine::connect(&export.socket(), 1);
    let umount = |options: &[&str]| {
        let mut command = Command::new(binary());
        command.arg("umount").args(options).arg(drive.path());
        command
    };
    assert!(!umount(&[]).output().unwrap().status.success());
    machine.write(0, 0, &pattern(1, 512));
    run(&mut umount(&["--lazy"]));
    machine.write(0, 512, &pattern(1, 512));
    assert!(export.stop().success());
}
