//! `okapi image ls`.

use std::fs;

use fs_tests::harness::{Place, run};
use serde_json::Value;

use crate::support::{command, drive, image, listing, path, pattern, set_base};

#[test]
fn images_are_listed_with_what_they_take_and_where_they_come_from() {
    let drive = drive();
    fs::write(path(&drive, "base"), pattern(1, 4 << 20)).unwrap();
    image(&drive, &["clone", "base", "a clone"]);
    image(&drive, &["clone", "base", "orphan"]);
    set_base(&drive, "orphan", "old");
    let mut bytes = fs::read(path(&drive, "a clone")).unwrap();
    bytes[8192..12288].fill(0xee);
    fs::write(path(&drive, "whole"), &bytes).unwrap();
    use std::os::unix::fs::FileExt;
    let file = fs::File::options()
        .write(true)
        .open(path(&drive, "a clone"))
        .unwrap();
    file.write_all_at(&bytes[8192..12288], 8192).unwrap();
    // What is no image.
    fs::write(path(&drive, ".hidden"), "x").unwrap();
    fs::write(path(&drive, "new\nline"), "x").unwrap();
    fs::create_dir(path(&drive, "directory")).unwrap();
    std::os::unix::fs::symlink("base", path(&drive, "link")).unwrap();

    let listed: Vec<Value> = serde_json::from_str(&image(&drive, &["ls", "--json"])).unwrap();
    let expected = [
        ("a clone", Some("base"), true, 4096),
        ("base", None, false, 0),
        ("orphan", Some("old"), false, 0),
        ("whole", None, false, 4 << 20),
    ];
    assert_eq!(listed.len(), expected.len());
    for (image, (name, base, exists, private)) in listed.iter().zip(expected) {
        assert_eq!(image["name"], name);
        assert_eq!(image["base"].as_str(), base, "{name}");
        assert_eq!(image["base_exists"], exists, "{name}");
        assert_eq!(image["size_bytes"], 4 << 20, "{name}");
        assert_eq!(image["private_bytes"], private, "{name}");
        // The figures are those of `okapi du`.
        let du = run(std::process::Command::new(fs_tests::harness::binary())
            .args(["du", "--json"])
            .arg(path(&drive, name)));
        let du: Value = serde_json::from_slice(&du.stdout).unwrap();
        assert_eq!(image["shared_bytes"], du["total"]["shared_bytes"], "{name}");
        assert_eq!(image["private_bytes"], du["total"]["private_bytes"], "{name}");
    }
    let table = image(&drive, &["ls"]);
    let line = |name: &str| table.lines().find(|line| line.contains(name)).unwrap();
    assert_eq!(table.lines().count(), 5);
    assert!(line("orphan").ends_with("old (gone)"), "{table}");
    assert!(line("a clone").contains("4.0 MiB"), "{table}");
    assert!(
        listing(&drive).contains(&".hidden".to_owned()),
        "it is a file like others"
    );
}

#[test]
fn a_drive_without_images_has_an_empty_list() {
    let drive = drive();
    assert_eq!(image(&drive, &["ls"]).lines().count(), 1);
    fs::remove_dir(drive.path().join("images")).unwrap();
    assert_eq!(image(&drive, &["ls", "--json"]), "[]\n");
    fs::write(drive.path().join("images"), "a file").unwrap();
    assert_eq!(image(&drive, &["ls", "--json"]), "[]\n");
}

#[test]
fn an_image_made_by_other_programs_is_one_like_others() {
    let drive = drive();
    fs::write(path(&drive, "base"), pattern(1, 1 << 20)).unwrap();
    run(std::process::Command::new("cp")
        .arg(path(&drive, "base"))
        .arg(path(&drive, "copy")));
    let listed: Vec<Value> = serde_json::from_str(&image(&drive, &["ls", "--json"])).unwrap();
    assert_eq!(listed[1]["name"], "copy");
    assert_eq!(listed[1]["base"], Value::Null);
    assert_eq!(listed[1]["private_bytes"], 0, "plain cp shares");
    assert!(
        command(&drive, &["rm", "copy"])
            .output()
            .unwrap()
            .status
            .success()
    );
}
