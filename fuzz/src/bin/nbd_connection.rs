//! A whole connection of an NBD client, to a drive with two images: the input is all that the client says.

#![no_main]

use std::io::{self, Write};
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use okapi::clock::SystemClock;
use okapi::fs::{Volume, VolumeConfig};
use okapi::grid::{Grid, GridConfig};
use okapi::image::Images;
use okapi::serve::nbd::converse;
use okapi::vfs::{Caller, Ino, NewName, NewNode, SetAttr, Vfs, WriteAt};
use okapi_fuzz::{nbd, seeds};

/// Bytes of an image: short, so that requests meet.
const SIZE: u64 = 300_000;
/// Bytes that are answered before the client hangs up.
const OUTPUT_MAX: usize = 8 << 20;

fuzz_target!(
    init: seeds(nbd::connections),
    |bytes: &[u8]| {
        let volume = drive();
        let images = Images::new(Arc::clone(&volume) as Arc<dyn Vfs>, false, |_| {});
        let mut output = Output { len: 0 };
        let ended = converse(bytes, &mut output, &images);
        if let Err(error) = &ended {
            let kinds = [
                io::ErrorKind::InvalidData,
                io::ErrorKind::UnexpectedEof,
                io::ErrorKind::WriteZero,
            ];
            assert!(kinds.contains(&error.kind()), "a client can bring this about: {error}");
        }
        volume.check().expect("the volume is sound");
    }
);

/// A drive with `disk`, of data and holes, and `empty`.
fn drive() -> Arc<Volume> {
    let grid = Grid::new(GridConfig::with_size(4 << 20)).expect("the budget is fine");
    let namespace = grid.create_namespace("drive", None).expect("a fresh name");
    let volume =
        Volume::new(&grid, namespace, Arc::new(SystemClock), VolumeConfig::default()).expect("a root fits");
    let make = |parent, name: &[u8], node| {
        let at = NewName {
            parent,
            name,
            mode: 0o755,
            umask: 0,
        };
        volume
            .create(Caller::default(), at, node)
            .expect("there is room")
            .ino
    };
    let directory = make(Ino::ROOT, b"images", NewNode::Directory);
    for name in [&b"disk"[..], b"empty"] {
        let image = make(directory, name, NewNode::Regular);
        let size = SetAttr {
            size: Some(SIZE),
            ..SetAttr::default()
        };
        volume
            .setattr(Caller::default(), image, &size)
            .expect("a hole fits");
        if name == b"disk" {
            for offset in [0, 70_000, 250_000] {
                let written = volume.write(image, WriteAt::Offset(offset), &[7; 40_000], false);
                assert_eq!(written.expect("it fits").len, 40_000);
            }
        }
    }
    volume
}

/// Counts what is answered.
struct Output {
    len: usize,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.len += bytes.len();
        // Where it takes no more, that is an error to whoever writes.
        Ok(if self.len > OUTPUT_MAX { 0 } else { bytes.len() })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
