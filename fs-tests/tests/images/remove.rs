//! `okapi image rm`.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};

use fs_tests::nbd::Client;

use crate::support::{Export, drive, fails, held_bytes, image, listing, path, pattern};

#[test]
fn removed_images_are_gone_at_once_and_their_clones_stay() {
    let drive = drive();
    let bytes = pattern(1, 1 << 20);
    fs::write(path(&drive, "base"), &bytes).unwrap();
    image(&drive, &["clone", "base", "a"]);
    image(&drive, &["clone", "base", "b"]);
    // The kernel remembers all of them.
    assert_eq!(listing(&drive), ["a", "b", "base"]);
    let open = File::open(path(&drive, "base")).unwrap();
    assert_eq!(open.metadata().unwrap().nlink(), 1);
    assert_eq!(image(&drive, &["rm", "base", "a"]), "");
    assert_eq!(listing(&drive), ["b"]);
    assert!(!path(&drive, "base").exists() && !path(&drive, "a").exists());
    assert_eq!(fs::read(path(&drive, "b")).unwrap(), bytes);
    // Who has it open goes on with it.
    let mut seen = vec![0; bytes.len()];
    open.read_exact_at(&mut seen, 0).unwrap();
    assert!(seen == bytes);
    assert_eq!(open.metadata().unwrap().nlink(), 0);
    drop(open);
    image(&drive, &["rm", "b"]);
    drive.check();
    assert_eq!(held_bytes(&drive), 0);
}

#[test]
fn all_that_are_named_are_removed_or_none() {
    let drive = drive();
    fs::write(path(&drive, "a"), "bytes").unwrap();
    fails(
        &drive,
        &["rm", "a", "nobody"],
        1,
        &["no image `nobody`", "hint: `okapi image ls`"],
    );
    fails(&drive, &["rm", "a", "../a"], 1, &["`../a`", "hint"]);
    fails(&drive, &["rm"], 2, &["<NAME>"]);
    assert_eq!(listing(&drive), ["a"]);
}

#[test]
fn an_image_that_a_client_uses_is_removed_on_demand_only() {
    let drive = drive();
    let bytes = pattern(1, 1 << 20);
    fs::write(path(&drive, "disk"), &bytes).unwrap();
    fs::write(path(&drive, "other"), &bytes).unwrap();
    let export = Export::start(&drive);
    let (mut client, _) = Client::open(&export.socket(), "disk");
    fails(
        &drive,
        &["rm", "other", "disk"],
        1,
        &["`disk` is in use by 1 client of", "hint", "--force"],
    );
    fails(
        &drive,
        &["resize", "disk", "-512", "--shrink"],
        1,
        &["`disk` is in use", "hint"],
    );
    assert_eq!(listing(&drive), ["disk", "other"]);
    image(&drive, &["rm", "other"]);
    image(&drive, &["rm", "disk", "--force"]);
    assert_eq!(listing(&drive), [""; 0]);
    assert!(
        client.read(0, 1 << 20).unwrap() == bytes,
        "it lives on until the client leaves"
    );
    drop(client);
    drop(export);
    drive.check();
    assert_eq!(held_bytes(&drive), 0);
}
