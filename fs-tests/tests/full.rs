//! Write storms into small drives: full means ENOSPC and nothing else, memory stays within the bound, and comes back.

#![allow(clippy::unwrap_used)] // a test that cannot go on fails

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use fs_tests::harness::{Drive, Place, pss_bytes};
use fs_tests::model::pattern;
use fs_tests::sys::set_xattr;
use nix::errno::Errno;
use nix::sys::statvfs::statvfs;

const MIB: u64 = 1 << 20;
/// What a drive may take beside its size: the program itself, its buffers and its threads.
const FIXED_BYTES: u64 = 64 * MIB;
/// What an emptied drive may keep beside what it took when it was new.
const SLACK_BYTES: u64 = 16 * MIB;
/// A writer gives up after so many refusals in a row: others may have been faster.
const REFUSALS: u32 = 20;

/// A drive whose memory is watched all the time.
struct Storm {
    drive: Drive,
    /// The daemon's memory before the storm.
    empty_bytes: u64,
    limit_bytes: u64,
    peak_bytes: AtomicU64,
    /// Files tried so far: each is filled in its own way.
    fills: AtomicU32,
    /// Storms follow each other: each measures memory, and speed would only blur that.
    _turn: MutexGuard<'static, ()>,
}

/// A file that was written whole, or up to a length that is known.
#[derive(Clone, Debug)]
struct Stored {
    path: PathBuf,
    fill: u32,
    len: u64,
}

/// What a writer does in one step; `None`: it has made enough.
type Step<'s> = dyn Fn(&Storm, u32) -> Option<io::Result<Stored>> + Sync + 's;

impl Storm {
    fn new(size_mib: u64, options: &[&str]) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let size = format!("{size_mib}M");
        let options = [&["--size", &size], options].concat();
        let drive = Drive::mount(&options);
        Self {
            empty_bytes: pss_bytes(drive.pid()),
            drive,
            limit_bytes: size_mib * MIB * 105 / 100 + FIXED_BYTES,
            peak_bytes: AtomicU64::new(0),
            fills: AtomicU32::new(1),
            _turn: turn,
        }
    }

    fn path(&self) -> &Path {
        self.drive.path()
    }

    /// Runs `work` while the daemon's memory is sampled.
    fn watched<R>(&self, work: impl FnOnce() -> R) -> R {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let bytes = pss_bytes(self.drive.pid());
                    self.peak_bytes.fetch_max(bytes, Ordering::Relaxed);
                    sleep(Duration::from_millis(20));
                }
            });
            let result = catch_unwind(AssertUnwindSafe(work));
            over.store(true, Ordering::Relaxed);
            watcher.join().unwrap();
            result.unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Lets writers work at once, each until it is refused or has enough. Returns what they stored.
    fn rage(&self, writers: &[&Step<'_>]) -> Vec<Stored> {
        let stored = Mutex::new(Vec::new());
        let refused = AtomicU32::new(0);
        self.watched(|| {
            std::thread::scope(|scope| {
                for write in writers {
                    scope.spawn(|| {
                        let mut in_a_row = 0;
                        while in_a_row < REFUSALS {
                            let fill = self.fills.fetch_add(1, Ordering::Relaxed) * 4 + 1;
                            match write(self, fill) {
                                None => break,
                                Some(Ok(file)) => {
                                    in_a_row = 0;
                                    stored.lock().unwrap().push(file);
                                }
                                Some(Err(error)) => {
                                    assert_eq!(error.raw_os_error(), Some(Errno::ENOSPC as i32), "{error}");
                                    refused.fetch_add(1, Ordering::Relaxed);
                                    in_a_row += 1;
                                }
                            }
                        }
                    });
                }
            });
        });
        assert!(refused.into_inner() > 0, "the drive became full");
        self.expect_memory_within_bound();
        stored.into_inner().unwrap()
    }

    fn expect_memory_within_bound(&self) {
        let (peak, limit) = (self.peak_bytes.load(Ordering::Relaxed), self.limit_bytes);
        println!("peak {} MiB of {} MiB", peak / MIB, limit / MIB);
        assert!(peak <= limit, "{peak} bytes of memory, at most {limit}");
    }

    /// What is left by statvfs(3), in bytes and in inodes.
    fn left(&self) -> (u64, u64) {
        let stat = statvfs(self.path()).unwrap();
        assert!(stat.blocks_free() <= stat.blocks() && stat.blocks_available() == stat.blocks_free());
        assert!(stat.files_free() <= stat.files());
        (stat.blocks_free() * stat.fragment_size(), stat.files_free())
    }

    fn verify(&self, stored: &[Stored]) {
        self.watched(|| {
            for file in stored {
                let bytes = fs::read(&file.path).unwrap();
                let whole = bytes.len() as u64 == file.len && bytes == pattern(file.fill, file.len);
                assert!(whole, "{file:?} is read as it was written");
            }
        });
        self.expect_memory_within_bound();
    }

    /// Removes everything, and expects the memory back.
    fn clear(self) {
        self.drive.check();
        for entry in fs::read_dir(self.path()).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => fs::remove_dir_all(path).unwrap(),
                false => fs::remove_file(path).unwrap(),
            }
        }
        let start = Instant::now();
        let allowed = FIXED_BYTES.min(self.empty_bytes + SLACK_BYTES);
        loop {
            let held = pss_bytes(self.drive.pid());
            if held < allowed {
                println!("{} MiB {:?} after all is gone", held / MIB, start.elapsed());
                break;
            }
            let patience = Duration::from_secs(5);
            assert!(
                start.elapsed() < patience,
                "{held} bytes are held, at most {allowed}"
            );
            sleep(Duration::from_millis(20));
        }
        self.drive.check();
        self.drive.unmount();
    }
}

