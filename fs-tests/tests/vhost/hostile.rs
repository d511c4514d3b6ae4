//! Guests and programs that break the rules: they are refused, or cut off, and the next one is served.

use std::io::Write;
use std::os::unix::net::UnixStream;

use fs_tests::export::Export;
use fs_tests::harness::{Drive, Place};
use fs_tests::rng::{Rng, from_env_or_time, ops_from_env};
use fs_tests::virtio::{Data, Descriptor, MEMORY_START, Machine, QUEUE_SIZE, flag, kind, linked, status};

use crate::support::{drive_with, pattern};

const SIZE: u64 = 4 << 20;

/// A descriptor that leads on to the next place.
fn part(address: u64, len: u32, flags: u16, next: u16) -> Descriptor {
    Descriptor {
        address,
        len,
        flags,
        next,
    }
}

/// A fresh disk with a pattern, and a machine with two queues.
fn disk() -> (Drive, Export, Machine) {
    let drive = drive_with(SIZE);
    let export = Export::vhost(&drive, "disk", &["--queues", "2"]);
    let mut machine = Machine::connect(&export.socket(), 2);
    machine.write(0, 0, &pattern(7, 65_536));
    (drive, export, machine)
}

/// The disk is as it was, for this machine's second queue and for the next machine.
fn expect_alive(drive: &Drive, export: &Export, mut machine: Machine) {
    assert!(machine.read(1, 0, 65_536) == pattern(7, 65_536));
    drop(machine);
    let mut next = Machine::connect(&export.socket(), 2);
    assert!(next.read(0, 0, 65_536) == pattern(7, 65_536));
    drive.check();
}

#[test]
fn memory_that_is_not_the_guest_s_fails_the_request() {
    let (drive, export, mut machine) = disk();
    let (header, status_at, _) = machine.request_addresses(0);
    let data = machine.data_address(0);
    let end = machine.memory_end();
    let places = [
        (0, 512),
        (MEMORY_START - 512, 512),
        (MEMORY_START - 1, 512),
        (end, 512),
        (end - 511, 512),
        (u64::MAX - 511, 512),
        (u64::MAX, 512),
        (1 << 63, 512),
        (data, 0xffff_0000),
        (data, 1 << 31),
    ];
    for (address, len) in places {
        for (kind, writes) in [(kind::IN, true), (kind::OUT, false), (kind::DISCARD, false)] {
            machine.poke_header(0, kind, 8);
            let parts = [
                (header, 16, false),
                (data, 512, writes),
                (address, len, writes),
                (status_at, 1, true),
            ];
            machine.poke_descriptors(0, &linked(&parts));
            machine.make_available(0, 0);
            let written = machine.answered(0);
            assert_eq!(
                (machine.status(0), written),
                (status::IOERR, u32::from(!writes)),
                "{kind}, {len} at {address:#x}"
            );
        }
    }
    let parts = [(end, 16, false), (data, 512, true), (status_at, 1, true)];
    machine.poke_descriptors(0, &linked(&parts));
    machine.make_available(0, 0);
    machine.answered(0);
    assert_eq!(machine.status(0), status::IOERR, "the header");
    expect_alive(&drive, &export, machine);
}

#[test]
fn a_header_that_is_too_short_fails_and_no_data_are_fine() {
    let (drive, export, mut machine) = disk();
    let (header, status_at, _) = machine.request_addresses(0);
    for len in [0, 1, 15] {
        machine.poke_header(0, kind::OUT, 0);
        let parts = [(header, len, false), (status_at, 1, true)];
        machine.poke_descriptors(0, &linked(&parts));
        machine.make_available(0, 0);
        machine.answered(0);
        assert_eq!(machine.status(0), status::IOERR, "{len} bytes of a header");
    }
    machine.poke_header(0, kind::IN, 0);
    let data = machine.data_address(0);
    let parts = [
        (header, 8, false),
        (0, 0, false),
        (header + 8, 8, false),
        (data, 0, true),
        (data, 512, true),
        (u64::MAX, 0, true),
        (status_at, 1, true),
    ];
    machine.poke_descriptors(0, &linked(&parts));
    machine.make_available(0, 0);
    assert_eq!(
        (machine.answered(0), machine.status(0)),
        (513, status::OK),
        "empty parts"
    );
    assert_eq!(machine.peek(data, 512), pattern(7, 512));
    expect_alive(&drive, &export, machine);
}

