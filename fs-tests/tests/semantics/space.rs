//! Space: what statvfs(3) says, and what a full drive answers.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

use fs_tests::harness::{Drive, Place, Tmpfs};
use fs_tests::sys::Mapping;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;

use super::{error_of, file, on_both, open_rw};

fn free_bytes(path: &std::path::Path) -> u64 {
    let stat = statvfs(path).unwrap();
    stat.blocks_free() * stat.fragment_size()
}

#[test]
fn totals_are_those_of_the_mount_options() {
    let tmpfs = Tmpfs::mount("64M");
    let drive = Drive::mount(&["--size", "64M"]);
    for place in [&tmpfs as &dyn Place, &drive] {
        let stat = statvfs(place.path()).unwrap();
        assert_eq!(stat.blocks() * stat.fragment_size(), 64 << 20, "{}", place.name());
        assert!(stat.blocks_available() == stat.blocks_free() && stat.blocks_free() <= stat.blocks());
        assert_eq!(stat.name_max(), 255);
    }
}

#[test]
fn free_space_follows_what_is_written_and_removed() {
    on_both(|dir| {
        let before = free_bytes(dir);
        let a = file(dir.join("a"), &vec![7; 10 << 20]);
        let used = before - free_bytes(dir);
        assert!((10 << 20..11 << 20).contains(&used), "{used} bytes for 10 MiB");
        fs::remove_file(a).unwrap();
        // FUSE forgets a removed file a little later
        let deadline = Instant::now() + Duration::from_secs(5);
        while before.saturating_sub(free_bytes(dir)) > 64 << 10 {
            assert!(
                Instant::now() < deadline,
                "{} of {before} bytes are free",
                free_bytes(dir)
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

#[test]
fn a_clone_takes_no_room_until_it_is_written_to() {
    const LEN: usize = 8 << 20;
    let drive = Drive::mount(&["--size", "16M"]);
    let bytes: Vec<u8> = (0..LEN).map(|at| (at / 4096 % 251) as u8).collect();
    let base = file(drive.path().join("base"), &bytes);
    let before = free_bytes(drive.path());
    let clones: Vec<_> = (0..20)
        .map(|number| drive.path().join(format!("clone{number}")))
        .collect();
    for clone in &clones {
        assert_eq!(fs::copy(&base, clone).unwrap(), LEN as u64);
        let blocks = |path| fs::metadata(path).unwrap().blocks();
        assert_eq!(blocks(clone), blocks(&base));
    }
    let taken = before - free_bytes(drive.path());
    assert!(taken < 64 << 10, "20 clones of 8 MiB take {taken} bytes");
    let change: Vec<u8> = (0..LEN / 2).map(|at| (at % 253) as u8).collect();
    let write = |clone| open_rw(clone).write_all_at(&change, 0);
    let error = clones.iter().find_map(|clone| write(clone).err());
    let error = error.expect("16 MiB have no room for 20 times 4 MiB");
    assert_eq!(error_of(Err::<(), _>(error)), Errno::ENOSPC);
    assert_eq!(fs::read(&base).unwrap(), bytes);
    assert_eq!(fs::read(clones.last().unwrap()).unwrap(), bytes);
    drive.check();
}

#[test]
fn zeros_become_holes_unless_they_were_asked_for() {
    let drive = Drive::mount(&["--size", "16M"]);
    let zeros = file(drive.path().join("zeros"), &[0; 1 << 20]);
    let asked = file(drive.path().join("asked"), b"");
    let (from, to) = (0, 1 << 20);
    fallocate(open_rw(&asked), FallocateFlags::empty(), from, to).unwrap();
    let blocks = |path| fs::metadata(path).unwrap().blocks();
    let deadline = Instant::now() + Duration::from_secs(60);
    while blocks(&zeros) > 0 {
        assert!(Instant::now() < deadline, "{} blocks of zeros", blocks(&zeros));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(fs::read(&zeros).unwrap(), vec![0; 1 << 20]);
    assert_eq!(blocks(&asked), (1 << 20) / 512);
    drive.check();
}

#[test]
fn a_full_drive_refuses_bytes_and_keeps_what_it_has() {
    let tmpfs = Tmpfs::mount("8M");
    let drive = Drive::mount(&["--size", "8M"]);
    for place in [&tmpfs as &dyn Place, &drive] {
        let kept = file(place.path().join("kept"), &[7; 100_000]);
        let mut filler = fs::File::create(place.path().join("filler")).unwrap();
        let chunk = [9; 50_000];
        let error = (0..1000)
            .find_map(|_| filler.write_all(&chunk).err())
            .expect("8 MiB are full some time");
        assert_eq!(error_of(Err::<(), _>(error)), Errno::ENOSPC, "{}", place.name());
        assert_eq!(fs::read(&kept).unwrap(), [7; 100_000]);
        let filled = fs::read(place.path().join("filler")).unwrap();
        assert!(
            filled.len() > 7 << 20 && filled.iter().all(|byte| *byte == 9),
            "{} bytes",
            filled.len()
        );
        assert_eq!(
            error_of(open_rw(&kept).write_all_at(&vec![1; 4 << 20], 1 << 20)),
            Errno::ENOSPC
        );
        fs::remove_file(place.path().join("filler")).unwrap();
        drop(filler);
        file(place.path().join("again"), &vec![7; 4 << 20]);
    }
    drive.check();
}

#[test]
fn a_drive_has_as_many_inodes_as_it_was_given() {
    let drive = Drive::mount(&["--size", "8M", "--inodes", "100"]);
    let made = (0..200)
        .take_while(|number| fs::write(drive.path().join(format!("{number}")), b"").is_ok())
        .count();
    assert_eq!(made, 99, "the root is one of them");
    assert_eq!(error_of(fs::create_dir(drive.path().join("dir"))), Errno::ENOSPC);
    let stat = statvfs(drive.path()).unwrap();
    assert_eq!((stat.files(), stat.files_free()), (100, 0));
    fs::remove_file(drive.path().join("0")).unwrap();
    fs::create_dir(drive.path().join("dir")).unwrap();
    drive.check();
}

#[test]
fn mapped_bytes_that_find_no_room_are_reported() {
    let drive = Drive::mount(&["--size", "16M"]);
    let free = free_bytes(drive.path()) as usize;
    file(drive.path().join("filler"), &vec![9; free - (400 << 10)]);
    let path = file(drive.path().join("mapped"), b"");
    let mapped = open_rw(&path);
    mapped.set_len(1 << 20).unwrap();
    let mut mapping = Mapping::new(&mapped, 0, 1 << 20, true).unwrap();
    // one request of the kernel, of which only a part finds room
    mapping.write(0, &vec![7; 1 << 20]);
    assert_eq!(mapping.sync().unwrap_err(), Errno::ENOSPC);
    drive.check();
}
