//! Images listed, compared, checked.

use super::*;
use crate::range::ByteRange;

#[test]
fn images_are_listed_with_what_they_say_about_themselves() {
    let drive = Drive::new(16 << 20);
    let clone = NewImage {
        ip: Some("10.0.0.3".into()),
        ..new("clone")
    };
    drive.make("base", &clone).expect("there is room");
    let dir = drive.fs.lookup(Ino::ROOT, b"images").expect("it is there").ino;
    drive.fs.forget(dir, 1);
    for odd in [".hidden", "control\n"] {
        drive.create(dir, odd, NewNode::Regular);
    }
    drive.create(dir, "directory", NewNode::Directory);
    let listing = drive.images.list().expect("it can be listed");
    assert_eq!(listing.dir, Some(dir));
    let names: Vec<&str> = listing.images.keys().map(Name::as_str).collect();
    assert_eq!(names, ["base", "clone"]);
    let listed = &listing.images[&name("clone")];
    assert_eq!((listed.size, listed.ino), (SIZE, drive.ino("clone")));
    assert_eq!(listed.record, drive.record("clone"));
}

#[test]
fn images_differ_where_one_was_written_to() {
    let drive = Drive::new(16 << 20);
    drive.clone("base", "clone");
    drive.write("clone", 5000, b"other");
    drive.resize("clone", 2 * SIZE);
    let same = drive.bytes("base")[16384..20480].to_vec();
    drive.write("clone", 16384, &same);
    let compared = drive
        .images
        .compare([&name("base"), &name("clone")], 0)
        .expect("both are there");
    assert_eq!(compared.sizes, [SIZE, 2 * SIZE]);
    let written = ByteRange {
        start: 4096,
        end: 8192,
    };
    assert_eq!(compared.ranges, [written]);
    assert_eq!(compared.next, None);
    let itself = drive.images.compare([&name("base"), &name("base")], u64::MAX);
    assert_eq!(itself.expect("it is there").ranges, []);
    let missing = drive.images.compare([&name("base"), &name("nobody")], 0);
    assert_eq!(missing.expect_err("it is not").kind(), ErrorKind::NotFound);
}

#[test]
fn what_is_wrong_with_an_image_is_found() {
    let drive = Drive::new(16 << 20);
    for image in ["good", "child", "odd", "a", "b", "behind"] {
        drive.clone("base", image);
    }
    drive.set_xattr("child", "user.okapi.base", b"nobody");
    drive.set_xattr("odd", "user.okapi.base", b"a/b");
    drive.resize("odd", SIZE + 1);
    drive.set_xattr("a", "user.okapi.base", b"b");
    drive.set_xattr("b", "user.okapi.base", b"a");
    drive.set_xattr("behind", "user.okapi.base", b"a");
    let listing = drive.images.list().expect("it can be listed");
    let findings = |image: &str| -> Vec<String> {
        let found = listing.findings(&name(image));
        found.into_iter().map(|finding| finding.text).collect()
    };
    for sound in ["base", "good", "behind", "nobody"] {
        assert_eq!(findings(sound), [""; 0]);
    }
    for (image, words) in [
        ("child", &["`nobody` does not exist"][..]),
        ("odd", &["1048577 bytes", "no image can have"]),
        ("a", &["among its own bases"]),
        ("b", &["among its own bases"]),
    ] {
        let found = findings(image);
        assert_eq!(found.len(), words.len(), "{found:?}");
        for (text, words) in found.iter().zip(words) {
            assert!(text.contains(words), "{text}");
        }
    }
}