/// Chains that leave no way to tell the guest: its queue is stopped until it is set up anew.
#[test]
fn a_chain_that_is_none_stops_its_queue_and_no_other() {
    let (drive, export, mut machine) = disk();
    let (header, status_at, table) = machine.request_addresses(0);
    let data = machine.data_address(0);
    let first = part(header, 16, flag::NEXT, 1);
    let indirect = |address, len| part(address, len, flag::INDIRECT, 0);
    let huge = part(data, u32::MAX, flag::NEXT | flag::WRITE, 2);
    let chains: [(&str, Vec<Descriptor>); 15] = [
        ("round itself", vec![part(header, 16, flag::NEXT, 0)]),
        (
            "round two",
            vec![first, part(data, 512, flag::NEXT | flag::WRITE, 0)],
        ),
        ("out of the table", vec![part(header, 16, flag::NEXT, QUEUE_SIZE)]),
        ("no status", vec![part(header, 16, 0, 0)]),
        ("an empty status", vec![first, part(status_at, 0, flag::WRITE, 0)]),
        ("a status to read", vec![first, part(status_at, 1, 0, 0)]),
        ("a status elsewhere", vec![first, part(0, 1, flag::WRITE, 0)]),
        (
            "a status at the end",
            vec![first, part(u64::MAX, 2, flag::WRITE, 0)],
        ),
        (
            "reading behind writing",
            vec![
                first,
                part(status_at, 1, flag::NEXT | flag::WRITE, 2),
                part(data, 512, 0, 0),
            ],
        ),
        (
            "more than 4 GiB",
            vec![first, huge, huge, part(status_at, 1, flag::WRITE, 0)],
        ),
        ("an empty table", vec![indirect(table, 0)]),
        ("a ragged table", vec![indirect(table, 17)]),
        ("a table elsewhere", vec![indirect(0, 32)]),
        ("a table in a table", vec![indirect(table, 16)]),
        ("a table without end", vec![indirect(table + 16, 65_535 * 16)]),
    ];
    machine.poke(table, &table_in_table(table));
    for (what, chain) in chains {
        let before = machine.used_count(0);
        machine.poke_header(0, kind::OUT, 0);
        machine.poke_descriptors(0, &chain);
        machine.make_available(0, 0);
        // What comes behind it is not done either.
        machine.poke_header(0, kind::OUT, 0);
        machine.make_available(0, 0);
        assert!(machine.read(1, 0, 65_536) == pattern(7, 65_536), "{what}");
        machine.stop_queue(0);
        assert_eq!(machine.used_count(0), before, "{what}");
        machine.start_queue(0);
        assert!(machine.read(0, 0, 512) == pattern(7, 512), "{what}: set up anew");
        machine.stop_queue(0);
        machine.start_queue(0);
    }
    expect_alive(&drive, &export, machine);
}

/// On a queue that has not been used before, so that the signal can only be this one.
#[test]
fn requests_before_a_malformed_one_are_told() {
    let (drive, export, mut machine) = disk();
    let (header, status_at, _) = machine.request_addresses(1);
    machine.poke_header(1, kind::FLUSH, 0);
    machine.poke_descriptors(1, &linked(&[(header, 16, false), (status_at, 1, true)]));
    machine.make_all_available(1, &[0, QUEUE_SIZE]);
    machine.expect_signal(1);
    assert_eq!((machine.answered(1), machine.status(1)), (1, status::OK));
    machine.stop_queue(1);
    machine.start_queue(1);
    expect_alive(&drive, &export, machine);
}

/// A table whose only descriptor names the table again, and behind it one that goes round.
fn table_in_table(table: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (address, flags) in [(table, flag::INDIRECT), (table, flag::NEXT)] {
        bytes.extend_from_slice(&address.to_le_bytes());
        bytes.extend_from_slice(&16_u32.to_le_bytes());
        bytes.extend_from_slice(&flags.to_le_bytes());
        bytes.extend_from_slice(&0_u16.to_le_bytes());
    }
    bytes
}

