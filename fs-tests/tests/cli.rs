//! The program as people run it: what it prints, how it exits, what it leaves behind.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use fs_tests::harness::{Scratch, binary, run};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// A user without privileges.
const NOBODY: u32 = 65_534;

/// A drive mounted by `okapi mount` without `--foreground`: served by a program that left the terminal.
struct Detached {
    dir: Scratch,
    pid: i32,
}

impl Detached {
    fn mount(options: &[&str]) -> Self {
        Self::mount_on(Scratch::new(), options)
    }

    fn mount_on(dir: Scratch, options: &[&str]) -> Self {
        run(okapi(&["mount", "--size", "64M"]).args(options).arg(dir.path()));
        let pid = served_by(dir.path());
        Self { dir, pid }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid), signal).expect("the program runs");
    }

    fn is_running(&self) -> bool {
        is_running(self.pid)
    }

    fn unmount(&self) {
        run(okapi(&["umount"]).arg(self.path()));
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        if is_mounted(self.path()) {
            let _ = okapi(&["umount", "--lazy"]).arg(self.path()).output();
        }
    }
}

fn okapi(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).stdin(Stdio::null());
    command
}

fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(program)
        .env_remove("XDG_RUNTIME_DIR")
        .stdin(Stdio::null());
    command
}

fn stat(mountpoint: &Path) -> Value {
    let output = run(okapi(&["stat", "--json"]).arg(mountpoint));
    serde_json::from_slice(&output.stdout).expect("--json prints JSON")
}

fn served_by(mountpoint: &Path) -> i32 {
    let pid = stat(mountpoint)["pid"].as_i64().expect("a drive has a program");
    i32::try_from(pid).expect("process numbers have 32 bits")
}

/// A process that has ended counts as gone, whether its parent has noticed or not.
fn is_running(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().starts_with(" Z"))
}

fn mount_line(mountpoint: &Path) -> Option<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    let path = mountpoint.to_str().expect("our paths are text");
    table
        .lines()
        .find(|line| line.split(' ').nth(4) == Some(path))
        .map(str::to_owned)
}

fn is_mounted(mountpoint: &Path) -> bool {
    mount_line(mountpoint).is_some()
}

/// The control socket of a drive, whose owner runs as this user.
fn socket(mountpoint: &Path) -> PathBuf {
    let line = mount_line(mountpoint).expect("the drive is mounted");
    let device = line.split(' ').nth(2).expect("a mount has a device number");
    PathBuf::from(format!("/run/okapi/{device}.sock"))
}

#[track_caller]
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Expects a command to fail with this code, and its complaint, of one line and perhaps a hint, to have these words.
#[track_caller]
fn fails(command: &mut Command, code: i32, words: &[&str]) -> String {
    let output = command.output().expect("the program runs");
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{command:?}: {complaint}");
    for word in words {
        assert!(
            complaint.contains(word),
            "{command:?}: no {word:?} in: {complaint}"
        );
    }
    assert!(output.stdout.is_empty(), "a failure prints nothing to stdout");
    if complaint.starts_with("okapi: ") {
        let mut lines = complaint.lines().skip(1);
        assert!(
            lines.all(|line| line.starts_with("hint: ")),
            "one line and hints: {complaint}"
        );
    }
    complaint
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("the output is text")
}

fn put(drive: &Detached, arguments: &[&str], bytes: &[u8]) -> Output {
    let mut child = okapi(&["grid", "put", "--mount"])
        .arg(drive.path())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    // A program that refuses does not read; it says why.
    let _ = stdin.write_all(bytes);
    drop(stdin);
    child.wait_with_output().expect("the program ends")
}

fn get(drive: &Detached, arguments: &[&str]) -> Vec<u8> {
    run(okapi(&["grid", "get", "--mount"])
        .arg(drive.path())
        .args(arguments))
    .stdout
}

