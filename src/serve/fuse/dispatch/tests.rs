//! Requests as the kernel would put them into a transport's buffers, and as it never would.

use std::sync::Arc;

use super::super::abi::{EntryOut, arguments_size};
use super::*;
use crate::clock::ManualClock;
use crate::fs::{Volume, VolumeConfig};
use crate::grid::{Grid, GridConfig};
use crate::serve::fuse::counters::Counters;
use crate::serve::fuse::operations::Agreement;

/// Bytes for names and data, as large as a transport's.
const PAYLOAD_SIZE: usize = 1 << 20;
/// Bytes for fixed arguments, as io_uring has them.
const ARGUMENTS_SIZE: usize = 128;
const ROOT: u64 = 1;

/// A volume, and the buffers of one entry.
struct Fixture {
    volume: Arc<Volume>,
    operations: Operations,
    payload: Vec<u8>,
}

impl Fixture {
    fn new() -> Self {
        let grid = Grid::new(GridConfig::with_size(16 << 20)).unwrap();
        let namespace = grid.create_namespace("drive", None).unwrap();
        let config = VolumeConfig {
            inodes_max: Some(10_000),
            ..VolumeConfig::default()
        };
        let volume = Volume::new(&grid, namespace, Arc::new(ManualClock::new()), config).unwrap();
        let operations = Operations::new(Arc::clone(&volume) as _, Arc::new(Counters::new()));
        operations.agree(Agreement {
            no_open: true,
            no_opendir: true,
        });
        Self {
            volume,
            operations,
            payload: vec![0; PAYLOAD_SIZE],
        }
    }

    /// Sends a request with these arguments (the rest is zeros) and these names or data; returns the answer's bytes.
    fn ask(&mut self, opcode: u32, nodeid: u64, arguments: &[u8], incoming: &[u8]) -> Answer<&[u8]> {
        let mut area = [0; ARGUMENTS_SIZE];
        area[..arguments.len()].copy_from_slice(arguments);
        self.ask_whole(opcode, nodeid, &area, incoming)
    }

    /// As [`Fixture::ask`], with no more arguments than these.
    fn ask_whole(&mut self, opcode: u32, nodeid: u64, arguments: &[u8], incoming: &[u8]) -> Answer<&[u8]> {
        self.payload[..incoming.len()].copy_from_slice(incoming);
        let header = InHeader {
            len: 0,
            opcode,
            unique: 7,
            nodeid,
            uid: 0,
            gid: 0,
            pid: 1,
            extlen: 0,
            padding: 0,
        };
        let request = Request {
            header,
            arguments,
            payload: &mut self.payload,
            len: incoming.len(),
        };
        let len = dispatch(&self.operations, request)?;
        Ok(&self.payload[..len])
    }

    /// Makes a file in the root; returns its number.
    fn create(&mut self, name: &[u8]) -> u64 {
        let arguments = words(&[libc::S_IFREG | 0o644, 0, 0, 0]);
        let answer = self.ask(opcode::MKNOD, ROOT, &arguments, &[name, b"\0"].concat());
        number_at(answer.unwrap(), 0)
    }

    fn write(&mut self, nodeid: u64, size: u32, bytes: &[u8]) -> Answer<u32> {
        let arguments = words(&[0, 0, 0, 0, size, 0, 0, 0, 0, 0]);
        let answer = self.ask(opcode::WRITE, nodeid, &arguments, bytes)?;
        Ok(word_at(answer, 0))
    }

    /// READ, READDIR or READDIRPLUS of `size` bytes from the beginning.
    fn read(&mut self, opcode: u32, nodeid: u64, size: u32) -> Answer<&[u8]> {
        self.ask(opcode, nodeid, &words(&[0, 0, 0, 0, size, 0, 0, 0, 0, 0]), b"")
    }
}

/// Arguments of 32-bit words; one of 64 bits is two, the lower first on the machines that okapi is tested on.
fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn word_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn number_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

#[test]
fn a_file_is_made_written_read_and_found() {
    let mut entry = Fixture::new();
    let file = entry.create(b"file");
    assert_eq!(entry.write(file, 5, b"bytes"), Ok(5));
    assert_eq!(entry.read(opcode::READ, file, 100), Ok(&b"bytes"[..]));
    let found = entry.ask(opcode::LOOKUP, ROOT, b"", b"file\0").unwrap();
    assert_eq!((found.len(), number_at(found, 0)), (size_of::<EntryOut>(), file));
    let missing = entry.ask(opcode::LOOKUP, ROOT, b"", b"missing\0").unwrap();
    assert_eq!(
        number_at(missing, 0),
        0,
        "a name that the kernel shall remember as missing"
    );
}

