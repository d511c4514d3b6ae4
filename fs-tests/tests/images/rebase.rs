//! `okapi image rebase` and `commit`.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;

use crate::support::{drive, fails, held_bytes, image, path, pattern};

fn base_of(drive: &fs_tests::harness::Drive, name: &str) -> Option<String> {
    let listed: Vec<Value> = serde_json::from_str(&image(drive, &["ls", "--json"])).unwrap();
    let image = listed.iter().find(|image| image["name"] == name).unwrap();
    image["base"].as_str().map(str::to_owned)
}

#[test]
fn an_image_shares_what_it_has_in_common_with_a_new_base() {
    let drive = drive();
    // Two images with the same bytes but for some pages, in memory of their own.
    let bytes = pattern(1, 8 << 20);
    let mut other = bytes.clone();
    other[5 << 20..(5 << 20) + 8192].fill(3);
    fs::write(path(&drive, "new"), &bytes).unwrap();
    fs::write(path(&drive, "vm"), &other).unwrap();
    // Pages that the kernel has, and a file held open.
    let open = File::open(path(&drive, "vm")).unwrap();
    let before = held_bytes(&drive);
    assert_eq!(
        image(&drive, &["rebase", "vm", "new"]),
        "vm: 8.0 MiB more shared with new\n"
    );
    assert!(held_bytes(&drive) < before - (7 << 20));
    assert_eq!(base_of(&drive, "vm").as_deref(), Some("new"));
    assert!(fs::read(path(&drive, "vm")).unwrap() == other);
    let mut seen = vec![0; other.len()];
    open.read_exact_at(&mut seen, 0).unwrap();
    assert!(seen == other);
    // Each goes its own way.
    let new = File::options().write(true).open(path(&drive, "new")).unwrap();
    new.write_all_at(&[9; 1 << 20], 0).unwrap();
    assert!(fs::read(path(&drive, "vm")).unwrap() == other);
    drive.check();
    assert_eq!(
        image(&drive, &["rebase", "vm", "new"]),
        "vm: 0 B more shared with new\n"
    );
}

#[test]
fn nothing_of_what_is_written_during_a_rebase_is_lost() {
    let drive = drive();
    const SIZE: usize = 16 << 20;
    let bytes = pattern(1, SIZE);
    fs::write(path(&drive, "base"), &bytes).unwrap();
    fs::write(path(&drive, "vm"), &bytes).unwrap();
    let stop = AtomicBool::new(false);
    let written = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let vm = File::options().write(true).open(path(&drive, "vm")).unwrap();
            let mut expected = bytes.clone();
            let mut round = 0u64;
            while !stop.load(Ordering::Acquire) {
                // Now another byte, now again what the base has.
                let at = (round * 7919 * 512) % SIZE as u64;
                let place = at as usize..at as usize + 512;
                match round % 2 {
                    0 => expected[place.clone()].fill(round as u8),
                    _ => expected[place.clone()].copy_from_slice(&bytes[place.clone()]),
                }
                vm.write_all_at(&expected[place], at).unwrap();
                round += 1;
            }
            expected
        });
        for _ in 0..20 {
            image(&drive, &["rebase", "vm", "base"]);
        }
        stop.store(true, Ordering::Release);
        writer.join().unwrap()
    });
    assert!(fs::read(path(&drive, "vm")).unwrap() == written);
    assert!(fs::read(path(&drive, "base")).unwrap() == bytes);
    drive.check();
}

#[test]
fn a_clone_becomes_a_base() {
    let drive = drive();
    fs::write(path(&drive, "base"), pattern(1, 1 << 20)).unwrap();
    image(&drive, &["clone", "base", "clone"]);
    image(&drive, &["clone", "clone", "child"]);
    let before = held_bytes(&drive);
    assert_eq!(image(&drive, &["commit", "clone"]), "");
    assert_eq!(held_bytes(&drive), before);
    assert_eq!(base_of(&drive, "clone"), None);
    assert_eq!(base_of(&drive, "child").as_deref(), Some("clone"));
    image(&drive, &["rm", "base"]);
    image(&drive, &["check"]);
    fails(&drive, &["commit", "clone"], 1, &["`clone` has no base", "hint"]);
}

#[test]
fn a_base_that_makes_no_sense_is_refused() {
    let drive = drive();
    fs::write(path(&drive, "base"), pattern(1, 1 << 20)).unwrap();
    image(&drive, &["clone", "base", "clone"]);
    fails(
        &drive,
        &["rebase", "base", "clone"],
        1,
        &["`clone` is a clone of `base`", "hint: `okapi image commit clone`"],
    );
    fails(&drive, &["rebase", "base", "base"], 1, &["own base", "hint"]);
    fails(
        &drive,
        &["rebase", "nobody", "base"],
        1,
        &["no image `nobody`", "hint"],
    );
    fails(
        &drive,
        &["rebase", "base", "nobody"],
        1,
        &["no image `nobody`", "hint"],
    );
    fails(&drive, &["commit", "nobody"], 1, &["no image `nobody`", "hint"]);
    assert_eq!(base_of(&drive, "base"), None);
}
