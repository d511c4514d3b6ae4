//! Users without privileges, who mount by fusermount3.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fs_tests::harness::{Scratch, binary, run};

use crate::support::{
    Detached, eventually, fails, is_mounted, is_running, mount_line, okapi, served_by, text,
};

/// A user without privileges.
const NOBODY: u32 = 65_534;

/// A directory and a copy of the program that everybody may use, and a mountpoint that `nobody` owns.
struct ForNobody {
    dir: Scratch,
    program: PathBuf,
    mountpoint: PathBuf,
}

impl ForNobody {
    fn new() -> Self {
        let device = fs::metadata("/dev/fuse").expect("/dev/fuse is there");
        let open = device.permissions().mode() & 0o006 == 0o006;
        assert!(
            open,
            "/dev/fuse is closed to users other than root: run scripts/setup"
        );
        let dir = Scratch::new();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("our directory");
        let (program, mountpoint) = (dir.path().join("okapi"), dir.path().join("ram"));
        fs::copy(binary(), &program).expect("the program can be copied");
        fs::create_dir(&mountpoint).expect("a fresh name");
        chown(&mountpoint, Some(NOBODY), Some(NOBODY)).expect("tests run as root");
        Self {
            dir,
            program,
            mountpoint,
        }
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
    }
}

#[test]
fn a_user_without_privileges_has_a_drive_of_their_own() {
    let user = ForNobody::new();
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
    assert!(!is_mounted(&user.mountpoint));
    eventually("the program ends", || !is_running(pid));
}

#[test]
fn what_a_user_without_privileges_may_not_is_said_in_a_line() {
    let user = ForNobody::new();
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

fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(program)
        .env_remove("XDG_RUNTIME_DIR")
        .stdin(Stdio::null());
    command
}