#[test]
fn a_listing_has_whole_entries_and_no_more_than_asked_for() {
    let mut entry = Fixture::new();
    for name in 0..50 {
        entry.create(format!("name{name:03}").as_bytes());
    }
    for (listing, lead) in [(opcode::READDIR, 0), (opcode::READDIRPLUS, size_of::<EntryOut>())] {
        for size in [0, 1, 31, 32, 150, 160, 4000, PAYLOAD_SIZE as u32, u32::MAX] {
            let bytes = entry.read(listing, ROOT, size).unwrap();
            assert!(bytes.len() <= size as usize && bytes.len().is_multiple_of(8));
            let (mut at, mut count) = (0, 0);
            while at < bytes.len() {
                let name_len = word_at(bytes, at + lead + 16) as usize;
                let name = &bytes[at + lead + 24..at + lead + 24 + name_len];
                assert!(
                    matches!(name, b"." | b"..") || name.starts_with(b"name"),
                    "{name:?}"
                );
                at += (lead + 24 + name_len).next_multiple_of(8);
                count += 1;
            }
            assert_eq!(at, bytes.len());
            assert!(size < 4000 || count >= 20, "{count} entries in {size} bytes");
            assert!(size < 8000 || count == 52, "{count} entries in {size} bytes");
        }
    }
}

#[test]
fn a_name_without_an_end_is_refused() {
    let mut entry = Fixture::new();
    entry.create(b"file");
    let with_name = [
        opcode::LOOKUP,
        opcode::UNLINK,
        opcode::RMDIR,
        opcode::MKNOD,
        opcode::MKDIR,
        opcode::LINK,
        opcode::SYMLINK,
        opcode::RENAME,
        opcode::RENAME2,
        opcode::SETXATTR,
        opcode::GETXATTR,
        opcode::REMOVEXATTR,
    ];
    for opcode in with_name {
        for name in [&b""[..], b"file", &[b'x'; 5000]] {
            let arguments = words(&[0, 0, libc::S_IFREG]);
            assert_eq!(
                entry.ask(opcode, ROOT, &arguments, name),
                Err(Refusal::INVALID),
                "{opcode}"
            );
        }
    }
    for opcode in [opcode::SYMLINK, opcode::RENAME, opcode::RENAME2] {
        let arguments = words(&[1]);
        for second in [&b"file\0"[..], b"file\0other"] {
            assert_eq!(
                entry.ask(opcode, ROOT, &arguments, second),
                Err(Refusal::INVALID),
                "{opcode}"
            );
        }
    }
    entry.volume.check().unwrap();
}

#[test]
fn sizes_beyond_what_came_are_refused_and_beyond_the_buffer_are_cut() {
    let mut entry = Fixture::new();
    let file = entry.create(b"file");
    for size in [6, 1 << 20, u32::MAX] {
        assert_eq!(entry.write(file, size, b"bytes"), Err(Refusal::INVALID), "{size}");
        let attribute = entry.ask(opcode::SETXATTR, file, &words(&[size, 0]), b"user.a\0bytes");
        assert_eq!(attribute, Err(Refusal::INVALID), "{size}");
    }
    let large = vec![7; PAYLOAD_SIZE];
    assert_eq!(
        entry.write(file, PAYLOAD_SIZE as u32, &large),
        Ok(PAYLOAD_SIZE as u32)
    );
    let read = entry.read(opcode::READ, file, u32::MAX).unwrap();
    assert_eq!(read.len(), PAYLOAD_SIZE);
    assert_eq!(entry.read(opcode::READ, file, 0), Ok(&b""[..]));
}

#[test]
fn an_attribute_comes_where_it_fits_and_its_size_where_that_is_asked_for() {
    let mut entry = Fixture::new();
    let file = entry.create(b"file");
    let value = [9; 65_536];
    let attribute = [&b"user.a\0"[..], &value].concat();
    assert_eq!(
        entry.ask(opcode::SETXATTR, file, &words(&[65_536, 0]), &attribute),
        Ok(&b""[..])
    );
    assert_eq!(
        entry.ask(opcode::GETXATTR, file, &words(&[65_536]), b"user.a\0"),
        Ok(&value[..])
    );
    let size = entry
        .ask(opcode::GETXATTR, file, &words(&[0]), b"user.a\0")
        .unwrap();
    assert_eq!((size.len(), word_at(size, 0)), (8, 65_536));
    let short = entry.ask(opcode::GETXATTR, file, &words(&[65_535]), b"user.a\0");
    assert_eq!(short, Err(Refusal(libc::ERANGE)));
    assert_eq!(
        entry.ask(opcode::LISTXATTR, file, &words(&[7]), b""),
        Ok(&b"user.a\0"[..])
    );
}

