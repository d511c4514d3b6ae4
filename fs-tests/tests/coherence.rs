//! No stale byte: what a write has left when it returned is the least that any later read sees, by whatever handles.
//!
//! Handles and mappings go through the page cache, those with O_DIRECT past it. Each page of the file is filled with the number of its last change, and the writer publishes that number
//! when its call has returned. A reader takes the published number first, then reads the page: no word of it may be
//! older. Zeros are as old as the last change that made the page a hole.

#![allow(clippy::unwrap_used)] // a test that cannot go on fails

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fs_tests::harness::{Drive, Place, Tmpfs};
use fs_tests::rng::{Rng, from_env_or_time, seconds_from_env};
use fs_tests::sys::Mapping;
use nix::fcntl::{FallocateFlags, copy_file_range, fallocate};

const PAGE: usize = 4096;
/// Pages of a file, shared out to its writers.
const PAGES: usize = 16;

/// What the writers have done to one page of the file.
#[derive(Default)]
struct Page {
    /// The number of the last change that has returned.
    done: AtomicU64,
    /// The number of the last change, perhaps under way, that leaves zeros.
    zeroed: AtomicU64,
}

/// One file under test, and what its readers may expect.
struct Shared<'p> {
    path: &'p Path,
    pages: [Page; PAGES],
    changes: AtomicU64,
    stop: AtomicBool,
}

/// What the writers do besides writing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cuts {
    /// Holes; the file keeps its length, so that it can be mapped.
    Holes,
    /// Holes, and the end of the file comes and goes.
    Ends,
}

/// How a reader looks at the file.
#[derive(Clone, Copy, Debug)]
enum Look {
    /// pread(2) by one handle.
    Read,
    /// open, pread, close.
    OpenRead,
    /// pread with O_DIRECT.
    Direct,
    /// A shared mapping that stays.
    Shared,
    /// A private mapping that stays.
    Private,
    /// A fresh shared mapping.
    Remap,
}

impl<'p> Shared<'p> {
    /// Makes the file; the handle is its maker's.
    fn make(path: &'p Path) -> (Self, File) {
        let maker = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .unwrap();
        maker.set_len((PAGES * PAGE) as u64).unwrap();
        let shared = Self {
            path,
            pages: Default::default(),
            changes: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        };
        (shared, maker)
    }

    /// Changes pages `first..end` by `change`, which is told the number of this change.
    fn change(&self, first: usize, end: usize, zeroes: bool, change: impl FnOnce(u64)) {
        let number = 1 + self.changes.fetch_add(1, Ordering::SeqCst);
        if zeroes {
            for page in &self.pages[first..end] {
                page.zeroed.store(number, Ordering::SeqCst);
            }
        }
        change(number);
        for page in &self.pages[first..end] {
            page.done.store(number, Ordering::SeqCst);
        }
    }