fn keys(drive: &Detached, arguments: &[&str]) -> String {
    text(&run(okapi(&["grid", "keys", "--mount"])
        .arg(drive.path())
        .args(arguments)))
}

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
        format!("okapi: {place}: 64.0 MiB, blocks of 64 KiB, pid {}\n", drive.pid)
    );
    assert!(
        mount_line(drive.path())
            .is_some_and(|line| line.contains(" fuse.okapi okapi ") && line.contains("nosuid,nodev"))
    );
    fs::write(drive.path().join("file"), "bytes").expect("the drive takes files");

    let socket = socket(drive.path());
    assert_eq!(
        fs::metadata(&socket).expect("there is a socket").mode() & 0o777,
        0o600
    );
    drive.unmount();
    assert!(!drive.is_running(), "umount returns when the program has ended");
    assert!(!is_mounted(drive.path()) && !socket.exists());
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
fn options_shape_the_drive() {
    let options = [
        "--mode",
        "750",
        "--uid",
        "1",
        "--gid",
        "2",
        "--inodes",
        "10",
        "--block-size",
        "4K",
        "-o",
        "noexec,nofail",
    ];
    let drive = Detached::mount(&options);
    let root = fs::metadata(drive.path()).expect("the drive answers");
    assert_eq!((root.mode() & 0o7777, root.uid(), root.gid()), (0o750, 1, 2));
    assert!(mount_line(drive.path()).is_some_and(|line| line.contains("noexec")));
    let stat = stat(drive.path());
    assert_eq!(stat["size_bytes"], 64 << 20);
    assert_eq!(
        (&stat["block_size"], &stat["inodes_max"]),
        (&4096.into(), &10.into())
    );
    for number in 0..9 {
        fs::write(drive.path().join(number.to_string()), "").expect("ten inodes with the root");
    }
    let full = fs::write(drive.path().join("9"), "").expect_err("the eleventh inode");
    assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
}

#[test]
fn the_root_directory_is_like_that_of_tmpfs_and_flags_precede_options() {
    let drive = Detached::mount(&["-o", "size=4M,mode=700"]);
    assert_eq!(
        fs::metadata(drive.path()).expect("the drive answers").mode() & 0o7777,
        0o700
    );
    assert_eq!(stat(drive.path())["size_bytes"], 64 << 20);
    let drive = Detached::mount(&[]);
    assert_eq!(
        fs::metadata(drive.path()).expect("the drive answers").mode() & 0o7777,
        0o1777
    );
}

#[test]
fn a_read_only_drive_refuses_changes() {
    let drive = Detached::mount(&["--read-only"]);
    let refused = fs::write(drive.path().join("file"), "").expect_err("the drive is read-only");
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
}

#[test]
fn wrong_values_are_named_and_nothing_is_mounted() {
    let dir = Scratch::new();
    let wrong: [(&[&str], i32, &str); 16] = [
        (&["--size", "x"], 2, "a size is a number"),
        (&["--size", "101%"], 2, "1% to 100%"),
        (&["--size", "1K"], 2, "too small"),
        (&["--size", "4096T"], 1, "does not fit in the memory"),
        (&["--block-size", "3000"], 2, "power of two"),
        (&["--block-size", "2M"], 2, "power of two"),
        (&["--inodes", "0"], 2, "at least 1 inode"),
        (&["--mode", "888"], 2, "octal"),
        (&["--uid", "no-such-user"], 2, "no such user"),
        (&["--gid=-1"], 2, "no such group"),
        (&["--allow-other=perhaps"], 2, "perhaps"),
        (&["-o", "size=2X"], 2, "`size=2X`"),
        (&["-o", "hugepages"], 2, "`hugepages`"),
        (&["-o", "rw,mode=9"], 2, "`mode=9`"),
        (&["--no-such-flag"], 2, "--no-such-flag"),
        (&["second-mountpoint"], 2, "unexpected argument"),
    ];
    for (arguments, code, words) in wrong {
        fails(okapi(&["mount"]).arg(dir.path()).args(arguments), code, &[words]);
        assert!(!is_mounted(dir.path()), "{arguments:?}");
    }
    fails(&mut okapi(&["mount"]), 2, &["<MOUNTPOINT>"]);
    fails(&mut okapi(&["no-such-command"]), 2, &["no-such-command"]);
}

