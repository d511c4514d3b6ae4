//! Fleets.

use super::*;
use crate::image::fleet::{Burn, FleetReply, FleetRequest, Order, Padding, Seen};
use crate::image::record::{BURNED, value};

impl Drive {
    /// Asks for members 1 to `last` with their addresses at the beginning.
    fn request(&self, last: u8) -> FleetRequest {
        let base = self.find("base").expect("it is there");
        let room = &self.bytes("base")[..16];
        FleetRequest {
            base: "base".into(),
            seen: Seen {
                size: base.size,
                mtime: (base.mtime.secs, base.mtime.nanos),
                ctime: (base.ctime.secs, base.ctime.nanos),
            },
            order: Order {
                subnet: "10.0.0.0/24".into(),
                range: Some(format!(".1-.{last}")),
                gateway: None,
                dns: Vec::new(),
                host: Some("vm-{n}".into()),
            },
            burns: vec![Burn {
                what: "byte 0".into(),
                places: vec![crate::image::burn::Place { offset: 0, len: 16 }],
                text: "{ip}".into(),
                padding: Padding::Blanks,
                present: blake3::hash(room).to_hex().to_string(),
            }],
            seed: None,
            prune: false,
        }
    }

    fn fleet(&self, request: &FleetRequest) -> Result<FleetReply> {
        self.manage(|manager| manager.make_fleet(request))
    }

    fn unlink(&self, image: &str) {
        let directory = self.fs.lookup(Ino::ROOT, b"images").expect("it is there").ino;
        self.fs
            .unlink(directory, image.as_bytes())
            .expect("it can be removed");
        self.fs.forget(directory, 1);
    }
}

#[test]
fn members_share_what_was_not_burned() {
    let drive = Drive::new(16 << 20);
    let held = drive.held();
    let reply = drive.fleet(&drive.request(3)).expect("there is room");
    assert_eq!((reply.made, reply.kept), (3, 0));
    assert_eq!(drive.entries(), ["base", "vm-1", "vm-2", "vm-3"]);
    assert_eq!(drive.held(), held + 3 * 4096);
    let bytes = drive.bytes("vm-2");
    assert_eq!(&bytes[..16], b"10.0.0.2        ");
    assert_eq!(bytes[16..], drive.bytes("base")[16..]);
    let burned = value(&*drive.fs, drive.ino("vm-2"), BURNED).expect("the file is there");
    assert_eq!(burned.map(|hash| hash.len()), Some(64));
    let reply = drive.fleet(&drive.request(3)).expect("nothing is to be made");
    assert_eq!((reply.made, reply.kept), (0, 3));
}

#[test]
fn a_base_that_was_changed_since_it_was_looked_at_makes_nothing() {
    let drive = Drive::new(16 << 20);
    let request = drive.request(3);
    drive.write("base", 9000, b"far from what is burned");
    let error = drive.fleet(&request).expect_err("the base is another one");
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.to_string().contains("hint: shut down"), "{error}");
    assert_eq!(drive.entries(), ["base"]);
    drive.fleet(&drive.request(3)).expect("it was looked at again");
}

#[test]
fn a_fleet_that_fails_takes_its_own_images_back() {
    let drive = Drive::new(16 << 20);
    let directory = drive.fs.lookup(Ino::ROOT, b"images").expect("it is there").ino;
    drive.create(directory, "vm-3", NewNode::Directory);
    drive.fs.forget(directory, 1);
    let error = drive.fleet(&drive.request(4)).expect_err("a name is taken");
    assert_eq!(error.kind(), ErrorKind::Exists);
    let text = error.to_string();
    assert!(text.contains("made none") && text.contains("`vm-3`"), "{text}");
    assert_eq!(drive.entries(), ["base", "vm-3"]);
}

#[test]
fn what_a_client_uses_is_not_pruned() {
    let drive = Drive::new(16 << 20);
    drive.fleet(&drive.request(4)).expect("there is room");
    let client = drive
        .images
        .open(b"vm-4")
        .expect("it can be opened")
        .expect("it is there");
    let request = FleetRequest {
        prune: true,
        ..drive.request(2)
    };
    let error = drive.fleet(&request).expect_err("it is in use");
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert_eq!(drive.entries().len(), 5);
    drop(client);
    let reply = drive.fleet(&request).expect("nobody uses any");
    assert_eq!(reply.pruned, ["vm-3", "vm-4"]);
    assert_eq!(drive.entries(), ["base", "vm-1", "vm-2"]);
}

#[test]
fn the_first_name_of_those_with_an_address_is_told() {
    let drive = Drive::new(16 << 20);
    drive.fleet(&drive.request(1)).expect("there is room");
    for copy in ["zulu", "alpha", "mike"] {
        drive.clone("vm-1", copy);
        drive.set_xattr(copy, "user.okapi.base", b"base");
        drive.set_xattr(copy, "user.okapi.fleet", b"10.0.0.0/24");
        drive.set_xattr(copy, "user.okapi.ip", b"10.0.0.1");
    }
    assert_eq!(drive.fleet(&drive.request(1)).expect("it is there").kept, 1);
    drive.unlink("vm-1");
    let error = drive
        .fleet(&drive.request(1))
        .expect_err("three have its address");
    assert!(error.to_string().contains("`alpha`"), "{error}");
}
