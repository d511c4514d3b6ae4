//! `okapi image resize`.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use crate::support::{drive, fails, held_bytes, image, path, pattern};

#[test]
fn an_image_is_made_longer_and_shorter_under_who_has_it_open() {
    let drive = drive();
    let bytes = pattern(1, 1 << 20);
    fs::write(path(&drive, "disk"), &bytes).unwrap();
    let open = File::open(path(&drive, "disk")).unwrap();
    let len = || open.metadata().unwrap().len();
    let mut seen = vec![1; 2 << 20];
    // From here on the kernel has size and pages.
    assert_eq!((len(), open.read_at(&mut seen, 0).unwrap()), (1 << 20, 1 << 20));
    let held = held_bytes(&drive);
    assert_eq!(
        image(&drive, &["resize", "disk", "+1M"]),
        "disk: 1.0 MiB before, 2.0 MiB now\n"
    );
    assert_eq!(len(), 2 << 20);
    open.read_exact_at(&mut seen, 0).unwrap();
    assert!(seen[..1 << 20] == bytes && seen[1 << 20..].iter().all(|byte| *byte == 0));
    assert_eq!(held_bytes(&drive), held, "zeros take no memory");
    image(&drive, &["resize", "disk", "512K", "--shrink"]);
    assert_eq!(len(), 512 << 10);
    assert_eq!(open.read_at(&mut seen, 0).unwrap(), 512 << 10);
    assert_eq!(held_bytes(&drive), 512 << 10);
    image(&drive, &["resize", "disk", "-256K", "--shrink"]);
    image(&drive, &["resize", "disk", "1M"]);
    assert_eq!(open.read_at(&mut seen, 0).unwrap(), 1 << 20);
    assert!(seen[..256 << 10] == bytes[..256 << 10]);
    assert!(
        seen[256 << 10..1 << 20].iter().all(|byte| *byte == 0),
        "what was cut does not come back"
    );
    assert_eq!(fs::metadata(path(&drive, "disk")).unwrap().len(), 1 << 20);
    drive.check();
}

#[test]
fn a_size_that_makes_no_sense_is_refused_and_nothing_is_lost_unasked() {
    let drive = drive();
    fs::write(path(&drive, "disk"), pattern(1, 1 << 20)).unwrap();
    fails(
        &drive,
        &["resize", "disk", "1000"],
        1,
        &["1000 bytes", "512", "hint: 512 and 1024 are"],
    );
    fails(
        &drive,
        &["resize", "disk", "512K"],
        1,
        &["524288 would be lost", "hint: add --shrink"],
    );
    fails(
        &drive,
        &["resize", "disk", "-512"],
        1,
        &["512 would be lost", "hint: add --shrink"],
    );
    fails(&drive, &["resize", "disk", "-2M"], 1, &["-2097152", "hint"]);
    fails(&drive, &["resize", "disk", "8388608T"], 1, &["hint: sizes are"]);
    fails(
        &drive,
        &["resize", "nobody", "1M"],
        1,
        &["no image `nobody`", "hint"],
    );
    fails(&drive, &["resize", "disk", "big"], 2, &["512M"]);
    fails(&drive, &["resize", "disk", "--big"], 2, &["--big"]);
    assert_eq!(fs::metadata(path(&drive, "disk")).unwrap().len(), 1 << 20);
}
