//! Workloads on directories of a mounted tree, and what must be true after them. They run in threads and processes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use fs_tests::rng::Rng;
use fs_tests::sys::{Mapping, entries, get_xattr, set_xattr};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

/// Accepts success and the errors that a race may bring.
#[track_caller]
fn allow<T>(result: io::Result<T>, errnos: &[Errno]) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error)
            if errnos
                .iter()
                .any(|errno| error.raw_os_error() == Some(*errno as i32)) =>
        {
            None
        }
        Err(error) => panic!("{error:?} is none of {errnos:?}"),
    }
}

fn rename(from: &Path, to: &Path, flags: RenameFlags) -> io::Result<()> {
    Ok(renameat2(AT_FDCWD, from, AT_FDCWD, to, flags)?)
}

/// Appends records of many writers to one file. Each holds its writer, its number and its length, and fills itself.
pub(crate) struct Records {
    log: File,
    writer: u64,
    next: u64,
}

impl Records {
    pub(crate) fn new(dir: &Path, writer: u64) -> Self {
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            .open(dir.join("log"))
            .unwrap();
        Self { log, writer, next: 0 }
    }

    pub(crate) fn round(&mut self, rng: &mut Rng) {
        if self.next < 20_000 {
            let longest = if rng.percent(2) { 20_000 } else { 200 };
            let filler = 40 + rng.below(longest) as usize;
            let mut record = format!("{} {} {filler} ", self.writer, self.next).into_bytes();
            record.resize(record.len() + filler, b'a' + (self.next % 26) as u8);
            record.push(b'\n');
            let written = self.log.write(&record).unwrap();
            assert_eq!(written, record.len(), "an append is whole");
            self.next += 1;
        }
    }

    /// Records of each writer, all of which must be there, in order and whole.
    pub(crate) fn verify(dir: &Path) -> BTreeMap<u64, u64> {
        let text = fs::read(dir.join("log")).unwrap();
        let mut counts = BTreeMap::new();
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line = std::str::from_utf8(line).unwrap();
            let mut fields = line.splitn(4, ' ');
            let mut number = || fields.next().unwrap().parse::<u64>().unwrap();
            let (writer, nth, len) = (number(), number(), number());
            let filler = fields.next().unwrap();
            let letter = char::from(b'a' + (nth % 26) as u8);
            assert!(
                filler.len() as u64 == len && filler.chars().all(|at| at == letter),
                "record {writer} {nth}"
            );
            let count = counts.entry(writer).or_insert(0);
            assert_eq!(*count, nth, "no record of writer {writer} is lost or comes twice");
            *count += 1;
        }
        counts
    }
}

/// Moves files between directories in all directions; each file's content is its identity.
pub(crate) struct Moves {
    dirs: Vec<PathBuf>,
}

impl Moves {
    const DIRS: usize = 4;
    const NAMES: u64 = 12;
    const FILES: u64 = 24;

    pub(crate) fn prepare(top: &Path) {
        let moves = Self::new(top);
        moves.dirs.iter().for_each(|dir| fs::create_dir_all(dir).unwrap());
        for file in 0..Self::FILES {
            let dir = &moves.dirs[file as usize % Self::DIRS];
            fs::write(
                dir.join(format!("{}", file / Self::DIRS as u64)),
                format!("file {file}"),
            )
            .unwrap();
        }
    }

    pub(crate) fn new(top: &Path) -> Self {
        // one of them lies below another, and all are moved between
        let dirs = ["a", "b", "b/below", "b/below/deep"].map(|name| top.join(name));
        Self { dirs: dirs.to_vec() }
    }

    fn slot(&self, rng: &mut Rng) -> PathBuf {
        self.dirs[rng.index(Self::DIRS)].join(format!("{}", rng.below(Self::NAMES)))
    }

