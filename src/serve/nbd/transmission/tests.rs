//! Tests of what a client of raw bytes cannot bring about at will: the end of an export, connections cut anywhere.

use std::sync::Arc;

use parking_lot::Mutex;

use super::super::handshake::negotiate;
use super::super::protocol::{OPTION_MAGIC, REQUEST_MAGIC, option};
use super::*;
use crate::clock::SystemClock;
use crate::fs::{Volume, VolumeConfig};
use crate::grid::{Grid, GridConfig};
use crate::image::Images;
use crate::vfs::{Caller, Ino, NewName, NewNode, Outdated, SetAttr, Vfs};

const SIZE: u64 = 1 << 20;

/// A client whose bytes are all there from the beginning.
struct Script<'s> {
    input: &'s [u8],
    output: Vec<u8>,
}

impl Read for Script<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.input.read(bytes)
    }
}

impl Write for Script<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An image `disk`, and what others are told of it.
struct Disk {
    images: Arc<Images>,
    told: Arc<Mutex<Vec<Outdated>>>,
}

fn disk() -> Disk {
    let grid = Grid::new(GridConfig::with_size(16 << 20)).expect("the budget is fine");
    let namespace = grid.create_namespace("drive", None).expect("a fresh name");
    let fs =
        Volume::new(&grid, namespace, Arc::new(SystemClock), VolumeConfig::default()).expect("a root fits");
    let make = |parent, name: &[u8], node| {
        let at = NewName {
            parent,
            name,
            mode: 0o755,
            umask: 0,
        };
        fs.create(Caller::default(), at, node).expect("there is room").ino
    };
    let directory = make(Ino::ROOT, b"images", NewNode::Directory);
    let file = make(directory, b"disk", NewNode::Regular);
    let size = SetAttr {
        size: Some(SIZE),
        ..SetAttr::default()
    };
    fs.setattr(Caller::default(), file, &size).expect("a hole fits");
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let images = Images::new(fs, false, move |outdated| tell.lock().extend_from_slice(outdated));
    Disk { images, told }
}

impl Disk {
    /// A connection that has chosen the disk.
    fn agreed(&self, structured: bool) -> Agreed {
        let mut input = 3u32.to_be_bytes().to_vec();
        if structured {
            input.extend(option_bytes(option::STRUCTURED_REPLY, b""));
        }
        input.extend(option_bytes(option::GO, b"\0\0\0\x04disk\0\0"));
        let mut script = Script {
            input: &input,
            output: Vec::new(),
        };
        negotiate(&mut script, &self.images)
            .expect("the script is right")
            .expect("the disk is there")
    }

    /// Plays requests; returns what was answered, and how the connection ended.
    fn play(&self, input: &[u8], structured: bool, closing: bool) -> (Vec<u8>, io::Result<()>) {
        let mut output = Vec::new();
        let closing = AtomicBool::new(closing);
        let agreed = self.agreed(structured);
        let ended = Transmission::new(input, &mut output, agreed, &closing).run();
        (output, ended)
    }
}

fn option_bytes(code: u32, data: &[u8]) -> Vec<u8> {
    let len = data.len() as u32;
    [&OPTION_MAGIC[..], &code.to_be_bytes(), &len.to_be_bytes(), data].concat()
}

fn request(command: u16, (offset, len): (u64, u32), payload: &[u8]) -> Vec<u8> {
    [
        &REQUEST_MAGIC.to_be_bytes()[..],
        &0u16.to_be_bytes(),
        &command.to_be_bytes(),
        b"cookie 1",
        &offset.to_be_bytes(),
        &len.to_be_bytes(),
        payload,
    ]
    .concat()
}

#[test]
fn an_export_that_ends_refuses_what_still_comes() {
    let disk = disk();
    let input = [
        request(1, (0, 100_000), &[7; 100_000]),
        request(0, (0, 4096), b""),
    ]
    .concat();
    let (output, ended) = disk.play(&input, false, true);
    ended.expect("the client has left between requests");
    let refusal = [
        &0x6744_6698u32.to_be_bytes()[..],
        &108u32.to_be_bytes(),
        b"cookie 1",
    ]
    .concat();
    assert_eq!(output, refusal.repeat(2));
    assert!(disk.told.lock().is_empty());
}

#[test]
fn a_connection_cut_in_a_payload_has_told_of_what_it_may_have_written() {
    let disk = disk();
    let (output, ended) = disk.play(&request(1, (4096, 900_000), &[7; 600_000]), true, false);
    assert_eq!(
        ended.expect_err("the payload is cut").kind(),
        io::ErrorKind::UnexpectedEof
    );
    assert!(output.is_empty());
    let range = ByteRange {
        start: 4096,
        end: 904_096,
    };
    let told = disk.told.lock();
    assert!(matches!(told.as_slice(), [Outdated::Bytes { range: told, .. }] if *told == range));
}

#[test]
fn requests_cut_anywhere_end_the_connection() {
    let disk = disk();
    let whole = [
        request(1, (0, 5), b"bytes"),
        request(4, (0, 4096), b""),
        request(0, (0, 8192), b""),
    ]
    .concat();
    let boundaries = [0, 33, 61, 89];
    for cut in 0..=whole.len() {
        for structured in [false, true] {
            let (_, ended) = disk.play(&whole[..cut], structured, false);
            assert_eq!(ended.is_ok(), boundaries.contains(&cut), "cut at {cut}");
        }
    }
}

#[test]
fn a_handshake_cut_anywhere_chooses_nothing() {
    let disk = disk();
    let whole = [
        &3u32.to_be_bytes()[..],
        &option_bytes(option::LIST, b""),
        &option_bytes(option::GO, b"\0\0\0\x04disk\0\0"),
    ]
    .concat();
    for cut in 0..whole.len() {
        let mut script = Script {
            input: &whole[..cut],
            output: Vec::new(),
        };
        let ended = negotiate(&mut script, &disk.images);
        assert!(ended.is_err(), "cut at {cut}");
    }
}

#[test]
fn old_clients_get_their_zeros_and_unknown_ones_are_sent_away() {
    let disk = disk();
    let choose = option_bytes(option::EXPORT_NAME, b"disk");
    for (flags, len) in [(0u32, 152), (1, 152), (2, 28), (3, 28)] {
        let input = [&flags.to_be_bytes()[..], &choose].concat();
        let mut script = Script {
            input: &input,
            output: Vec::new(),
        };
        let agreed = negotiate(&mut script, &disk.images).expect("the script is right");
        assert_eq!(agreed.expect("the disk is there").terms.size, SIZE);
        assert_eq!(script.output.len(), len, "flags {flags}");
        assert_eq!(script.output[18..26], SIZE.to_be_bytes());
    }
    let input = [&4u32.to_be_bytes()[..], &choose].concat();
    let mut script = Script {
        input: &input,
        output: Vec::new(),
    };
    assert!(negotiate(&mut script, &disk.images).is_err());
}
