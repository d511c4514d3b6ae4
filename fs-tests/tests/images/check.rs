//! `okapi image check`.

use std::fs;

use crate::support::{command, drive, fails, image, path, pattern, set_base};

#[test]
fn sound_images_are_said_to_be_sound() {
    let drive = drive();
    assert_eq!(image(&drive, &["check"]), "0 images: sound\n");
    fs::write(path(&drive, "base"), pattern(1, 1 << 20)).unwrap();
    image(&drive, &["clone", "base", "clone"]);
    assert_eq!(image(&drive, &["check"]), "2 images: sound\n");
    assert_eq!(image(&drive, &["check", "clone"]), "1 image: sound\n");
    fails(&drive, &["check", "nobody"], 1, &["no image `nobody`", "hint"]);
}

#[test]
fn what_is_wrong_is_found_and_cured_as_said() {
    let drive = drive();
    for name in ["base", "odd", "a", "b"] {
        fs::write(path(&drive, name), pattern(1, 1 << 20)).unwrap();
    }
    image(&drive, &["clone", "base", "child"]);
    image(&drive, &["rm", "base"]);
    fs::write(path(&drive, "odd"), "1000 bytes").unwrap();
    set_base(&drive, "a", "b");
    set_base(&drive, "b", "a");
    let output = command(&drive, &["check"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(complaint, "okapi: 4 findings in 4 images\n");
    let findings = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = findings.lines().collect();
    for (line, words) in lines.iter().zip([
        ["a: ", "own bases"],
        ["b: ", "own bases"],
        ["child: ", "`base` does not exist"],
        ["odd: ", "10 bytes"],
    ]) {
        for word in words {
            assert!(line.contains(word), "{line}");
        }
    }
    // The cures that it has told.
    image(&drive, &["commit", "a"]);
    image(&drive, &["rebase", "child", "a"]);
    image(&drive, &["resize", "odd", "512"]);
    assert_eq!(image(&drive, &["check"]), "4 images: sound\n");
}
