//! `okapi mount`: options, mountpoints, refusals, and the helper of mount(8).

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::{Command, Stdio};

use fs_tests::harness::{Scratch, binary, run};

use crate::support::{Detached, eventually, fails, is_mounted, mount_line, okapi, served_by, stat, text};

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
    eventually("the program ends", || !drive.is_running());
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
fn a_copy_of_the_program_under_the_name_of_the_helper_mounts_too() {
    let links = Scratch::new();
    let helper = links.path().join("mount.fuse.okapi");
    run(Command::new("cp").arg(binary()).arg(&helper));
    let dir = Scratch::new();
    let mut command = Command::new("timeout");
    command
        .args(["-s", "KILL", "5"])
        .arg(&helper)
        .arg("ram")
        .arg(dir.path())
        .args(["-o", "size=8M"])
        .stdin(Stdio::null());
    let output = command.output().expect("the helper runs");
    fs::remove_file(&helper).expect("the copy is ours");
    assert!(output.status.success(), "{output:?}");
    let drive = Detached {
        pid: served_by(dir.path()),
        dir,
    };
    drive.unmount();
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
    fails(
        &mut call(&["-o", "transport=fast"]),
        1,
        &["auto, uring or classic"],
    );
    run(&mut call(&["-f", "-o", "size=8M"]));
    assert!(!is_mounted(dir.path()), "-f does everything but mount");
    let output = run(&mut call(&[
        "-s",
        "-o",
        "rw,size=8M,transport=classic,no-such-option",
        "-t",
        "fuse.okapi",
    ]));
    assert_eq!(text(&output), "", "mount(8) is silent");
    let line = mount_line(dir.path()).expect("the drive is mounted");
    assert!(line.contains(r" fuse.okapi ram\040disk "), "{line}");
    let stat = stat(dir.path());
    assert_eq!(stat["size_bytes"], 8 << 20);
    assert_eq!(stat["transport"], "classic, not io_uring: it was asked for");
    run(Command::new("umount").arg(dir.path()));
    fs::remove_file(helper).expect("the link is ours");
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
    for command in ["mount", "umount", "stat", "check", "grid", "export"] {
        let help = text(&run(okapi(&[command, "-h"]).env("COLUMNS", "100")));
        assert!(help.lines().count() <= 40, "{help}");
    }
    assert!(text(&run(&mut okapi(&["--version"]))).starts_with("okapi "));
}