    pub(crate) fn round(&mut self, rng: &mut Rng) {
        let (from, to) = (self.slot(rng), self.slot(rng));
        let race = [Errno::ENOENT, Errno::EEXIST];
        match rng.percent(40) {
            true => allow(rename(&from, &to, RenameFlags::RENAME_EXCHANGE), &race),
            false => allow(rename(&from, &to, RenameFlags::RENAME_NOREPLACE), &race),
        };
    }

    /// All files are there, each once.
    pub(crate) fn verify(top: &Path) {
        let mut seen = BTreeSet::new();
        for dir in Self::new(top).dirs {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    let text = fs::read_to_string(&path).unwrap();
                    assert!(seen.insert(text.clone()), "{text} is there twice");
                }
            }
        }
        assert_eq!(seen.len() as u64, Self::FILES, "no file is lost: {seen:?}");
    }
}

/// Makes, links, renames over and removes a handful of names, of files and directories.
pub(crate) struct Churn {
    dirs: [PathBuf; 2],
}

impl Churn {
    pub(crate) fn new(top: &Path) -> Self {
        let dirs = ["left", "right"].map(|name| top.join(name));
        dirs.iter().for_each(|dir| fs::create_dir_all(dir).unwrap());
        Self { dirs }
    }

    fn name(&self, rng: &mut Rng) -> PathBuf {
        self.dirs[rng.index(2)].join(rng.pick(&["a", "b", "c", "d", "e"]))
    }

    pub(crate) fn round(&mut self, rng: &mut Rng) {
        let (name, other) = (self.name(rng), self.name(rng));
        let race = [
            Errno::ENOENT,
            Errno::EEXIST,
            Errno::EISDIR,
            Errno::ENOTDIR,
            Errno::ENOTEMPTY,
            Errno::EINVAL,
            Errno::EPERM,
            Errno::ELOOP,
            Errno::ENODATA,
        ];
        match rng.below(12) {
            0 => drop(allow(fs::write(&name, b"content"), &race)),
            1 => drop(allow(fs::create_dir(&name), &race)),
            2 => drop(allow(symlink("nowhere", &name), &race)),
            3 => drop(allow(fs::hard_link(&name, &other), &race)),
            4 => drop(allow(fs::remove_file(&name), &race)),
            5 => drop(allow(fs::remove_dir(&name), &race)),
            6 => drop(allow(fs::rename(&name, &other), &race)),
            7 => drop(allow(rename(&name, &other, RenameFlags::RENAME_EXCHANGE), &race)),
            8 => drop(allow(fs::rename(&name, other.join("below")), &race)),
            9 => drop(allow(fs::remove_file(other.join("below")), &race)),
            10 => drop(allow(
                set_xattr(&name, false, c"user.a", b"value", 0).map_err(io::Error::from),
                &race,
            )),
            _ => {
                allow(fs::symlink_metadata(&name), &race);
                drop(allow(
                    get_xattr(&name, false, c"user.a").map_err(io::Error::from),
                    &race,
                ));
            }
        }
    }
}

/// Writes, cuts and reads one file. All writers write the same byte at the same place, so that each byte that is read
/// is that or zero.
pub(crate) struct Cuts {
    file: File,
}

impl Cuts {
    pub(crate) fn new(dir: &Path) -> Self {
        let path = dir.join("cut");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .unwrap();
        Self { file }
    }

    fn byte(offset: u64) -> u8 {
        1 + (offset / 512 % 250) as u8
    }

    pub(crate) fn round(&mut self, rng: &mut Rng) {
        let offset = rng.below(300_000);
        let len = 1 + rng.below(20_000);
        let bytes: Vec<u8> = (offset..offset + len).map(Self::byte).collect();
        match rng.below(4) {
            0 => self.file.set_len(offset).unwrap(),
            1 | 2 => self.file.write_all_at(&bytes, offset).unwrap(),
            _ => {
                let mut read = vec![0; bytes.len()];
                let count = self.file.read_at(&mut read, offset).unwrap();
                let wrong = read[..count]
                    .iter()
                    .zip(&bytes)
                    .position(|(got, right)| got != right && *got != 0);
                assert_eq!(wrong, None, "a byte that nobody wrote, behind {offset}");
            }
        }
    }
}