#[test]
fn what_okapi_does_not_have_is_unknown() {
    let mut entry = Fixture::new();
    let unknown = [0, 7, 19, 26, 36, 39, 99, 4096, u32::MAX];
    let left_out = [
        opcode::OPEN,
        opcode::OPENDIR,
        opcode::FLUSH,
        opcode::FSYNC,
        opcode::FSYNCDIR,
        opcode::ACCESS,
    ];
    for opcode in unknown.into_iter().chain(left_out) {
        assert_eq!(
            entry.ask(opcode, ROOT, b"", b"name\0"),
            Err(Refusal::UNKNOWN),
            "{opcode}"
        );
    }
}

#[test]
fn arguments_that_do_not_come_whole_are_refused() {
    let mut entry = Fixture::new();
    let file = entry.create(b"file");
    for opcode in 0..64 {
        let whole = arguments_size(opcode);
        for len in 0..whole {
            let answer = entry.ask_whole(opcode, file, &vec![0; len], b"file\0file\0");
            assert_eq!(
                answer,
                Err(Refusal(libc::EIO)),
                "{len} of {whole} bytes for {opcode}"
            );
        }
        assert_ne!(
            entry.ask_whole(opcode, file, &vec![0; whole], b"file\0file\0"),
            Err(Refusal(libc::EIO)),
            "{opcode}"
        );
    }
    entry.volume.check().unwrap();
}

#[test]
fn inodes_are_forgotten_one_by_one_and_many_at_once() {
    let mut entry = Fixture::new();
    let files: Vec<_> = (0..4)
        .map(|number| entry.create(format!("file{number}").as_bytes()))
        .collect();
    let is_known = |entry: &mut Fixture, file| entry.ask(opcode::GETATTR, file, b"", b"").is_ok();
    for number in 0..4 {
        let name = format!("file{number}\0");
        entry.ask(opcode::UNLINK, ROOT, b"", name.as_bytes()).unwrap();
    }
    assert!(is_known(&mut entry, files[0]), "the kernel has not forgotten it");
    let one = 1_u64.to_ne_bytes();
    assert_eq!(entry.ask(opcode::FORGET, files[0], &one, b""), Ok(&b""[..]));
    assert!(!is_known(&mut entry, files[0]));

    let pairs: Vec<u8> = files[1..3]
        .iter()
        .flat_map(|file| [file.to_ne_bytes(), one].concat())
        .collect();
    assert_eq!(
        entry.ask(opcode::BATCH_FORGET, 0, &words(&[2]), &pairs),
        Ok(&b""[..])
    );
    assert_eq!(
        files
            .iter()
            .map(|&file| is_known(&mut entry, file))
            .collect::<Vec<_>>(),
        [false, false, false, true]
    );
    let too_many = entry.ask(opcode::BATCH_FORGET, 0, &words(&[u32::MAX]), &pairs[..8]);
    assert_eq!(too_many, Err(Refusal(libc::EIO)));
    assert!(!is_answered(opcode::FORGET) && !is_answered(opcode::BATCH_FORGET));
    assert!(is_answered(opcode::LOOKUP));
}

/// Whatever the bytes are, the answer is one, and the volume stays sound. (FORGET is left out: a count that was never
/// handed out is the one thing that the kernel is trusted with.)
#[test]
fn random_bytes_are_answered() {
    let seed = std::env::var("OKAPI_SEED")
        .map_or_else(|_| u64::from(std::process::id()), |text| text.parse().unwrap());
    println!("OKAPI_SEED={seed} replays this run");
    let mut random = Random(seed);
    let mut entry = Fixture::new();
    let rounds = if cfg!(debug_assertions) { 20_000 } else { 200_000 };
    let mut answered = 0;
    for _ in 0..rounds {
        let opcode = match random.below(60) as u32 {
            opcode::FORGET | opcode::BATCH_FORGET => opcode::LOOKUP,
            opcode => opcode,
        };
        let arguments: Vec<u8> = (0..16).flat_map(|_| random.number().to_ne_bytes()).collect();
        let incoming: Vec<u8> = (0..random.below(40))
            .map(|_| random.pick(b"abc\0\0/.\xff"))
            .collect();
        let nodeid = random.below(20);
        answered += u32::from(entry.ask(opcode, nodeid, &arguments, &incoming).is_ok());
    }
    assert!(answered > rounds / 100, "{answered} of {rounds} made sense");
    entry.volume.check().unwrap();
}

/// Splitmix64.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.bits() % end
    }

    fn pick(&mut self, choices: &[u8]) -> u8 {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// A number as arguments hold them: small as a rule, or anything.
    fn number(&mut self) -> u64 {
        match self.below(4) {
            0 => self.bits(),
            1 => self.below(1 << 20),
            _ => self.below(20),
        }
    }
}