#[test]
fn a_mountpoint_is_an_existing_directory() {
    let dir = Scratch::new();
    let missing = dir.path().join("missing");
    fails(
        okapi(&["mount"]).arg(&missing),
        1,
        &["does not exist", "hint: `mkdir -p"],
    );
    let file = dir.path().join("file");
    fs::write(&file, "").expect("the directory is writable");
    fails(okapi(&["mount"]).arg(&file), 1, &["is no directory"]);
    fails(okapi(&["mount"]).arg(file.join("below")), 1, &["Not a directory"]);
    fs::remove_file(file).expect("the file is ours");
}

#[test]
fn a_directory_with_entries_is_covered_and_comes_back() {
    let dir = Scratch::new();
    let file = dir.path().join("file");
    fs::write(&file, "below").expect("the directory is writable");
    let drive = Detached::mount_on(dir, &[]);
    assert!(!file.exists());
    drive.unmount();
    assert_eq!(fs::read_to_string(&file).expect("the file is back"), "below");
    fs::remove_file(file).expect("the file is ours");
}

#[test]
fn a_relative_path_and_a_symlink_lead_to_the_drive() {
    let dir = Scratch::new();
    let link = dir.path().join("link");
    let target = Scratch::new();
    symlink(target.path(), &link).expect("a fresh name");
    let drive = Detached::mount_on(target, &[]);
    assert_eq!(stat(&link)["pid"], drive.pid);
    let name = drive.path().file_name().expect("a directory has a name");
    run(okapi(&["umount"])
        .arg(name)
        .current_dir(drive.path().parent().expect("it has a parent")));
    assert!(!drive.is_running());
    fs::remove_file(link).expect("the link is ours");
}

#[test]
fn a_second_drive_on_the_same_place_is_refused() {
    let drive = Detached::mount(&[]);
    fails(
        okapi(&["mount"]).arg(drive.path()),
        1,
        &["mounted on", "already", "hint: `okapi umount"],
    );
    fails(
        okapi(&["mount", "--foreground"]).arg(drive.path()),
        1,
        &["already"],
    );
    assert!(drive.is_running());
}

#[test]
fn a_killed_program_is_reported_with_the_cure() {
    let drive = Detached::mount(&[]);
    let socket = socket(drive.path());
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
    assert!(!is_mounted(drive.path()) && !socket.exists());

    let again = Detached::mount_on(Scratch::new(), &[]);
    fs::write(again.path().join("file"), "bytes").expect("the drive takes files");
}

#[test]
fn signals_unmount() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let drive = Detached::mount(&[]);
        let socket = socket(drive.path());
        drive.signal(signal);
        eventually("the program ends", || !drive.is_running());
        assert!(!is_mounted(drive.path()) && !socket.exists(), "{signal}");
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
    let socket = socket(drive.path());
    run(Command::new("umount").arg(drive.path()));
    eventually("the program ends", || !drive.is_running());
    assert!(!socket.exists());
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

#[test]
fn stat_counts_bytes_and_requests() {
    let drive = Detached::mount(&[]);
    fs::write(drive.path().join("file"), vec![7; 1 << 20]).expect("the drive takes files");
    let stat = stat(drive.path());
    assert_eq!(
        stat["mountpoint"],
        drive.path().to_str().expect("our paths are text")
    );
    assert_eq!(
        (&stat["inodes"], &stat["logical_bytes"]),
        (&2.into(), &(1 << 20).into())
    );
    let bytes = |name: &str| stat[name].as_u64().expect("a number of bytes");
    assert!(bytes("held_bytes") >= 1 << 20 && bytes("resident_bytes") >= 1 << 20);
    assert_eq!(
        bytes("free_bytes"),
        bytes("size_bytes") - bytes("held_bytes") - bytes("metadata_bytes")
    );
    assert!(
        stat["requests"]["write"]
            .as_u64()
            .is_some_and(|writes| writes >= 1)
    );

    let human = text(&run(okapi(&["stat"]).arg(drive.path())));
    for word in [
        "64.0 MiB",
        "stored",
        "held",
        "shared",
        "free",
        "resident",
        "inodes",
        "requests",
        "namespace",
    ] {
        assert!(human.contains(word), "no {word} in {human}");
    }
}

