//! What disks' clients do with an image.

use super::*;
use crate::image::disk::Run;
use crate::limits::{IMAGE_ZERO_PIECE_MAX, PAGE_SIZE};
use crate::range::ByteRange;

#[test]
fn zeros_take_memory_across_pieces_and_are_told_once() {
    let drive = Drive::new(16 << 20);
    drive.resize("base", 2 * IMAGE_ZERO_PIECE_MAX);
    let image = drive.images.open(b"base").expect("it can be read");
    let image = image.expect("it is there");
    let range = ByteRange {
        start: IMAGE_ZERO_PIECE_MAX - PAGE_SIZE,
        end: IMAGE_ZERO_PIECE_MAX + PAGE_SIZE,
    };
    drive.told.lock().clear();
    image.zero(range, true).expect("there is room");
    let data = Run {
        end: range.end,
        is_hole: false,
    };
    assert_eq!(image.run(range).expect("it can be read"), data);
    let ino = drive.ino("base");
    assert_eq!(*drive.told.lock(), [Outdated::Bytes { ino, range }]);
    image.zero(range, false).expect("memory goes back");
    assert!(image.run(range).expect("it can be read").is_hole);
    let nothing = ByteRange { start: 1, end: 1 };
    for keep in [true, false] {
        image.zero(nothing, keep).expect("nothing is to be done");
    }
    assert_eq!(drive.told.lock().len(), 2, "nothing is not told");
}
