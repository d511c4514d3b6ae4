//! Images removed, resized, rebased, committed.

use super::*;
use crate::image::{NewSize, Rebased, Resized};
use crate::limits::FILE_SIZE_MAX;

fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    let error = result.expect_err("it must be refused");
    assert!(error.to_string().contains("\nhint: "), "{error}");
    error.kind()
}

#[test]
fn all_images_are_removed_or_none() {
    let drive = Drive::new(16 << 20);
    drive.clone("base", "a");
    drive.clone("base", "b");
    let remove = |names: &[&str], force| {
        let names: Vec<Name> = names.iter().map(|text| name(text)).collect();
        drive.manage(|manager| manager.remove(&names, force))
    };
    assert_eq!(kind(remove(&["a", "nobody"], true)), ErrorKind::NotFound);
    assert_eq!(drive.entries(), ["a", "b", "base"]);
    drive.told.lock().clear();
    remove(&["base", "a", "a"], false).expect("nobody uses them");
    assert_eq!(drive.entries(), ["b"]);
    let told = drive.told.lock().clone();
    for removed in ["base", "a"] {
        assert!(told.iter().any(
            |outdated| matches!(outdated, Outdated::Entry { name, .. } if **name == *removed.as_bytes())
        ));
    }
    assert_eq!(
        drive.bytes("b").len() as u64,
        SIZE,
        "a clone stays when its base goes"
    );
}

#[test]
fn an_image_that_a_client_uses_is_removed_and_cut_on_demand_only() {
    let drive = Drive::new(16 << 20);
    let server = drive.images.for_server(true);
    let client = server
        .open(b"base")
        .expect("it can be found")
        .expect("it is there");
    let second = server
        .open(b"base")
        .expect("it can be found")
        .expect("it is there");
    let base = name("base");
    let remove = |force| drive.manage(|manager| manager.remove(std::slice::from_ref(&base), force));
    let cut = || drive.manage(|manager| manager.resize(&base, NewSize::Shrink(512), true));
    assert_eq!(kind(remove(false)), ErrorKind::Busy);
    drop(second);
    assert_eq!(kind(remove(false)), ErrorKind::Busy);
    assert_eq!(kind(cut()), ErrorKind::Busy);
    drive
        .manage(|manager| manager.resize(&base, NewSize::Grow(512), false))
        .expect("it may grow");
    remove(true).expect("it is forced");
    assert_eq!(drive.entries(), [""; 0]);
    let mut bytes = [0; 4];
    client.read(250, &mut bytes).expect("it lives on");
    assert_eq!(bytes, [250, 0, 1, 2]);
    drop(client);
    assert_eq!(drive.held(), 0);
}

#[test]
fn a_size_is_given_or_changed_by_so_much() {
    let drive = Drive::new(16 << 20);
    let base = name("base");
    let resize = |size, shrink| drive.manage(|manager| manager.resize(&base, size, shrink));
    let resized = |from, to| Resized { from, to };
    assert_eq!(
        resize(NewSize::To(2 * SIZE), false).expect("it fits"),
        resized(SIZE, 2 * SIZE)
    );
    assert_eq!(
        resize(NewSize::Grow(512), false).expect("it fits"),
        resized(2 * SIZE, 2 * SIZE + 512)
    );
    assert_eq!(
        kind(resize(NewSize::Shrink(512), false)),
        ErrorKind::InvalidArgument
    );
    assert_eq!(kind(resize(NewSize::To(0), false)), ErrorKind::InvalidArgument);
    assert_eq!(kind(resize(NewSize::To(1000), true)), ErrorKind::InvalidArgument);
    assert_eq!(kind(resize(NewSize::Grow(u64::MAX), true)), ErrorKind::FileTooBig);
    assert_eq!(
        kind(resize(NewSize::To(FILE_SIZE_MAX + 1), true)),
        ErrorKind::FileTooBig
    );
    assert_eq!(
        kind(resize(NewSize::To(FILE_SIZE_MAX), true)),
        ErrorKind::InvalidArgument
    );
    assert_eq!(
        kind(resize(NewSize::Shrink(4 * SIZE), true)),
        ErrorKind::FileTooBig
    );
    assert_eq!(drive.find("base").expect("it is there").size, 2 * SIZE + 512);
    resize(NewSize::Shrink(SIZE + 1024), true).expect("it may be cut");
    assert_eq!(drive.bytes("base").len() as u64, SIZE - 512);
    resize(NewSize::To(SIZE), false).expect("it fits");
    assert!(
        drive.bytes("base").ends_with(&[0; 512]),
        "what was cut does not come back"
    );
}

#[test]
fn a_committed_clone_is_a_base_and_its_clones_know_it() {
    let drive = Drive::new(16 << 20);
    let clone = NewImage {
        ip: Some("10.0.0.3".into()),
        fleet: Some("10.0.0.0/24".into()),
        ..new("clone")
    };
    drive.make("base", &clone).expect("there is room");
    drive.set_xattr("clone", "user.okapi.burned", b"0123");
    drive.clone("clone", "child");
    let commit = |image: &str| drive.manage(|manager| manager.commit(&name(image)));
    commit("clone").expect("it has a base");
    let expected = Record {
        ip: Some("10.0.0.3".into()),
        ..Record::default()
    };
    assert_eq!(drive.record("clone"), expected);
    assert_eq!(drive.xattr("clone", "user.okapi.burned"), None);
    assert_eq!(drive.record("child").base, Some(name("clone")));
    assert_eq!(kind(commit("clone")), ErrorKind::InvalidArgument);
    assert_eq!(kind(commit("base")), ErrorKind::InvalidArgument);
    assert_eq!(kind(commit("nobody")), ErrorKind::NotFound);
}