#[test]
fn making_a_file_costs_five_requests() {
    let drive = Detached::mount(&[]);
    let requests = || {
        let all = stat(drive.path())["requests"].clone();
        all.as_object()
            .expect("requests by name")
            .values()
            .filter_map(Value::as_u64)
            .sum::<u64>()
    };
    fs::write(drive.path().join("first"), "bytes").expect("the drive takes files");
    let before = requests();
    for number in 0..100 {
        fs::write(drive.path().join(number.to_string()), "bytes").expect("the drive takes files");
    }
    let each = (requests() - before) as f64 / 100.0;
    // Look-up, mknod, the directory's attributes anew, security.capability, write.
    assert!(each <= 5.1, "{each} requests for a file made, written and closed");

    let before = requests();
    for number in 0..100 {
        fs::metadata(drive.path().join(number.to_string())).expect("the file is there");
        fs::metadata(drive.path().join("missing")).expect_err("the file is not there");
        fs::read_dir(drive.path()).expect("the directory is there");
    }
    let each = (requests() - before) as f64 / 100.0;
    assert!(
        each <= 1.1,
        "{each} requests for a stat of a known file, of a missing one and an open directory"
    );
}

#[test]
fn check_finds_a_drive_sound() {
    let drive = Detached::mount(&[]);
    fs::create_dir(drive.path().join("directory")).expect("the drive takes directories");
    fs::write(drive.path().join("directory/file"), vec![7; 100_000]).expect("the drive takes files");
    let report = text(&run(okapi(&["check"]).arg(drive.path())));
    assert!(
        report.contains("sound: 3 inodes (2 directories, 1 files), 2 names"),
        "{report}"
    );
}

#[test]
fn blocks_are_put_and_got_and_deleted() {
    let drive = Detached::mount(&[]);
    assert_eq!(get_failure(&drive, &["7"]), "there is no namespace `grid`");
    assert!(put(&drive, &["7"], b"hello\n").status.success());
    assert!(put(&drive, &["0xffffffffffff"], b"last").status.success());
    assert_eq!(get(&drive, &["7"]), b"hello\n");
    assert_eq!(get(&drive, &["7", "--offset", "1", "--len", "3"]), b"ell");
    assert_eq!(get(&drive, &["8"]), b"");
    assert_eq!(keys(&drive, &[]), "7\t6\n281474976710655\t4\n");
    assert_eq!(keys(&drive, &["--from", "8"]), "281474976710655\t4\n");
    assert_eq!(keys(&drive, &["--max", "1"]), "7\t6\n");

    assert!(put(&drive, &["7", "--offset", "8"], b"!").status.success());
    assert_eq!(get(&drive, &["7"]), b"hello\n\0\0!");
    assert!(put(&drive, &["7"], b"short").status.success());
    assert_eq!(get(&drive, &["7"]), b"short");
    assert!(put(&drive, &["7"], b"").status.success());
    run(okapi(&["grid", "rm", "0xffffffffffff", "--mount"]).arg(drive.path()));
    assert_eq!(keys(&drive, &[]), "");
    run(okapi(&["check"]).arg(drive.path()));
}

fn get_failure(drive: &Detached, arguments: &[&str]) -> String {
    let complaint = fails(
        okapi(&["grid", "get", "--mount"])
            .arg(drive.path())
            .args(arguments),
        1,
        &[],
    );
    let line = complaint.lines().next().unwrap_or_default();
    line.trim_start_matches("okapi: ").to_owned()
}

