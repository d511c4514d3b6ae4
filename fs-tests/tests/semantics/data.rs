//! Bytes of files: appending, holes, allocation, copies, mappings, limits.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use fs_tests::harness::Place;
use fs_tests::sys::Mapping;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, copy_file_range, fallocate};
use nix::unistd::{Whence, fdatasync, fsync, lseek64, truncate};

use super::{error_of, file, on_both, on_each, open_rw};

const PAGE: u64 = 4096;
const KEEP: FallocateFlags = FallocateFlags::FALLOC_FL_KEEP_SIZE;
const PUNCH: FallocateFlags = FallocateFlags::FALLOC_FL_PUNCH_HOLE;

fn append(path: &Path) -> File {
    OpenOptions::new().append(true).open(path).unwrap()
}

#[test]
fn appends_of_many_writers_are_whole_and_none_is_lost() {
    on_both(|dir| {
        let log = file(dir.join("log"), b"");
        std::thread::scope(|scope| {
            for writer in 0..4_u8 {
                let mut log = append(&log);
                scope.spawn(move || {
                    for _ in 0..500 {
                        log.write_all(&[b'a' + writer; 100]).unwrap();
                    }
                });
            }
        });
        let text = fs::read(&log).unwrap();
        assert_eq!(text.len(), 4 * 500 * 100);
        assert!(
            text.chunks(100)
                .all(|record| record.iter().all(|byte| *byte == record[0]))
        );
    });
}

#[test]
fn an_append_goes_to_the_end_wherever_the_offset_is() {
    on_both(|dir| {
        let a = file(dir.join("a"), b"12345");
        let mut open = append(&a);
        open.seek(SeekFrom::Start(1)).unwrap();
        open.write_all(b"6").unwrap();
        open.write_at(b"7", 0).unwrap();
        assert_eq!(fs::read(&a).unwrap(), b"1234567");
    });
}

#[test]
fn a_write_behind_the_end_leaves_a_hole_of_zeros() {
    on_both(|dir| {
        let a = open_rw(&file(dir.join("a"), b"x"));
        a.write_at(b"y", 10 * PAGE).unwrap();
        let mut bytes = vec![1; 10 * PAGE as usize + 1];
        a.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes[1..10 * PAGE as usize].iter().all(|byte| *byte == 0));
        let seek = |offset: u64, whence| lseek64(&a, offset.cast_signed(), whence).map(i64::cast_unsigned);
        assert_eq!(seek(0, Whence::SeekData), Ok(0));
        assert_eq!(seek(0, Whence::SeekHole), Ok(PAGE));
        assert_eq!(seek(PAGE, Whence::SeekData), Ok(10 * PAGE));
        assert_eq!(seek(10 * PAGE, Whence::SeekHole), Ok(10 * PAGE + 1));
        assert_eq!(seek(10 * PAGE + 1, Whence::SeekData), Err(Errno::ENXIO));
        assert_eq!(seek(10 * PAGE + 1, Whence::SeekHole), Err(Errno::ENXIO));
    });
}

#[test]
fn a_cut_and_regrown_file_shows_zeros() {
    on_both(|dir| {
        let a = open_rw(&file(dir.join("a"), &[7; 10_000]));
        a.set_len(5000).unwrap();
        a.set_len(20_000).unwrap();
        let mut bytes = Vec::new();
        (&a).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, [vec![7; 5000], vec![0; 15_000]].concat());
    });
}

#[test]
fn a_sparse_tebibyte_costs_nothing() {
    on_both(|dir| {
        let a = open_rw(&file(dir.join("a"), b""));
        a.set_len(1 << 40).unwrap();
        a.write_at(b"end", (1 << 40) - 3).unwrap();
        let stat = a.metadata().unwrap();
        assert_eq!(stat.len(), 1 << 40);
        assert!(stat.blocks() <= 2048, "{} blocks", stat.blocks());
        let data = lseek64(&a, 0, Whence::SeekData).unwrap();
        assert_eq!(data.cast_unsigned(), (1 << 40) - PAGE);
    });
}

#[test]
fn blocks_tell_the_memory_of_a_file() {
    on_both(|dir| {
        let a = open_rw(&file(dir.join("a"), b""));
        let blocks = || a.metadata().unwrap().blocks();
        assert_eq!(blocks(), 0);
        a.write_at(&[1; 1 << 20], 0).unwrap();
        let full = blocks();
        assert!((2048..2300).contains(&full), "{full} blocks for 1 MiB");
        fallocate(&a, PUNCH | KEEP, 0, 1 << 19).unwrap();
        let half = blocks();
        assert!((1024..1200).contains(&half), "{half} blocks for 512 KiB");
        a.set_len(0).unwrap();
        assert_eq!(blocks(), 0);
    });
}

