//! Clones.

use super::*;
use crate::image::manage::create_draft;

#[test]
fn a_clone_has_the_bytes_of_its_base_with_the_patches_and_a_record() {
    let drive = Drive::new(16 << 20);
    let held = drive.held();
    let clone = NewImage {
        ip: Some("10.0.0.3".into()),
        fleet: Some("10.0.0.0/24".into()),
        patches: vec![
            patch(4096, &[7; 4096]),
            patch(SIZE - 3, b"end"),
            patch(4097, b"later"),
        ],
        ..new("clone")
    };
    drive.make("base", &clone).expect("there is room");
    let mut expected = drive.bytes("base");
    expected[4096..8192].fill(7);
    expected[4097..4102].copy_from_slice(b"later");
    expected[SIZE as usize - 3..].copy_from_slice(b"end");
    assert_eq!(drive.bytes("clone"), expected);
    assert_eq!(drive.held(), held + 2 * 4096);
    let attr = drive.find("clone").expect("it is there");
    assert_eq!((attr.uid, attr.gid, attr.mode), (7, 8, 0o640));
    let record = drive.record("clone");
    assert_eq!(record.base, Some(name("base")));
    assert_eq!(record.ip.as_deref(), Some("10.0.0.3"));
    assert_eq!(record.fleet.as_deref(), Some("10.0.0.0/24"));
    assert_eq!(drive.entries(), ["base", "clone"]);
}

#[test]
fn others_are_told_of_the_directory_and_of_both_names() {
    let drive = Drive::new(16 << 20);
    drive.make("base", &new("clone")).expect("there is room");
    let told = drive.told.lock();
    let entries: Vec<_> = told
        .iter()
        .filter_map(|outdated| match outdated {
            Outdated::Entry { name, .. } => Some(String::from_utf8_lossy(name).into_owned()),
            _ => None,
        })
        .collect();
    assert!(matches!(entries.as_slice(), [draft, name] if draft.starts_with(".okapi-") && name == "clone"));
    assert!(matches!(told.first(), Some(Outdated::Inode(_))));
}

#[test]
fn what_cannot_be_made_leaves_nothing() {
    let drive = Drive::new(16 << 20);
    let before = drive.fs.stat();
    let fails = |base: &str, clone: &NewImage| drive.make(base, clone).expect_err("it cannot be made").kind();
    assert_eq!(fails("nobody", &new("clone")), ErrorKind::NotFound);
    assert_eq!(fails("base", &new("base")), ErrorKind::Exists);
    for patches in [vec![patch(SIZE - 1, b"ab")], vec![patch(u64::MAX, b"a")]] {
        let clone = NewImage {
            patches,
            ..new("clone")
        };
        assert_ne!(fails("base", &clone), ErrorKind::NoSpace);
    }
    let full = NewImage {
        patches: (0..64)
            .map(|n| patch(n % 2 * 4096, &vec![n as u8; 1 << 19]))
            .collect(),
        ..new("clone")
    };
    drop(drive);
    let drive = Drive::new(3 << 19);
    assert_eq!(
        drive.make("base", &full).expect_err("too much").kind(),
        ErrorKind::NoSpace
    );
    assert_eq!(drive.entries(), ["base"]);
    assert_eq!(drive.fs.stat().inodes, before.inodes);
}

#[test]
fn a_base_of_any_shape_is_cloned() {
    let drive = Drive::new(16 << 20);
    for size in [0, 1, 4095, (1 << 40) + 512] {
        drive.resize("base", size);
        let clone = format!("clone-{size}");
        drive.clone("base", &clone);
        assert_eq!(drive.find(&clone).expect("it is there").size, size);
    }
}

#[test]
fn a_record_that_makes_no_sense_counts_as_missing() {
    let drive = Drive::new(16 << 20);
    let ino = drive.ino("base");
    let long = vec![b'1'; 4096];
    for value in [&b""[..], b"\xff", b"a\nb", &long] {
        for attribute in ["user.okapi.base", "user.okapi.ip", "user.okapi.fleet"] {
            drive.set_xattr("base", attribute, value);
        }
        assert_eq!(drive.record("base"), Record::default());
    }
    Record::default().write(&*drive.fs, ino).expect("they can go");
    let left = drive
        .fs
        .listxattr(Caller::default(), ino)
        .expect("the file is there");
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn nothing_is_changed_where_the_drive_refuses_it() {
    let drive = Drive::new(16 << 20);
    let images = Images::new(Arc::clone(&drive.fs) as Arc<dyn Vfs>, true, |_| {});
    let error = images
        .manage(|manager| manager.make(&name("base"), &new("clone")))
        .expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::ReadOnly);
    assert_eq!(drive.entries(), ["base"]);
}

/// An access list (acl(5)): the owner and a user may read and write, the group and others may not.
fn access_list() -> Vec<u8> {
    let entries: [(u16, u16, u32); 5] = [
        (0x01, 6, u32::MAX),
        (0x02, 6, 1000),
        (0x04, 0, u32::MAX),
        (0x10, 6, u32::MAX),
        (0x20, 0, u32::MAX),
    ];
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

#[test]
fn a_clone_has_the_permissions_of_its_base_whatever_the_directory_hands_down() {
    const LIST: &str = "system.posix_acl_access";
    let drive = Drive::new(16 << 20);
    let changes = SetAttr {
        mode: Some(0o2775),
        gid: Some(99),
        ..SetAttr::default()
    };
    let directory = drive.directory();
    let caller = Caller::default();
    drive
        .fs
        .setattr(caller, directory, &changes)
        .expect("it is there");
    let default = b"system.posix_acl_default";
    drive
        .fs
        .setxattr(caller, directory, default, &access_list(), XattrMode::Set)
        .expect("it is a list");
    drive.clone("base", "plain");
    let attr = drive.find("plain").expect("it is there");
    assert_eq!((attr.uid, attr.gid, attr.mode), (7, 8, 0o640));
    assert_eq!(drive.xattr("plain", LIST), None);
    drive.set_xattr("base", LIST, &access_list());
    drive.clone("base", "listed");
    let attr = drive.find("listed").expect("it is there");
    assert_eq!((attr.uid, attr.gid, attr.mode), (7, 8, 0o660));
    assert_eq!(drive.xattr("listed", LIST).as_deref(), Some(&*access_list()));
}

#[test]
fn a_draft_that_a_snapshot_brings_back_is_found_and_goes_with_the_next_clone() {
    let drive = Drive::new(16 << 20);
    drive
        .manage(|manager| {
            let folder = manager.folder(&name("base"))?;
            let base = folder.get(&name("base"))?;
            let (_, draft) = create_draft(folder, &base.attr)?;
            assert_eq!(drive.images.leftovers()?, [""; 0], "it is under way");
            drive.clone("base", "meanwhile");
            drive.fs.create_snapshot("caught")?;
            folder.fs.unlink(folder.ino, &draft)
        })
        .expect("there is room");
    drive.fs.rollback("caught").expect("it is there");
    let left = drive.images.leftovers().expect("it can be listed");
    assert_eq!(left.len(), 1);
    assert_eq!(drive.entries(), [&left[0], "base", "meanwhile"]);
    drive.create(drive.directory(), ".okapi-mine", NewNode::Regular);
    drive.clone("base", "clone");
    assert_eq!(drive.entries(), [".okapi-mine", "base", "clone", "meanwhile"]);
    drive.fs.delete_snapshot("caught").expect("it is there");
}