#[test]
fn records_are_longer_than_blocks() {
    let drive = Detached::mount(&["--block-size", "4K"]);
    let record: Vec<u8> = (0..100_000_u32).map(|number| (number % 251) as u8).collect();
    let refused = put(&drive, &["5"], &record);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        put(&drive, &["5", "--record", "--namespace", "records"], &record)
            .status
            .success()
    );
    assert_eq!(get(&drive, &["5", "--record", "--namespace", "records"]), record);
    assert!(keys(&drive, &["--namespace", "records"]).lines().count() >= 25);
    run(okapi(&["grid", "rm", "5", "--record", "--namespace", "records", "--mount"]).arg(drive.path()));
    assert_eq!(keys(&drive, &["--namespace", "records"]), "");
}

#[test]
fn the_blocks_of_files_can_be_read_and_not_written() {
    let drive = Detached::mount(&[]);
    fs::write(drive.path().join("file"), "the bytes of the file").expect("the drive takes files");
    let listed = keys(&drive, &["--namespace", "drive"]);
    let (index, len) = listed
        .trim_end()
        .split_once('\t')
        .expect("the file has one block");
    assert_eq!(len, "21");
    assert_eq!(
        get(&drive, &[index, "--namespace", "drive"]),
        b"the bytes of the file"
    );
    let refused = put(&drive, &["12345", "--namespace", "drive"], b"x");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("belong to files"));
    fails(
        okapi(&["grid", "rm", index, "--namespace", "drive", "--mount"]).arg(drive.path()),
        1,
        &["belong to files"],
    );
}

