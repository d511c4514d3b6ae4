//! One image seen as a file and as a block device: what changes in one view is in the other at once.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};

use fs_tests::harness::Place;
use fs_tests::nbd::{Client, command};
use fs_tests::sys::Mapping;

use crate::support::{Export, drive_with, eventually, held_bytes, image, pattern};

#[test]
fn the_file_s_cached_pages_follow_the_clients() {
    let drive = drive_with(&[("disk", 1 << 20)]);
    let file = image(&drive, "disk");
    file.write_all_at(&pattern(1, 1 << 20), 0).unwrap();
    let export = Export::start(&drive);
    let (mut client, _) = Client::open(&export.socket(), "disk");
    let mut seen = vec![0; 1 << 20];
    // From here on the kernel has the pages.
    file.read_exact_at(&mut seen, 0).unwrap();
    let mut expected = seen.clone();
    let mapping = Mapping::new(&file, 0, 1 << 20, false).unwrap();
    for (n, (offset, len)) in [
        (5000, 100),
        (0, 4096),
        (65_535, 2),
        (300_000, 500_000),
        (1_048_575, 1),
    ]
    .into_iter()
    .enumerate()
    {
        let bytes = pattern(n as u8 * 2 + 101, len);
        client.write(offset as u64, &bytes).unwrap();
        expected[offset..offset + len].copy_from_slice(&bytes);
        file.read_exact_at(&mut seen, 0).unwrap();
        assert!(seen == expected, "read(2) sees the write at {offset}");
        assert!(mapping.read() == expected, "a mapping sees the write at {offset}");
    }
    for request in [command::TRIM, command::WRITE_ZEROES] {
        file.write_all_at(&expected, 0).unwrap();
        file.read_exact_at(&mut seen, 0).unwrap();
        client.perform((request, 0), (10_000, 200_000), b"").unwrap();
        file.read_exact_at(&mut seen, 0).unwrap();
        assert!(seen[10_000..210_000].iter().all(|&byte| byte == 0));
        assert!(seen[..10_000] == expected[..10_000] && seen[210_000..] == expected[210_000..]);
    }
}

#[test]
fn the_file_s_attributes_follow_the_clients() {
    let drive = drive_with(&[("disk", 1 << 20)]);
    let file = image(&drive, "disk");
    let before = file.metadata().unwrap();
    assert_eq!(before.blocks(), 0);
    let export = Export::start(&drive);
    let (mut client, _) = Client::open(&export.socket(), "disk");
    client.write(0, &[1; 65_536]).unwrap();
    let after = file.metadata().unwrap();
    assert_eq!(after.blocks(), 128);
    assert!(after.modified().unwrap() > before.modified().unwrap());
    client.perform((command::TRIM, 0), (0, 65_536), b"").unwrap();
    assert_eq!(file.metadata().unwrap().blocks(), 0);
}

#[test]
fn clients_see_what_programs_write_to_the_file() {
    let drive = drive_with(&[("disk", 1 << 20)]);
    let export = Export::start(&drive);
    let (mut client, _) = Client::open(&export.socket(), "disk");
    let file = image(&drive, "disk");
    for seed in 0..20 {
        let bytes = pattern(seed, 70_000);
        file.write_all_at(&bytes, 12_345).unwrap();
        assert_eq!(client.read(12_345, 70_000).unwrap(), bytes);
    }
}

#[test]
fn several_connections_are_one_disk() {
    let drive = drive_with(&[("disk", 1 << 20)]);
    let export = Export::start(&drive);
    let mut clients: Vec<_> = (0..4)
        .map(|_| {
            let (client, agreed) = Client::open(&export.socket(), "disk");
            assert_eq!(agreed.flags >> 8 & 1, 1, "CAN_MULTI_CONN");
            client
        })
        .collect();
    for seed in 0..20 {
        let writer = usize::from(seed) % clients.len();
        clients[writer].write(100, &pattern(seed, 9000)).unwrap();
        for client in &mut clients {
            assert_eq!(client.read(100, 9000).unwrap(), pattern(seed, 9000));
        }
    }
}

#[test]
fn an_image_without_a_name_lives_as_long_as_its_client() {
    let drive = drive_with(&[("disk", 1 << 20)]);
    let export = Export::start(&drive);
    let (mut client, _) = Client::open(&export.socket(), "disk");
    client.write(0, &pattern(1, 1 << 20)).unwrap();
    fs::remove_file(drive.path().join("images/disk")).unwrap();
    assert_eq!(client.read(0, 1 << 20).unwrap(), pattern(1, 1 << 20));
    assert!(held_bytes(&drive) >= 1 << 20);
    drop(client);
    eventually("its memory is free", || held_bytes(&drive) == 0);
}

#[test]
fn an_image_made_shorter_reads_as_zeros_behind_its_end_and_grows_again() {
    let drive = drive_with(&[("disk", 1 << 20)]);
    let export = Export::start(&drive);
    let (mut client, _) = Client::open(&export.socket(), "disk");
    client.write(0, &pattern(1, 1 << 20)).unwrap();
    let file = image(&drive, "disk");
    file.set_len(10_000).unwrap();
    let expected = [pattern(1, 10_000), vec![0; 90_000]].concat();
    assert_eq!(client.read(0, 100_000).unwrap(), expected);
    assert_eq!(
        client.status(0, (0, 1 << 20)).unwrap(),
        [(10_000, 0), (1_038_576, 3)]
    );
    client.write(50_000, b"more").unwrap();
    assert_eq!(file.metadata().unwrap().len(), 50_004);
}