/// Makes a file of `len` bytes; one that does not fit is removed again.
fn store(path: PathBuf, fill: u32, len: u64) -> io::Result<Stored> {
    let mut file = File::create_new(&path)?;
    match file.write_all(&pattern(fill, len)) {
        Ok(()) => Ok(Stored { path, fill, len }),
        Err(error) => {
            fs::remove_file(&path).unwrap();
            Err(error)
        }
    }
}

/// Makes files of `len` bytes, in directories of 1000.
fn files(
    kind: &'static str,
    len: u64,
    max: u32,
) -> impl Fn(&Storm, u32) -> Option<io::Result<Stored>> + Sync {
    let made = AtomicU32::new(0);
    move |storm, fill| {
        let number = made.fetch_add(1, Ordering::Relaxed);
        let dir = storm.path().join(format!("{kind}{}", number / 1000));
        let make = || {
            match fs::create_dir(&dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => (),
            }
            store(dir.join(format!("{number}")), fill, len)
        };
        (number < max).then(make)
    }
}

/// Makes one file after the other, each as long as there is room; what fitted of the last stays.
fn streams(storm: &Storm, fill: u32) -> Option<io::Result<Stored>> {
    let path = storm.path().join(format!("stream{fill}"));
    let bytes = pattern(fill, 40 * MIB);
    let write = || {
        let mut file = File::create_new(&path)?;
        let mut len = 0;
        for chunk in bytes.chunks(300_000) {
            match file.write_all(chunk) {
                Ok(()) => len += chunk.len() as u64,
                Err(error) if error.raw_os_error() == Some(Errno::ENOSPC as i32) => {
                    // a part of the chunk may have fitted
                    len = file.metadata()?.len();
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if len == 0 {
            fs::remove_file(&path)?;
            return Err(Errno::ENOSPC.into());
        }
        Ok(Stored {
            path: path.clone(),
            fill,
            len,
        })
    };
    Some(write())
}

#[test]
fn a_storm_of_files_of_all_sizes() {
    let storm = Storm::new(256, &[]);
    let (tiny, page, large) = (
        files("tiny", 100, 30_000),
        files("page", 4096, 10_000),
        files("large", MIB, 1000),
    );
    let stored = storm.rage(&[&tiny, &page, &large, &streams]);
    let (bytes, _) = storm.left();
    assert!(bytes < 4 * MIB, "{bytes} bytes are left of a full drive");
    let total: u64 = stored.iter().map(|file| file.len).sum();
    assert!(total > 200 * MIB, "{total} bytes fitted into 256 MiB");
    storm.verify(&stored);
    storm.drive.check();

    // deleting half lets writes go on
    let (gone, kept): (Vec<_>, Vec<_>) = stored.into_iter().enumerate().partition(|(nth, _)| nth % 2 == 0);
    let mut freed = 0;
    for (_, file) in &gone {
        fs::remove_file(&file.path).unwrap();
        freed += file.len;
    }
    let more = files("more", 100_000, 10_000);
    let again = storm.rage(&[&more]);
    let total: u64 = again.iter().map(|file| file.len).sum();
    assert!(total > freed / 2, "{total} bytes fitted where {freed} were freed");
    let kept: Vec<_> = kept.into_iter().map(|(_, file)| file).chain(again).collect();
    storm.verify(&kept);
    storm.clear();
}

#[test]
fn a_storm_of_tiny_files() {
    let storm = Storm::new(32, &[]);
    let (one, other) = (files("one", 100, u32::MAX), files("other", 1, u32::MAX));
    let stored = storm.rage(&[&one, &other]);
    assert!(stored.len() > 15_000, "{} files fitted into 32 MiB", stored.len());
    storm.verify(&stored);
    storm.clear();
}

#[test]
fn a_storm_of_names_and_attributes() {
    let storm = Storm::new(32, &[]);
    let named = |storm: &Storm, fill: u32| {
        let path = storm.path().join(format!("{fill:0>250}"));
        Some(store(path, fill, 0))
    };
    let linked = |storm: &Storm, fill: u32| {
        let path = storm.path().join(format!("link{fill}"));
        let target = "t".repeat(1000 + fill as usize % 3000);
        let made = std::os::unix::fs::symlink(&target, &path);
        made.map(|()| {
            drop(fs::read_link(&path).map(|link| assert_eq!(link.as_os_str().as_bytes(), target.as_bytes())))
        })
        .map_or_else(
            |error| Some(Err(error)),
            |()| {
                let empty = storm.path().join(format!("empty{fill}"));
                Some(store(empty, fill, 0))
            },
        )
    };
    let tagged = |storm: &Storm, fill: u32| {
        let path = storm.path().join(format!("tagged{fill}"));
        let tag = || {
            let file = store(path.clone(), fill, 0)?;
            for name in [c"user.a", c"user.b", c"trusted.c"] {
                set_xattr(&path, false, name, &pattern(fill, 300), 0)?;
            }
            Ok(file)
        };
        Some(tag())
    };
    let stored = storm.rage(&[&named, &linked, &tagged]);
    storm.verify(&stored);
    storm.clear();
}

#[test]
fn a_storm_of_scattered_bytes() {
    let storm = Storm::new(64, &[]);
    // a byte in every second page, and in every page for the other file: the worst that a map of extents can get
    let scattered = |storm: &Storm, fill: u32| {
        let stride = if fill.is_multiple_of(8) { 8192 } else { 5000 };
        let path = storm.path().join(format!("scattered{fill}"));
        let scatter = || {
            let file = File::create_new(&path)?;
            (0..4000).try_for_each(|nth| file.write_all_at(b"x", nth * stride))
        };
        match scatter() {
            Ok(()) => {
                let empty = storm.path().join(format!("empty{fill}"));
                Some(store(empty, fill, 0))
            }
            Err(error) => Some(Err(error)),
        }
    };
    let stored = storm.rage(&[&scattered, &scattered]);
    storm.verify(&stored);
    storm.clear();
}

#[test]
fn a_storm_on_small_blocks() {
    let storm = Storm::new(64, &["--block-size", "4K"]);
    let (tiny, page) = (files("tiny", 5000, 5000), files("page", 4096, 5000));
    let stored = storm.rage(&[&tiny, &page, &streams]);
    storm.verify(&stored);
    storm.clear();
}

#[test]
fn overwriting_a_full_drive_needs_no_room() {
    let storm = Storm::new(32, &[]);
    let stored = storm.rage(&[&streams]);
    for file in &stored {
        fs::write(&file.path, b"").unwrap();
    }
    let again = storm.rage(&[&streams]);
    let (first, second): (u64, u64) = (
        stored.iter().map(|f| f.len).sum(),
        again.iter().map(|f| f.len).sum(),
    );
    assert!(
        second + 2 * MIB > first,
        "{second} bytes fitted where {first} were cut"
    );
    storm.verify(&again);
    storm.clear();
}
