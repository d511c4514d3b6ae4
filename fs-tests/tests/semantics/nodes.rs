//! Fifos, sockets and devices: their names live here, what they do is the kernel's.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::{error_of, file, on_both, open_rw};

#[test]
fn a_fifo_carries_bytes() {
    on_both(|dir| {
        let fifo = dir.join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::from_bits_truncate(0o600)).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| fs::write(&fifo, b"through").unwrap());
            assert_eq!(fs::read(&fifo).unwrap(), b"through");
        });
        assert_eq!(fs::metadata(&fifo).unwrap().len(), 0);
        assert!(fs::metadata(&fifo).unwrap().file_type().is_fifo());
    });
}

#[test]
fn a_socket_can_be_bound_and_connected_to() {
    on_both(|dir| {
        let path = dir.join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        assert!(fs::metadata(&path).unwrap().file_type().is_socket());
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(b"hello").unwrap();
        drop(client);
        let mut text = String::new();
        listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        assert_eq!(error_of(File::open(&path)), Errno::ENXIO);
        assert_eq!(error_of(UnixListener::bind(&path)), Errno::EADDRINUSE);
        fs::remove_file(&path).unwrap();
        assert_eq!(error_of(UnixStream::connect(&path)), Errno::ENOENT);
    });
}

#[test]
fn devices_keep_their_numbers_and_work_where_allowed() {
    on_both(|dir| {
        let mode = Mode::from_bits_truncate(0o666);
        let zero = dir.join("zero");
        mknod(&zero, SFlag::S_IFCHR, mode, makedev(1, 5)).unwrap();
        let disk = dir.join("disk");
        mknod(&disk, SFlag::S_IFBLK, mode, makedev(259, 70_000)).unwrap();
        let stat = fs::metadata(&disk).unwrap();
        assert!(stat.file_type().is_block_device());
        assert_eq!(stat.rdev(), makedev(259, 70_000));
        let mut bytes = [1; 8];
        File::open(&zero).unwrap().read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, [0; 8]);
    });
}

#[test]
fn mknod_makes_plain_files_too() {
    on_both(|dir| {
        let a = dir.join("a");
        mknod(&a, SFlag::S_IFREG, Mode::from_bits_truncate(0o600), 0).unwrap();
        assert!(fs::metadata(&a).unwrap().is_file());
        assert_eq!(mknod(&a, SFlag::S_IFREG, Mode::empty(), 0), Err(Errno::EEXIST));
    });
}

#[test]
fn inotify_tells_of_changes() {
    on_both(|dir| {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        inotify.add_watch(dir, AddWatchFlags::IN_ALL_EVENTS).unwrap();
        let a = file(dir.join("a"), b"");
        open_rw(&a).write_all(b"x").unwrap();
        fs::rename(&a, dir.join("b")).unwrap();
        fs::remove_file(dir.join("b")).unwrap();
        let events = inotify.read_events().unwrap();
        let seen = events
            .iter()
            .fold(AddWatchFlags::empty(), |seen, event| seen | event.mask);
        for wanted in [
            AddWatchFlags::IN_CREATE,
            AddWatchFlags::IN_MODIFY,
            AddWatchFlags::IN_CLOSE_WRITE,
            AddWatchFlags::IN_MOVED_FROM,
            AddWatchFlags::IN_MOVED_TO,
            AddWatchFlags::IN_DELETE,
        ] {
            assert!(seen.contains(wanted), "{wanted:?}");
        }
    });
}

#[test]
fn a_fifo_opened_for_both_waits_for_nobody() {
    on_both(|dir| {
        let fifo = dir.join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::from_bits_truncate(0o600)).unwrap();
        let mut both = OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        both.write_all(b"x").unwrap();
        let mut byte = [0];
        both.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    });
}
