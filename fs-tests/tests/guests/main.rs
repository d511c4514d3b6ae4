//! Virtual machines boot from images: from the file, over NBD, over vhost-user; TRIM gives memory back.

#![allow(clippy::unwrap_used)] // a test that cannot go on fails

mod support;

use std::thread;

use fs_tests::export::Export;
use fs_tests::guest::{Guest, Transport};

use crate::support::{FLEET, Fleet};

/// What a guest's disk may have more than before when it has trimmed what it wrote: its filesystem's own blocks.
const LEFT_MAX: u64 = 64 << 10;
const WRITTEN: u64 = 8 << 20;

/// Each of the three transports, for one image each.
fn transports(fleet: &Fleet, nbd: &Export, vhost: &Export, numbers: [u32; 3]) -> [(u32, Transport); 3] {
    let [file, block, queue] = numbers;
    [
        (file, Transport::File(fleet.image(file))),
        (block, Transport::Nbd(nbd.uri(&Fleet::name(block)))),
        (queue, Transport::VhostUser(vhost.socket())),
    ]
}

#[test]
fn a_guest_boots_over_each_transport_and_its_trim_gives_memory_back() {
    let fleet = Fleet::new();
    let numbers = [3, 77, 128];
    let nbd = Export::start(&fleet.drive);
    let vhost = Export::vhost(&fleet.drive, &Fleet::name(128), &[]);
    let disks = transports(&fleet, &nbd, &vhost, numbers);
    thread::scope(|scope| {
        for (number, disk) in &disks {
            scope.spawn(|| trims(&fleet, *number, disk));
        }
    });
    fleet.check_images(&numbers);
}

fn trims(fleet: &Fleet, number: u32, disk: &Transport) {
    let before = fleet.private_bytes(number);
    let mut guest = Guest::boot(&fleet.parts, disk, "okapi.trim");
    assert_eq!(guest.next_line(), Fleet::identity(number).announcement());
    assert_eq!(guest.next_line(), "written");
    let full = fleet.private_bytes(number);
    assert!(full >= before + WRITTEN, "{disk:?}: {before} bytes, then {full}");
    guest.proceed();
    assert_eq!(guest.next_line(), "trimmed");
    guest.wait();
    let after = fleet.private_bytes(number);
    println!("{disk:?}: {before} bytes private, {full} with the data, {after} when it is trimmed");
    assert!(
        after <= before + LEFT_MAX,
        "{disk:?}: {before} bytes, then {after}"
    );
}

#[test]
fn four_of_a_subnet_boot_at_once_over_each_transport() {
    let fleet = Fleet::new();
    let nbd = Export::start(&fleet.drive);
    let vhost = FLEET.map(|number| Export::vhost(&fleet.drive, &Fleet::name(number), &[]));
    let over: [&dyn Fn(usize) -> Transport; 3] = [
        &|place| Transport::File(fleet.image(FLEET[place])),
        &|place| Transport::Nbd(nbd.uri(&Fleet::name(FLEET[place]))),
        &|place| Transport::VhostUser(vhost[place].socket()),
    ];
    for transport in over {
        let guests = [0, 1, 2, 3].map(|place| Guest::boot(&fleet.parts, &transport(place), ""));
        for (number, mut guest) in FLEET.into_iter().zip(guests) {
            assert_eq!(guest.next_line(), Fleet::identity(number).announcement());
            guest.wait();
        }
    }
    fleet.check_images(&FLEET);
}

#[test]
fn a_guest_outlives_the_end_of_its_disk_s_export() {
    let fleet = Fleet::new();
    let mut vhost = Export::vhost(&fleet.drive, &Fleet::name(254), &[]);
    let mut guest = Guest::boot(&fleet.parts, &Transport::VhostUser(vhost.socket()), "okapi.trim");
    assert_eq!(guest.next_line(), Fleet::identity(254).announcement());
    assert_eq!(guest.next_line(), "written");
    vhost = vhost.replace_by_vhost(&fleet.drive, &Fleet::name(254));
    guest.proceed();
    assert_eq!(guest.next_line(), "trimmed");
    guest.wait();
    assert!(vhost.stop().success());
    fleet.check_images(&[254]);
}