/// Writes to one file by mapping and by calls; each user has every eighth block of 100 bytes.
pub(crate) struct Maps {
    map: Mapping,
    file: File,
    user: usize,
    round: u8,
}

impl Maps {
    const LEN: usize = 200_000;
    const USERS: usize = 8;
    const BLOCK: usize = 100;

    pub(crate) fn prepare(dir: &Path) {
        fs::write(dir.join("mapped"), vec![0; Self::LEN]).unwrap();
    }

    pub(crate) fn new(dir: &Path, user: usize) -> Self {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(dir.join("mapped"))
            .unwrap();
        let map = Mapping::new(&file, 0, Self::LEN, true).unwrap();
        Self {
            map,
            file,
            user,
            round: 0,
        }
    }

    pub(crate) fn round(&mut self, rng: &mut Rng) {
        let blocks = Self::LEN / Self::BLOCK / Self::USERS;
        let start = (rng.index(blocks) * Self::USERS + self.user) * Self::BLOCK;
        self.round = self.round.wrapping_add(1);
        let bytes = [self.round; Self::BLOCK];
        match rng.below(3) {
            0 => self.file.write_all_at(&bytes, start as u64).unwrap(),
            1 => self.map.write(start, &bytes),
            _ => {
                self.map.write(start, &bytes);
                self.map.sync().unwrap();
            }
        }
        let mut read = [0; Self::BLOCK];
        self.file.read_exact_at(&mut read, start as u64).unwrap();
        assert_eq!(read, bytes, "a user sees what it wrote, by whichever way");
        assert_eq!(self.map.read()[start..start + Self::BLOCK], bytes);
    }
}

/// Scans a directory in which some entries stay while others come, go and move.
pub(crate) struct Scan {
    dir: PathBuf,
}

impl Scan {
    const STAY: usize = 200;

    pub(crate) fn prepare(top: &Path) {
        let dir = top.join("scanned");
        fs::create_dir(&dir).unwrap();
        for number in 0..Self::STAY {
            File::create(dir.join(format!("stays{number}"))).unwrap();
        }
    }

    pub(crate) fn new(top: &Path) -> Self {
        Self {
            dir: top.join("scanned"),
        }
    }

    pub(crate) fn change(&mut self, rng: &mut Rng) {
        let name = |rng: &mut Rng| self.dir.join(format!("goes{}", rng.below(40)));
        let (one, other) = (name(rng), name(rng));
        match rng.below(3) {
            0 => drop(allow(File::create(&one), &[])),
            1 => drop(allow(fs::remove_file(&one), &[Errno::ENOENT])),
            _ => drop(allow(fs::rename(&one, &other), &[Errno::ENOENT])),
        }
    }

    pub(crate) fn round(&mut self, rng: &mut Rng) {
        let dir = File::open(&self.dir).unwrap();
        let buffer = 300 + rng.below(8000) as usize;
        let mut seen = Vec::new();
        loop {
            let some = entries(&dir, buffer).unwrap();
            if some.is_empty() {
                break;
            }
            seen.extend(
                some.into_iter()
                    .map(|entry| entry.name)
                    .filter(|name| name.starts_with(b"stays")),
            );
        }
        let all = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(
            (seen.len(), all),
            (Self::STAY, Self::STAY),
            "each entry that stays comes once"
        );
    }
}

/// Every entry that is listed can be looked at.
pub(crate) fn walk(top: &Path) -> usize {
    let mut count = 0;
    let mut todo = vec![top.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let kind =
                fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            count += 1;
            if kind.is_dir() {
                todo.push(path);
            }
        }
    }
    count
}