/// Rebases in as many steps as it takes; returns the bytes that are shared since.
fn rebase(drive: &Drive, image: &str, base: &str) -> Result<u64> {
    let (mut offset, mut bytes) = (0, 0);
    loop {
        let Rebased {
            next, shared_bytes, ..
        } = drive.manage(|manager| manager.rebase(&name(image), &name(base), offset))?;
        bytes += shared_bytes;
        match next {
            Some(next) => offset = next,
            None => return Ok(bytes),
        }
    }
}

#[test]
fn a_new_base_shares_what_is_equal_and_changes_no_byte() {
    let drive = Drive::new(16 << 20);
    // Equal bytes, in blocks of its own but for one page.
    let directory = drive.fs.lookup(Ino::ROOT, b"images").expect("it is there").ino;
    drive.fs.forget(directory, 1);
    drive.create(directory, "vm", NewNode::Regular);
    let mut bytes = drive.bytes("base");
    bytes[4096..8192].fill(9);
    drive.write("vm", 0, &bytes);
    let before = drive.held();
    assert_eq!(rebase(&drive, "vm", "base").expect("there is room"), SIZE - 4096);
    assert_eq!(drive.bytes("vm"), bytes);
    assert_eq!(drive.record("vm").base, Some(name("base")));
    assert!(drive.held() < before - SIZE / 2);
    assert_eq!(
        rebase(&drive, "vm", "base").expect("there is room"),
        0,
        "nothing is left"
    );
}

#[test]
fn a_base_that_is_a_clone_of_the_image_is_refused() {
    let drive = Drive::new(16 << 20);
    drive.clone("base", "child");
    drive.clone("child", "grandchild");
    assert_eq!(kind(rebase(&drive, "base", "base")), ErrorKind::InvalidArgument);
    assert_eq!(kind(rebase(&drive, "base", "child")), ErrorKind::InvalidArgument);
    assert_eq!(
        kind(rebase(&drive, "base", "grandchild")),
        ErrorKind::InvalidArgument
    );
    assert_eq!(kind(rebase(&drive, "nobody", "base")), ErrorKind::NotFound);
    assert_eq!(kind(rebase(&drive, "base", "nobody")), ErrorKind::NotFound);
    rebase(&drive, "grandchild", "base").expect("that way there is no circle");
    assert_eq!(drive.record("grandchild").base, Some(name("base")));
    // Circles that others have made end the look for them.
    drive.set_xattr("base", "user.okapi.base", b"child");
    rebase(&drive, "grandchild", "base").expect("it is not part of the circle");
}

#[test]
fn without_memory_for_the_record_an_image_keeps_its_base() {
    let drive = Drive::new(16 << 20);
    drive.clone("base", "vm");
    drive.write("vm", 0, &vec![7; SIZE as usize]);
    drive
        .manage(|manager| manager.commit(&name("vm")))
        .expect("it has a base");
    let bytes = drive.bytes("vm");
    let namespace = drive.grid.namespace("drive").expect("it was made");
    let usage = namespace.usage();
    namespace.set_quota(Some(usage.held_bytes + usage.metadata_bytes));
    let error = rebase(&drive, "vm", "base").expect_err("nothing is equal, so nothing was freed");
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
    let text = error.to_string();
    assert!(
        text.contains("cannot rebase `vm`") && text.contains("\nhint: "),
        "{text}"
    );
    assert_eq!(drive.record("vm"), Record::default());
    assert_eq!(drive.bytes("vm"), bytes);
    namespace.set_quota(None);
}

#[test]
fn a_new_base_leaves_all_else_that_an_image_says() {
    let drive = Drive::new(16 << 20);
    drive.clone("base", "other");
    drive.clone("base", "vm");
    drive.set_xattr("vm", "user.okapi.ip", b"of\nmine");
    drive.set_xattr("vm", "user.okapi.burned", b"0123");
    rebase(&drive, "vm", "other").expect("there is room");
    assert_eq!(drive.record("vm").base, Some(name("other")));
    drive
        .manage(|manager| manager.commit(&name("vm")))
        .expect("it has a base");
    assert_eq!(
        drive.xattr("vm", "user.okapi.ip").as_deref(),
        Some(&b"of\nmine"[..])
    );
}

#[test]
fn sizes_that_change_at_once_add_up() {
    let drive = Drive::new(16 << 20);
    let base = name("base");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    drive
                        .manage(|manager| manager.resize(&base, NewSize::Grow(512), false))
                        .expect("it may grow");
                }
            });
        }
    });
    assert_eq!(drive.find("base").expect("it is there").size, SIZE + 100 * 512);
}