#[test]
fn a_ring_that_lies_stops_its_queue_and_no_other() {
    let (drive, export, mut machine) = disk();
    let (header, status_at, _) = machine.request_addresses(0);
    for count in [QUEUE_SIZE + 2, 40_000, u16::MAX] {
        machine.set_available(0, count);
        assert!(machine.read(1, 0, 512) == pattern(7, 512));
        machine.stop_queue(0);
        machine.start_queue(0);
    }
    for head in [QUEUE_SIZE, 30_000, u16::MAX] {
        machine.poke_header(0, kind::OUT, 0);
        machine.poke_descriptors(0, &linked(&[(header, 16, false), (status_at, 1, true)]));
        machine.make_available(0, head);
        assert!(machine.read(1, 0, 512) == pattern(7, 512));
        machine.stop_queue(0);
        machine.start_queue(0);
    }
    assert!(machine.read(0, 0, 512) == pattern(7, 512));
    expect_alive(&drive, &export, machine);
}

#[test]
fn random_descriptors_hurt_nobody() {
    let (drive, export, machine) = disk();
    drop(machine);
    let mut rng = Rng::new(from_env_or_time("random descriptors"));
    for _ in 0..ops_from_env(200) {
        let mut machine = Machine::connect(&export.socket(), 2);
        let addresses = interesting_addresses(&machine);
        for _ in 0..20 {
            // Of the types only those that change nothing, so that the disk can be looked at afterwards.
            let kind = rng.pick(&[kind::IN, kind::FLUSH, kind::GET_ID, 5, u32::MAX]);
            machine.poke_header(0, kind, rng.pick(&[0, 8, SIZE / 512, u64::MAX]));
            let descriptors: Vec<_> = (0..8)
                .map(|_| {
                    let (address, near) = (rng.pick(&addresses), rng.below(64));
                    let len = rng.pick(&[0, 1, 16, 512, 4096, 1 << 20, u32::MAX]);
                    part(
                        address.wrapping_add(near),
                        len,
                        rng.below(8) as u16,
                        rng.below(9) as u16,
                    )
                })
                .collect();
            machine.poke_descriptors(0, &descriptors);
            machine.make_available(0, rng.below(8) as u16);
        }
        machine.stop_queue(0);
        assert!(machine.read(1, 0, 65_536) == pattern(7, 65_536));
    }
    expect_alive(&drive, &export, Machine::connect(&export.socket(), 2));
}

fn interesting_addresses(machine: &Machine) -> [u64; 8] {
    let (header, status_at, table) = machine.request_addresses(0);
    let data = machine.data_address(0);
    let end = machine.memory_end();
    [
        header,
        status_at,
        table,
        data,
        end - 32,
        MEMORY_START - 32,
        0,
        u64::MAX - 32,
    ]
}

#[test]
fn programs_that_speak_something_else_are_cut_off() {
    let (drive, export, machine) = disk();
    drop(machine);
    let mut rng = Rng::new(from_env_or_time("something else"));
    let header = |code: u32, flags: u32, len: u32| {
        [code.to_le_bytes(), flags.to_le_bytes(), len.to_le_bytes()].concat()
    };
    let mut messages = vec![
        Vec::new(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 4096],
        vec![255; 4096],
    ];
    for code in 0..50 {
        messages.push(header(code, 1, 0));
        messages.push(header(code, 9, u32::MAX));
        messages.push([header(code, 1, 4096), vec![0xff; 4096]].concat());
        let body: Vec<u8> = (0..40).map(|_| rng.bits() as u8).collect();
        messages.push([header(code, 1, 40), body].concat());
    }
    for message in messages {
        let mut stream = UnixStream::connect(export.socket()).unwrap();
        // It may be cut off before it has said all.
        let _ = stream.write_all(&message);
    }
    expect_alive(&drive, &export, Machine::connect(&export.socket(), 2));
}

#[test]
fn a_queue_that_was_not_agreed_on_is_refused() {
    let drive = drive_with(SIZE);
    let export = Export::vhost(&drive, "disk", &["--queues", "1"]);
    let refused = Machine::try_connect(&export.socket(), 2, u64::MAX);
    assert!(refused.is_err(), "there is one queue");
    let mut machine = Machine::connect(&export.socket(), 1);
    machine.write(0, 0, &pattern(7, 512));
    assert_eq!(
        machine.request(0, kind::FLUSH, 0, Data::Out(b"")).status,
        status::OK
    );
    drop(machine);
    assert!(drive.path().join("images/disk").exists());
}