#[test]
fn punching_a_hole_zeroes_and_keeps_the_size() {
    on_both(|dir| {
        let a = open_rw(&file(dir.join("a"), &[9; 5 * PAGE as usize]));
        fallocate(&a, PUNCH | KEEP, 100, 3 * PAGE as i64).unwrap();
        let mut bytes = Vec::new();
        (&a).read_to_end(&mut bytes).unwrap();
        let hole = 100..100 + 3 * PAGE as usize;
        assert!(
            bytes
                .iter()
                .enumerate()
                .all(|(at, byte)| *byte == if hole.contains(&at) { 0 } else { 9 })
        );
        assert_eq!(lseek64(&a, 0, Whence::SeekHole), Ok(PAGE as i64));
        assert_eq!(fallocate(&a, PUNCH, 0, 1), Err(Errno::EOPNOTSUPP));
        assert_eq!(fallocate(&a, PUNCH | KEEP, 100 * PAGE as i64, 1), Ok(()));
        assert_eq!(a.metadata().unwrap().len(), 5 * PAGE);
    });
}

#[test]
fn allocating_reserves_and_grows_unless_told_not_to() {
    on_both(|dir| {
        let a = open_rw(&file(dir.join("a"), b"text"));
        fallocate(&a, KEEP, 0, 1 << 20).unwrap();
        assert_eq!(a.metadata().unwrap().len(), 4);
        fallocate(&a, FallocateFlags::empty(), 0, 1 << 20).unwrap();
        assert_eq!(a.metadata().unwrap().len(), 1 << 20);
        assert!(a.metadata().unwrap().blocks() >= 2048);
        let mut head = [1; 8];
        a.read_exact_at(&mut head, 0).unwrap();
        assert_eq!(&head, b"text\0\0\0\0");
        assert_eq!(fallocate(&a, KEEP, 0, 0), Err(Errno::EINVAL));
        assert_eq!(fallocate(&a, KEEP, -1, 1), Err(Errno::EINVAL));
        assert_eq!(fallocate(&a, KEEP, i64::MAX, 1), Err(Errno::EFBIG));
        assert_eq!(
            fallocate(File::open(dir.join("a")).unwrap(), KEEP, 0, 1),
            Err(Errno::EBADF)
        );
    });
}

#[test]
fn ranges_are_zeroed_on_a_drive_and_neither_collapse_nor_open() {
    on_each(|place: &dyn Place| {
        let path = file(place.path().join("a"), &[9; 3 * PAGE as usize]);
        let a = open_rw(&path);
        let zero = fallocate(&a, FallocateFlags::FALLOC_FL_ZERO_RANGE, 10, 20_000);
        match place.name() {
            "tmpfs" => assert_eq!(zero, Err(Errno::EOPNOTSUPP)),
            _ => {
                assert_eq!(zero, Ok(()));
                assert_eq!(fs::read(&path).unwrap(), [vec![9; 10], vec![0; 20_000]].concat());
            }
        }
        for mode in [
            FallocateFlags::FALLOC_FL_COLLAPSE_RANGE,
            FallocateFlags::FALLOC_FL_INSERT_RANGE,
        ] {
            assert_eq!(fallocate(&a, mode, 0, PAGE as i64), Err(Errno::EOPNOTSUPP));
        }
    });
}

#[test]
fn copying_a_range_copies_up_to_the_end_of_the_source() {
    on_both(|dir| {
        let text: Vec<u8> = (0..100_000_u32).map(|number| number as u8).collect();
        let source = open_rw(&file(dir.join("a"), &text));
        let target = open_rw(&file(dir.join("b"), b"head"));
        let copy = |from: i64, to: i64, len| {
            let (mut from, mut to) = (from, to);
            copy_file_range(&source, Some(&mut from), &target, Some(&mut to), len)
        };
        assert_eq!(copy(0, 4, 1 << 20), Ok(100_000));
        assert_eq!(fs::read(dir.join("b")).unwrap(), [b"head", &text[..]].concat());
        assert_eq!(copy(100_000, 0, 10), Ok(0));
        assert_eq!(copy(200_000, 0, 10), Ok(0));
        // a clone is a copy: what is written to one does not show in the other
        let clone = open_rw(&file(dir.join("c"), b""));
        let (mut from, mut to) = (0, 0);
        assert_eq!(
            copy_file_range(&source, Some(&mut from), &clone, Some(&mut to), 1 << 20),
            Ok(100_000)
        );
        clone.write_at(b"other", 4096).unwrap();
        source.write_at(b"again", 8192).unwrap();
        let mut bytes = [0; 5];
        source.read_exact_at(&mut bytes, 4096).unwrap();
        assert_eq!(bytes, text[4096..4101]);
        clone.read_exact_at(&mut bytes, 8192).unwrap();
        assert_eq!(bytes, text[8192..8197]);
    });
}