    /// Reads one page by `read`, which may return less at the end of the file, and judges every word.
    fn look(&self, page: usize, look: Look, read: impl FnOnce() -> Vec<u8>) {
        let least = self.pages[page].done.load(Ordering::SeqCst);
        let mut bytes = read();
        bytes.resize(PAGE, 0);
        let zeroed = self.pages[page].zeroed.load(Ordering::SeqCst);
        for (word, bytes) in bytes.chunks_exact(8).enumerate() {
            let found = u64::from_le_bytes(bytes.try_into().unwrap());
            let age = if found == 0 { zeroed } else { found };
            if age < least {
                self.stop.store(true, Ordering::SeqCst);
                panic!("{look:?} of page {page}, word {word}: {found} after change {least} had returned");
            }
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

fn stamped(number: u64, pages: usize) -> Vec<u8> {
    number.to_le_bytes().repeat(pages * PAGE / 8)
}

/// Works on pages `own` of the file until told to stop. `maker` is the handle of the file's maker.
fn write(shared: &Shared<'_>, maker: &File, own: std::ops::Range<usize>, cuts: Cuts, mut rng: Rng) {
    let cached = OpenOptions::new().write(true).open(shared.path).unwrap();
    let source_path = shared.path.with_extension(format!("source{}", own.start));
    let source_maker = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&source_path)
        .unwrap();
    let source = File::open(&source_path).unwrap();
    while !shared.stopped() {
        let first = own.start + rng.index(own.len());
        let end = (first + 1 + rng.index(4)).min(own.end);
        let (offset, len) = ((first * PAGE) as i64, ((end - first) * PAGE) as i64);
        match rng.below(20) {
            0 => shared.change(first, end, true, |_| {
                let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
                fallocate(maker, punch, offset, len).unwrap();
            }),
            1 if cuts == Cuts::Ends => shared.change(first, own.end, true, |_| {
                maker.set_len(offset.cast_unsigned()).unwrap();
                maker.set_len((PAGES * PAGE) as u64).unwrap();
            }),
            2 | 3 => shared.change(first, end, false, |number| {
                source_maker
                    .write_all_at(&stamped(number, end - first), 0)
                    .unwrap();
                let (mut from, mut to) = (0, offset);
                let copied = copy_file_range(&source, Some(&mut from), maker, Some(&mut to), len as usize);
                assert_eq!(copied, Ok(len as usize));
            }),
            4 | 5 => shared.change(first, end, false, |number| {
                cached
                    .write_all_at(&stamped(number, end - first), offset.cast_unsigned())
                    .unwrap();
            }),
            _ => shared.change(first, end, false, |number| {
                maker
                    .write_all_at(&stamped(number, end - first), offset.cast_unsigned())
                    .unwrap();
            }),
        }
    }
}

/// Looks at pages until told to stop, and says how often it did.
fn read(shared: &Shared<'_>, looks: &[Look], mut rng: Rng) -> u64 {
    let file = File::open(shared.path).unwrap();
    let direct = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(shared.path)
        .unwrap();
    let len = PAGES * PAGE;
    let (stays, private) = match looks.iter().any(|look| matches!(look, Look::Shared)) {
        true => (
            Mapping::new(&file, 0, len, false).ok(),
            Mapping::private(&file, 0, len).ok(),
        ),
        false => (None, None),
    };
    let part = |map: &Mapping, page: usize| map.read_part(page * PAGE, PAGE);
    let mut count = 0;
    while !shared.stopped() {
        let page = rng.index(PAGES);
        let offset = (page * PAGE) as u64;
        let look = rng.pick(looks);
        shared.look(page, look, || match look {
            Look::Read => read_at(&file, offset),
            Look::OpenRead => read_at(&File::open(shared.path).unwrap(), offset),
            Look::Direct => read_at(&direct, offset),
            Look::Shared => part(stays.as_ref().unwrap(), page),
            Look::Private => part(private.as_ref().unwrap(), page),
            Look::Remap => Mapping::new(&file, offset, PAGE, false).unwrap().read(),
        });
        count += 1;
    }
    count
}

/// Up to a page, into memory aligned as O_DIRECT wants it.
fn read_at(file: &File, offset: u64) -> Vec<u8> {
    let mut buffer = vec![0; 2 * PAGE];
    let start = buffer.as_ptr().align_offset(PAGE);
    let len = file.read_at(&mut buffer[start..start + PAGE], offset).unwrap();
    buffer[start..start + len].to_vec()
}

/// Writers and readers at work on a fresh file of `place`.
fn run(place: &dyn Place, cuts: Cuts, writers: usize, time: Duration) {
    let seed = from_env_or_time(place.name());
    let path = place.path().join(format!("file{writers}"));
    let (shared, maker) = Shared::make(&path);
    let looks: &[Look] = match cuts {
        Cuts::Holes => &[
            Look::Read,
            Look::OpenRead,
            Look::Direct,
            Look::Shared,
            Look::Private,
            Look::Remap,
        ],
        // a mapping of what is cut off ends the program
        Cuts::Ends => &[Look::Read, Look::OpenRead, Look::Direct],
    };
    let (shared, maker) = (&shared, &maker);
    let reads: u64 = std::thread::scope(|scope| {
        for writer in 0..writers {
            let part = PAGES / writers;
            let rng = Rng::new(seed ^ writer as u64);
            scope.spawn(move || write(shared, maker, part * writer..part * (writer + 1), cuts, rng));
        }
        let readers: Vec<_> = (0..3)
            .map(|reader| scope.spawn(move || read(shared, looks, Rng::new(seed ^ (100 + reader)))))
            .collect();
        let stopper = scope.spawn(move || {
            let end = Instant::now() + time;
            while Instant::now() < end && !shared.stopped() {
                std::thread::sleep(Duration::from_millis(10));
            }
            shared.stop.store(true, Ordering::SeqCst);
        });
        stopper.join().unwrap();
        readers.into_iter().map(|reader| reader.join().unwrap()).sum()
    });
    let changes = shared.changes.load(Ordering::SeqCst);
    println!("{}: {changes} changes, {reads} looks", place.name());
    assert!(changes > 100 && reads > 100, "both sides have worked");
    fs::remove_file(&path).unwrap();
}

fn on_both(cuts: Cuts, writers: usize) {
    let tmpfs = Tmpfs::mount("64M");
    run(&tmpfs, cuts, writers, Duration::from_secs(1));
    let drive = Drive::mount(&["--size", "64M"]);
    run(&drive, cuts, writers, seconds_from_env(4));
    drive.check();
}

#[test]
fn a_read_or_mapping_shows_no_less_than_the_last_write_that_returned() {
    on_both(Cuts::Holes, 1);
}

#[test]
fn two_writers_by_one_handle_leave_nothing_stale() {
    on_both(Cuts::Holes, 2);
}

#[test]
fn a_file_that_is_cut_and_grows_shows_nothing_stale() {
    on_both(Cuts::Ends, 1);
}

/// The byte of a log at an offset: never zero, which is what a stale end of a page would show.
fn log_byte(offset: u64) -> u8 {
    (offset % 251) as u8 + 1
}

#[test]
fn a_log_can_be_read_up_to_where_its_writer_has_come() {
    logs(false);
}

/// Where a program asks for the length of a file while another appends to it past the page cache, the kernel (Linux 6.18)
/// may take the length from the answer before the write has told it, and then cut its cached page there: once the writer
/// has gone on, the end of that page holds zeros that no file ever held. This is why okapi makes no handle direct that
/// did not ask for it.
#[test]
fn a_log_whose_length_is_asked_for_shows_nothing_stale() {
    logs(true);
}

fn logs(measured: bool) {
    let tmpfs = Tmpfs::mount("256M");
    tail(&tmpfs, measured, Duration::from_secs(1));
    let drive = Drive::mount(&["--size", "256M"]);
    tail(&drive, measured, seconds_from_env(4));
    drive.check();
}

/// One appends records of odd lengths, others read what is new, and its length if `measured`, each in its own way.
fn tail(place: &dyn Place, measured: bool, time: Duration) {
    let seed = from_env_or_time(place.name());
    let path = place.path().join("log");
    let log = OpenOptions::new()
        .append(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    let (written, stop) = (&AtomicU64::new(0), &AtomicBool::new(false));
    let path = path.as_path();
    let end = std::thread::scope(|scope| {
        for mapped in [false, true] {
            scope.spawn(move || {
                let file = File::open(path).unwrap();
                follow(written, stop, |seen, end| {
                    if measured {
                        assert!(file.metadata().unwrap().len() >= end, "the length is stale");
                    }
                    let mut part = vec![0; (end - seen) as usize];
                    match mapped && end > seen {
                        true => part = Mapping::new(&file, seen, part.len(), false).unwrap().read(),
                        false => file.read_exact_at(&mut part, seen).unwrap(),
                    }
                    part
                });
            });
        }
        append(&log, &mut Rng::new(seed), (written, stop), time)
    });
    println!("{}: {end} bytes", place.name());
    assert!(end > 100_000, "the log has grown");
}

/// Appends until time is up, somebody is not content, or there is enough; returns how much.
fn append(mut log: &File, rng: &mut Rng, (written, stop): (&AtomicU64, &AtomicBool), time: Duration) -> u64 {
    let deadline = Instant::now() + time;
    let mut end = 0;
    while Instant::now() < deadline && !stop.load(Ordering::SeqCst) && end < 128 << 20 {
        let len = 1 + rng.below(6000);
        let record: Vec<u8> = (end..end + len).map(log_byte).collect();
        log.write_all(&record).unwrap();
        end += len;
        written.store(end, Ordering::SeqCst);
    }
    stop.store(true, Ordering::SeqCst);
    end
}

/// Has `read` bring what is new, and judges it.
fn follow(written: &AtomicU64, stop: &AtomicBool, read: impl Fn(u64, u64) -> Vec<u8>) {
    let mut seen = 0;
    while !stop.load(Ordering::SeqCst) {
        let end = written.load(Ordering::SeqCst);
        let part = read(seen, end);
        let wrong = (seen..).zip(&part).find(|(at, byte)| **byte != log_byte(*at));
        if let Some((at, byte)) = wrong {
            stop.store(true, Ordering::SeqCst);
            panic!("{byte} at {at} of {end}");
        }
        // the last page is read again, when more of it is there
        seen = end - end % PAGE as u64;
    }
}
