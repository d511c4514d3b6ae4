//! What a well-behaved driver asks for, and what it is refused.

use std::os::unix::fs::{FileExt, MetadataExt};

use fs_tests::export::Export;
use fs_tests::virtio::{DATA_MAX, Data, Layout, Machine, feature, kind, status};

use crate::support::{drive_with, held_bytes, image, pattern};

const SIZE: u64 = 8 << 20;

#[test]
fn the_disk_says_what_it_is() {
    let drive = drive_with(SIZE + 511);
    let export = Export::vhost(&drive, "disk", &["--queues", "3"]);
    let mut machine = Machine::connect(&export.socket(), 1);
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .rev()
            .fold(0, |sum, &byte| sum << 8 | u64::from(byte))
    };
    let config = machine.config(0, 60);
    assert_eq!(number(&config[..8]), SIZE / 512, "whole sectors of the image");
    assert_eq!(number(&config[12..16]), 126, "segments");
    assert_eq!(number(&config[20..24]), 512, "bytes of a block");
    assert_eq!(config[24], 3, "blocks in a page");
    assert_eq!(number(&config[34..36]), 3, "queues");
    let zeroes = [(2 << 30) / 512, 16, 8, (2 << 30) / 512, 16, 1];
    for (place, expected) in zeroes.into_iter().enumerate() {
        let at = 36 + 4 * place;
        assert_eq!(number(&config[at..at + 4]), expected, "at {at}");
    }
    assert_eq!(machine.config(100, 156), [0; 156], "nothing behind it");
    assert_eq!(machine.config(8, 8), config[8..16], "a part of it");
    assert_eq!(machine.queues_max(), 3);
    let wanted = feature::VERSION_1 | feature::EVENT_IDX | feature::INDIRECT_DESC;
    let wanted = wanted | feature::DISCARD | feature::WRITE_ZEROES;
    assert_eq!(machine.features() & (wanted | feature::RO), wanted);
    let answer = machine.request(0, kind::GET_ID, 0, Data::In(20));
    assert_eq!((answer.status, answer.written), (status::OK, 21));
    assert_eq!(answer.data, *b"disk\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    let answer = machine.request(0, kind::GET_ID, 0, Data::In(3));
    assert_eq!((answer.status, &answer.data[..]), (status::OK, &b"dis"[..]));
    assert_eq!(
        machine.request(0, kind::FLUSH, 0, Data::Out(b"")).status,
        status::OK
    );
}

#[test]
fn bytes_come_back_however_the_request_is_laid_out() {
    let drive = drive_with(SIZE);
    let file = image(&drive, "disk");
    let export = Export::vhost(&drive, "disk", &[]);
    for wanted in [u64::MAX, !feature::EVENT_IDX] {
        let mut machine = Machine::try_connect(&export.socket(), 1, wanted).unwrap();
        let mut seed = 0;
        for segment_bytes in [1 << 20, 65_536, 4096, 1000] {
            for joined in [false, true] {
                for indirect in [false, true] {
                    machine.layout = Layout {
                        segment_bytes,
                        joined,
                        indirect,
                    };
                    seed += 1;
                    let len = (segment_bytes * 100).min(1 << 20) / 512 * 512;
                    let bytes = pattern(seed, len);
                    machine.write(0, 3 * 512, &bytes);
                    let mut seen = vec![0; len];
                    file.read_exact_at(&mut seen, 3 * 512).unwrap();
                    assert!(seen == bytes, "the file has it: {:?}", machine.layout);
                    assert!(machine.read(0, 3 * 512, len) == bytes, "{:?}", machine.layout);
                }
            }
        }
    }
}

#[test]
fn a_request_as_long_as_the_memory_is_done() {
    let drive = drive_with(SIZE);
    let export = Export::vhost(&drive, "disk", &[]);
    let mut machine = Machine::connect(&export.socket(), 1);
    machine.layout.segment_bytes = DATA_MAX;
    let bytes = pattern(1, DATA_MAX);
    machine.write(0, SIZE - DATA_MAX as u64, &bytes);
    assert!(machine.read(0, SIZE - DATA_MAX as u64, DATA_MAX) == bytes);
}

#[test]
fn what_is_not_on_the_disk_or_not_aligned_fails() {
    let drive = drive_with(SIZE);
    let export = Export::vhost(&drive, "disk", &[]);
    let mut machine = Machine::connect(&export.socket(), 1);
    let end = SIZE / 512;
    let bytes = pattern(1, 4096);
    for kind in [kind::IN, kind::OUT] {
        let data = |len: usize| match kind {
            kind::IN => Data::In(len),
            _ => Data::Out(&bytes[..len]),
        };
        for (sector, len) in [
            (end, 512),
            (end - 1, 1024),
            (u64::MAX, 512),
            (u64::MAX / 512, 512),
            (1 << 55, 512),
            (0, 511),
            (0, 513),
            (0, 1),
        ] {
            let answer = machine.request(0, kind, sector, data(len));
            assert_eq!(answer.status, status::IOERR, "{kind} of {len} bytes at {sector}");
            assert_eq!(answer.written, u32::from(kind == kind::OUT), "no data came");
        }
        let answer = machine.request(0, kind, end - 1, data(512));
        assert_eq!(answer.status, status::OK, "the last sector");
        assert_eq!(
            machine.request(0, kind, end, data(0)).status,
            status::OK,
            "nothing"
        );
    }
    assert_eq!(
        held_bytes(&drive),
        4096,
        "nothing but the last sector was written"
    );
    for unknown in [2, 3, 5, 7, 9, 10, 12, 14, 16, 26, u32::MAX] {
        let answer = machine.request(0, unknown, 0, Data::In(512));
        assert_eq!(answer.status, status::UNSUPP, "{unknown}");
    }
}