#[test]
fn a_closed_pipe_is_silent() {
    let drive = Detached::mount(&[]);
    let mut child = okapi(&["grid", "get", "--record", "1", "--mount"])
        .arg(drive.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .stdin(Stdio::null())
        .spawn_after(|| put(&drive, &["1", "--record"], &vec![7; 4 << 20]));
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("the program ends");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

trait SpawnAfter {
    fn spawn_after(&mut self, first: impl FnOnce() -> Output) -> std::process::Child;
}

impl SpawnAfter for Command {
    fn spawn_after(&mut self, first: impl FnOnce() -> Output) -> std::process::Child {
        assert!(first().status.success());
        self.spawn().expect("the program runs")
    }
}

#[test]
fn mount_8_finds_a_helper() {
    let links = Scratch::new();
    let helper = links.path().join("mount.fuse.okapi");
    symlink(binary(), &helper).expect("a fresh name");
    let dir = Scratch::new();
    let call = |arguments: &[&str]| {
        let mut command = Command::new(&helper);
        command
            .arg("ram disk")
            .arg(dir.path())
            .args(arguments)
            .stdin(Stdio::null());
        command
    };
    fails(&mut call(&["-o", "rw,no-such-option"]), 1, &["`no-such-option`"]);
    fails(&mut call(&["-o", "size=4096T"]), 32, &["does not fit"]);
    run(&mut call(&["-f", "-o", "size=8M"]));
    assert!(!is_mounted(dir.path()), "-f does everything but mount");
    let output = run(&mut call(&[
        "-s",
        "-o",
        "rw,size=8M,no-such-option",
        "-t",
        "fuse.okapi",
    ]));
    assert_eq!(text(&output), "", "mount(8) is silent");
    let line = mount_line(dir.path()).expect("the drive is mounted");
    assert!(line.contains(r" fuse.okapi ram\040disk "), "{line}");
    assert_eq!(stat(dir.path())["size_bytes"], 8 << 20);
    run(Command::new("umount").arg(dir.path()));
    fs::remove_file(helper).expect("the link is ours");
}

/// A directory and a copy of the program that everybody may use, and a mountpoint that `nobody` owns.
struct ForNobody {
    dir: Scratch,
    program: PathBuf,
    mountpoint: PathBuf,
}

impl ForNobody {
    /// `None` where users other than root may not use FUSE on this machine.
    fn new() -> Option<Self> {
        let device = fs::metadata("/dev/fuse").expect("/dev/fuse is there");
        if device.permissions().mode() & 0o006 != 0o006 {
            eprintln!("left out: /dev/fuse is closed to users other than root");
            return None;
        }
        let dir = Scratch::new();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("our directory");
        let (program, mountpoint) = (dir.path().join("okapi"), dir.path().join("ram"));
        fs::copy(binary(), &program).expect("the program can be copied");
        fs::create_dir(&mountpoint).expect("a fresh name");
        std::os::unix::fs::chown(&mountpoint, Some(NOBODY), Some(NOBODY)).expect("tests run as root");
        Some(Self {
            dir,
            program,
            mountpoint,
        })
    }

    fn okapi(&self, command: &str) -> Command {
        let mut nobody = as_nobody(&self.program);
        nobody.arg(command);
        nobody
    }
}

impl Drop for ForNobody {
    fn drop(&mut self) {
        if is_mounted(&self.mountpoint) {
            let _ = okapi(&["umount", "--lazy"]).arg(&self.mountpoint).output();
        }
        for path in [&self.program, &self.mountpoint] {
            let _ = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
        }
        let _ = self.dir.path();
    }
}

#[test]
fn a_user_without_privileges_has_a_drive_of_their_own() {
    let Some(user) = ForNobody::new() else { return };
    run(user.okapi("mount").args(["--size", "32M"]).arg(&user.mountpoint));
    let line = mount_line(&user.mountpoint).expect("the drive is mounted");
    assert!(
        line.contains(" fuse.okapi okapi ") && line.contains("nosuid,nodev"),
        "{line}"
    );
    let file = user.mountpoint.join("file");
    let write = format!("echo bytes > {0} && cat {0}", file.display());
    let output = run(as_nobody(Path::new("sh")).args(["-c", &write]));
    assert_eq!(text(&output), "bytes\n");
    let stranger = fs::read(&file).expect_err("the drive is closed to others, root among them");
    assert_eq!(stranger.raw_os_error(), Some(libc::EACCES));

    let stat = run(user.okapi("stat").arg(&user.mountpoint));
    assert!(text(&stat).contains("32.0 MiB"));
    run(user.okapi("check").arg(&user.mountpoint));
    fails(user.okapi("mount").arg(&user.mountpoint), 1, &["already"]);
    let pid = served_by(&user.mountpoint);
    run(user.okapi("umount").arg(&user.mountpoint));
    assert!(!is_running(pid) && !is_mounted(&user.mountpoint));
}

#[test]
fn what_a_user_without_privileges_may_not_is_said_in_a_line() {
    let Some(user) = ForNobody::new() else { return };
    fails(user.okapi("mount").arg(user.dir.path()), 1, &["no write access"]);
    fails(
        user.okapi("mount").args(["-o", "suid"]).arg(&user.mountpoint),
        1,
        &["`suid` is for root"],
    );
    let no_helper = user
        .okapi("mount")
        .env("PATH", "/nonexistent")
        .arg(&user.mountpoint)
        .output();
    // setpriv itself was found before PATH changed what the program finds.
    if let Ok(output) = no_helper.map(|output| String::from_utf8_lossy(&output.stderr).into_owned()) {
        assert!(output.contains("fusermount3"), "{output}");
    }
    assert!(!is_mounted(&user.mountpoint));

    let theirs = Detached::mount(&[]);
    fails(user.okapi("stat").arg(theirs.path()), 1, &["does not answer"]);
    fails(user.okapi("umount").arg(theirs.path()), 1, &["okapi:"]);
    assert!(theirs.is_running());
}

#[test]
fn a_machine_without_fuse_is_told_so() {
    let dir = Scratch::new();
    let script = format!(
        "mount -t tmpfs none /dev && exec {} mount {}",
        binary().display(),
        dir.path().display()
    );
    fails(
        Command::new("unshare").args(["--mount", "sh", "-c", &script]),
        1,
        &["there is no /dev/fuse", "modprobe fuse"],
    );
}

#[test]
fn help_fits_on_a_screen() {
    for command in ["mount", "umount", "stat", "check", "grid"] {
        let help = text(&run(okapi(&[command, "-h"]).env("COLUMNS", "100")));
        assert!(help.lines().count() <= 40, "{help}");
    }
    assert!(text(&run(&mut okapi(&["--version"]))).starts_with("okapi "));
}