#[test]
fn copying_a_range_refuses_what_makes_no_sense() {
    on_both(|dir| {
        let a = open_rw(&file(dir.join("a"), &[1; 10_000]));
        let copy = |from: i64, target: &File, to: i64| {
            let (mut from, mut to) = (from, to);
            copy_file_range(&a, Some(&mut from), target, Some(&mut to), 5000)
        };
        assert_eq!(copy(0, &a, 2000), Err(Errno::EINVAL));
        assert_eq!(copy(0, &a, 5000), Ok(5000));
        assert_eq!(copy(0, &append(&dir.join("a")), 20_000), Err(Errno::EBADF));
        assert_eq!(
            copy(0, &File::open(dir.join("a")).unwrap(), 20_000),
            Err(Errno::EBADF)
        );
        assert_eq!(copy(0, &File::open(dir).unwrap(), 0), Err(Errno::EISDIR));
    });
}

#[test]
fn mappings_and_calls_see_the_same_bytes() {
    on_both(|dir| {
        let a = open_rw(&file(dir.join("a"), &[b'.'; 10_000]));
        let mut map = Mapping::new(&a, 0, 10_000, true).unwrap();
        a.write_at(b"written", 5000).unwrap();
        assert_eq!(&map.read()[5000..5007], b"written");
        map.write(100, b"mapped");
        let mut bytes = [0; 6];
        a.read_exact_at(&mut bytes, 100).unwrap();
        assert_eq!(&bytes, b"mapped");
        map.sync().unwrap();
        drop(map);
        assert_eq!(&fs::read(dir.join("a")).unwrap()[100..106], b"mapped");
    });
}

#[test]
fn a_mapping_outlives_its_file_handle_and_name() {
    on_both(|dir| {
        let path = file(dir.join("a"), &[b'.'; 4096]);
        let mut map = Mapping::new(open_rw(&path), 0, 4096, true).unwrap();
        fs::remove_file(&path).unwrap();
        map.write(0, b"still here");
        map.sync().unwrap();
        assert_eq!(&map.read()[..10], b"still here");
    });
}

#[test]
fn direct_io_reads_what_was_written() {
    on_both(|dir| {
        let path = file(dir.join("a"), &[1; 8192]);
        let mut options = OpenOptions::new();
        let direct = options
            .read(true)
            .write(true)
            .custom_flags(libc::O_DIRECT)
            .open(&path)
            .unwrap();
        // memory at a multiple of 4096
        let mut buffer = vec![7_u8; 3 * 4096];
        let start = buffer.as_ptr().align_offset(4096);
        let page = &mut buffer[start..start + 4096];
        direct.write_all_at(page, 4096).unwrap();
        assert_eq!(fs::read(&path).unwrap(), [[1; 4096], [7; 4096]].concat());
        direct.read_exact_at(page, 0).unwrap();
        assert!(page.iter().all(|byte| *byte == 1));
    });
}

#[test]
fn syncing_succeeds() {
    on_both(|dir| {
        let a = open_rw(&file(dir.join("a"), b"text"));
        assert_eq!(fsync(&a), Ok(()));
        assert_eq!(fdatasync(&a), Ok(()));
        assert_eq!(fsync(File::open(dir).unwrap()), Ok(()));
        assert_eq!(nix::unistd::syncfs(&a), Ok(()));
        let mut synced = OpenOptions::new();
        let mut synced = synced
            .write(true)
            .custom_flags(libc::O_SYNC)
            .open(dir.join("a"))
            .unwrap();
        synced.write_all(b"more").unwrap();
    });
}

#[test]
fn reads_and_cuts_refuse_what_makes_no_sense() {
    on_both(|dir| {
        let path = file(dir.join("a"), b"text");
        let mut bytes = [0; 4];
        assert_eq!(open_rw(&path).read_at(&mut bytes, 4).unwrap(), 0);
        assert_eq!(open_rw(&path).read_at(&mut bytes, 1 << 50).unwrap(), 0);
        assert_eq!(
            error_of(File::open(dir).unwrap().read_at(&mut bytes, 0)),
            Errno::EISDIR
        );
        assert_eq!(truncate(&path, -1), Err(Errno::EINVAL));
        assert_eq!(truncate(dir, 0), Err(Errno::EISDIR));
        assert_eq!(error_of(File::open(&path).unwrap().set_len(0)), Errno::EINVAL);
    });
}

#[test]
fn the_largest_file_takes_no_byte_more() {
    on_both(|dir| {
        let path = file(dir.join("a"), b"");
        truncate(&path, i64::MAX).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), i64::MAX as u64);
        assert_eq!(error_of(append(&path).write_all(b"x")), Errno::EFBIG);
        let mut bytes = [1; 10];
        assert_eq!(
            open_rw(&path).read_at(&mut bytes, i64::MAX as u64 - 10).unwrap(),
            10
        );
        assert_eq!(bytes, [0; 10]);
    });
}

#[test]
fn large_writes_come_back_byte_for_byte() {
    on_both(|dir| {
        let bytes = fs_tests::model::pattern(7, 20 << 20);
        let path = dir.join("a");
        fs::write(&path, &bytes).unwrap();
        assert!(fs::read(&path).unwrap() == bytes, "20 MiB");
        let copy = dir.join("b");
        fs::copy(&path, &copy).unwrap();
        assert!(fs::read(&copy).unwrap() == bytes, "a copy of 20 MiB");
    });
}