#[test]
fn discards_give_memory_back_and_zeroes_keep_it_where_asked() {
    let drive = drive_with(SIZE);
    let file = image(&drive, "disk");
    let export = Export::vhost(&drive, "disk", &[]);
    let mut machine = Machine::connect(&export.socket(), 1);
    let full = SIZE / 512;
    let bytes = pattern(1, 1 << 20);
    let cases: [(u32, u32, u64); 3] = [
        (kind::DISCARD, 0, 0),
        (kind::WRITE_ZEROES, 1, 0),
        (kind::WRITE_ZEROES, 0, 512 << 10),
    ];
    for (kind, flags, kept) in cases {
        assert_eq!(machine.zero(0, kind::DISCARD, &[(0, SIZE, 0)]), status::OK);
        assert_eq!(held_bytes(&drive), 0);
        machine.write(0, 0, &bytes);
        assert_eq!(held_bytes(&drive), 1 << 20);
        let two = [(0, 256 << 10, flags), (512 << 10, 256 << 10, flags)];
        assert_eq!(machine.zero(0, kind, &two), status::OK);
        assert_eq!(held_bytes(&drive), (512 << 10) + kept, "{kind}, {flags}");
        let seen = machine.read(0, 0, 1 << 20);
        for (number, quarter) in seen.chunks(256 << 10).enumerate() {
            let expected = &bytes[number * (256 << 10)..][..256 << 10];
            let is_zero = quarter.iter().all(|&byte| byte == 0);
            assert!(if number % 2 == 0 {
                is_zero
            } else {
                quarter == expected
            });
        }
        assert_eq!(file.metadata().unwrap().size(), SIZE, "its length stays");
    }
    let mut zero = |kind, ranges: &[(u64, u64, u32)]| machine.zero(0, kind, ranges);
    let fine = (1 << 20, 4096, 0);
    machine_refuses(&mut zero, fine, full);
}

/// Ranges that are refused, each behind one that is fine and is not done either.
fn machine_refuses(zero: &mut impl FnMut(u32, &[(u64, u64, u32)]) -> u8, fine: (u64, u64, u32), full: u64) {
    for kind in [kind::DISCARD, kind::WRITE_ZEROES] {
        for bad in [(full * 512, 512, 0), (0, SIZE + 512, 0), (u64::MAX, 512, 0)] {
            assert_eq!(zero(kind, &[fine, bad]), status::IOERR, "{kind} {bad:?}");
        }
        assert_eq!(
            zero(kind, &[fine, (0, 512, 2)]),
            status::UNSUPP,
            "an unknown flag"
        );
        assert_eq!(zero(kind, &[]), status::IOERR, "no range");
        assert_eq!(zero(kind, &[fine; 17]), status::IOERR, "too many ranges");
        assert_eq!(zero(kind, &[fine; 16]), status::OK);
    }
    let unmapping = zero(kind::DISCARD, &[(0, 512, 1)]);
    assert_eq!(unmapping, status::UNSUPP, "a flag of the other request");
}

#[test]
fn a_range_of_zeros_beside_a_refused_one_is_not_made() {
    let drive = drive_with(SIZE);
    let export = Export::vhost(&drive, "disk", &[]);
    let mut machine = Machine::connect(&export.socket(), 1);
    let bytes = pattern(1, 8192);
    machine.write(0, 0, &bytes);
    let ranges = [(0, 4096, 0), (SIZE, 512, 0)];
    assert_eq!(machine.zero(0, kind::DISCARD, &ranges), status::IOERR);
    assert_eq!(machine.read(0, 0, 8192), bytes);
    let ragged = machine.request(0, kind::DISCARD, 0, Data::Out(&[0; 17]));
    assert_eq!(ragged.status, status::IOERR);
}

#[test]
fn a_read_only_disk_refuses_changes() {
    let drive = drive_with(SIZE);
    let bytes = pattern(1, 4096);
    image(&drive, "disk").write_all_at(&bytes, 0).unwrap();
    let export = Export::vhost(&drive, "disk", &["--read-only"]);
    let mut machine = Machine::connect(&export.socket(), 1);
    let changing = feature::DISCARD | feature::WRITE_ZEROES;
    assert_eq!(machine.features() & (feature::RO | changing), feature::RO);
    let answer = machine.request(0, kind::OUT, 0, Data::Out(&[9; 512]));
    assert_eq!(answer.status, status::IOERR);
    for kind in [kind::DISCARD, kind::WRITE_ZEROES] {
        assert_eq!(machine.zero(0, kind, &[(0, 4096, 0)]), status::IOERR);
    }
    assert_eq!(
        machine.request(0, kind::FLUSH, 0, Data::Out(b"")).status,
        status::OK
    );
    assert_eq!(machine.read(0, 0, 4096), bytes);
}

#[test]
fn a_full_drive_fails_writes_and_takes_discards() {
    let drive = drive_with(1 << 30);
    let export = Export::vhost(&drive, "disk", &[]);
    let mut machine = Machine::connect(&export.socket(), 1);
    machine.layout.segment_bytes = 1 << 20;
    let bytes = pattern(1, 2 << 20);
    let mut offset = 0;
    while machine
        .request(0, kind::OUT, offset / 512, Data::Out(&bytes))
        .status
        == status::OK
    {
        offset += bytes.len() as u64;
        assert!(offset < 1 << 30, "the drive has an end");
    }
    assert!(machine.read(0, 0, bytes.len()) == bytes);
    assert_eq!(machine.zero(0, kind::DISCARD, &[(0, offset, 0)]), status::OK);
    machine.write(0, offset, &bytes);
    drive.check();
}
