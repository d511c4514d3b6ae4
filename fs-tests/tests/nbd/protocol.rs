//! What the server answers, byte by byte.

use std::fs;
use std::os::unix::fs::{FileExt, symlink};

use fs_tests::harness::Place;
use fs_tests::nbd::{Client, chunk, command, contexts, export_query, flag, option, option_bytes, reply};

use crate::support::{Export, drive_with, held_bytes, image, pattern};

const EPERM: u32 = 1;
const EINVAL: u32 = 22;
const ENOSPC: u32 = 28;
const EOVERFLOW: u32 = 75;
const ENOTSUP: u32 = 95;
const MIB: u32 = 1 << 20;

#[test]
fn images_are_listed_and_nothing_else_is() {
    let names = (0..300).map(|n| format!("disk-{n}")).collect::<Vec<_>>();
    let images: Vec<_> = names.iter().map(|name| (name.as_str(), 4096)).collect();
    let drive = drive_with(&images);
    let directory = drive.path().join("images");
    fs::create_dir(directory.join("directory")).unwrap();
    symlink("disk-1", directory.join("link")).unwrap();
    fs::write(drive.path().join("outside"), "x").unwrap();
    let export = Export::start(&drive);
    let mut client = Client::connect(&export.socket()).unwrap();

    let (last, replies) = client.option(option::LIST, b"").unwrap();
    let mut listed: Vec<_> = replies
        .iter()
        .map(|(kind, data)| {
            assert_eq!(*kind, reply::SERVER);
            String::from_utf8(data[4..].to_vec()).unwrap()
        })
        .collect();
    listed.sort();
    let mut expected = names.clone();
    expected.sort();
    assert_eq!((last, listed), (reply::ACK, expected));

    let long = "x".repeat(256);
    for unknown in [
        "directory",
        "link",
        "../outside",
        "..",
        ".",
        "",
        "disk-1/",
        "none",
        &long,
    ] {
        assert_eq!(client.go(unknown), Err(reply::ERR_UNKNOWN), "{unknown:?}");
    }
    assert_eq!(client.go("disk-7").unwrap().size, 4096);
    let mut client = Client::connect(&export.socket()).unwrap();
    client.export_name("none").unwrap_err();
}

#[test]
fn the_only_image_needs_no_name() {
    let drive = drive_with(&[("disk", 5000)]);
    let export = Export::start(&drive);
    let mut client = Client::connect(&export.socket()).unwrap();
    assert_eq!(client.go("").unwrap().size, 5000);
    let mut client = Client::connect(&export.socket()).unwrap();
    assert_eq!(client.export_name("disk").unwrap().size, 5000);
    client.write(4000, &[7; 1000]).unwrap();
    assert_eq!(
        client.read(3999, 1001).unwrap(),
        [vec![0], vec![7; 1000]].concat()
    );
}

#[test]
fn a_drive_without_images_has_none_until_they_are_made() {
    let drive = fs_tests::harness::Drive::mount(&["--size", "16M"]);
    let export = Export::start(&drive);
    let mut client = Client::connect(&export.socket()).unwrap();
    assert_eq!(client.option(option::LIST, b"").unwrap(), (reply::ACK, vec![]));
    assert_eq!(client.go(""), Err(reply::ERR_UNKNOWN));
    fs::create_dir(drive.path().join("images")).unwrap();
    image(&drive, "late").set_len(4096).unwrap();
    assert_eq!(client.go("late").unwrap().size, 4096);
}

#[test]
fn options_that_make_no_sense_are_refused_and_the_next_is_served() {
    let drive = drive_with(&[("disk", 4096)]);
    let export = Export::start(&drive);
    let mut client = Client::connect(&export.socket()).unwrap();
    let truncated = &export_query("disk")[..7];
    let overlong = [&[0xff; 4][..], b"disk"].concat();
    let uneven = [export_query("disk"), vec![0]].concat();
    let many = [&contexts("disk", &[])[..8], &[0xff; 4]].concat();
    let early = contexts("disk", &["base:allocation"]);
    let big = vec![0; 20_000];
    for (code, data, answer) in [
        (5, &b""[..], reply::ERR_UNSUP),
        (11, b"", reply::ERR_UNSUP),
        (0xffff_ffff, b"anything", reply::ERR_UNSUP),
        (option::LIST, b"x", reply::ERR_INVALID),
        (option::STRUCTURED_REPLY, b"x", reply::ERR_INVALID),
        (option::INFO, truncated, reply::ERR_INVALID),
        (option::GO, b"", reply::ERR_INVALID),
        (option::GO, &overlong, reply::ERR_INVALID),
        (option::GO, &uneven, reply::ERR_INVALID),
        (option::LIST_META_CONTEXT, &many, reply::ERR_INVALID),
        (option::SET_META_CONTEXT, &early, reply::ERR_INVALID),
        (option::GO, &big, reply::ERR_TOO_BIG),
    ] {
        let (last, replies) = client.option(code, data).unwrap();
        assert_eq!((last, replies.len()), (answer, 0), "option {code} {data:?}");
    }
    assert_eq!(client.option(option::ABORT, b"").unwrap().0, reply::ACK);
    assert!(client.is_closed());

    let mut client = Client::connect(&export.socket()).unwrap();
    let mut option = option_bytes(option::GO, b"");
    option[12..].copy_from_slice(&u32::MAX.to_be_bytes());
    client.send(&option).unwrap();
    assert!(client.is_closed(), "nobody reads an option of 4 GiB");
    let mut client = Client::connect(&export.socket()).unwrap();
    client.send(&[b'x'; 16]).unwrap();
    assert!(client.is_closed(), "without the magic number it is no option");
}

#[test]
fn metadata_contexts_are_those_of_the_chosen_image() {
    let drive = drive_with(&[("disk", 1 << 20), ("other", 4096)]);
    let export = Export::start(&drive);
    let mut client = Client::connect(&export.socket()).unwrap();
    client.structure();
    let mut ask = |code, name: &str, queries: &[&str]| {
        let (last, replies) = client.option(code, &contexts(name, queries)).unwrap();
        (last, replies.len())
    };
    let list = option::LIST_META_CONTEXT;
    assert_eq!(ask(list, "disk", &[]), (reply::ACK, 1));
    assert_eq!(ask(list, "disk", &["base:"]), (reply::ACK, 1));
    assert_eq!(ask(list, "disk", &["x-mine:all"]), (reply::ACK, 0));
    assert_eq!(ask(list, "none", &[]), (reply::ERR_UNKNOWN, 0));
    let set = option::SET_META_CONTEXT;
    assert_eq!(ask(set, "disk", &[]), (reply::ACK, 0));
    assert_eq!(ask(set, "none", &["base:allocation"]), (reply::ERR_UNKNOWN, 0));
    assert_eq!(ask(set, "other", &["x:y", "base:allocation"]), (reply::ACK, 1));
    client.go("disk").unwrap();
    assert_eq!(
        client.status(0, (0, MIB)),
        Err(EINVAL),
        "chosen for another image"
    );
}

#[test]
fn holes_and_data_are_told_apart() {
    let drive = drive_with(&[("disk", 1 << 20)]);
    let export = Export::start(&drive);
    let (mut client, _) = Client::open(&export.socket(), "disk");
    assert_eq!(client.status(0, (0, MIB)).unwrap(), [(MIB, 3)]);
    client.write(100_000, &pattern(1, 100_000)).unwrap();
    let runs = [(98_304, 3), (102_400, 0), (847_872, 3)];
    assert_eq!(client.status(0, (0, MIB)).unwrap(), runs);
    assert_eq!(client.status(flag::REQ_ONE, (0, MIB)).unwrap(), runs[..1]);
    assert_eq!(client.status(flag::REQ_ONE, (98_304, 10)).unwrap(), [(10, 0)]);
    assert_eq!(client.status(0, (200_000, 9000)).unwrap(), [(704, 0), (8296, 3)]);

    let kinds = |client: &mut Client, flags, range: (u64, u32)| {
        let chunks = client.perform((command::READ, flags), range, b"").unwrap();
        chunks.iter().map(|chunk| chunk.kind).collect::<Vec<_>>()
    };
    assert_eq!(
        kinds(&mut client, 0, (0, MIB)),
        [chunk::HOLE, chunk::DATA, chunk::HOLE]
    );
    assert_eq!(kinds(&mut client, 0, (0, 4096)), [chunk::DATA], "not worthwhile");
    assert_eq!(kinds(&mut client, flag::DF, (0, 65_536)), [chunk::DATA]);
    assert_eq!(kinds(&mut client, flag::DF, (0, MIB)), [chunk::DATA, chunk::NONE]);
    let mut expected = vec![0; MIB as usize];
    expected[100_000..200_000].copy_from_slice(&pattern(1, 100_000));
    assert_eq!(client.read(0, MIB).unwrap(), expected);
    let mut simple = Client::connect(&export.socket()).unwrap();
    simple.go("disk").unwrap();
    assert_eq!(simple.read(0, MIB).unwrap(), expected);
    assert_eq!(simple.read(99_999, 300_000).unwrap(), expected[99_999..399_999]);
}

#[test]
fn wrong_requests_get_the_protocol_s_errors_and_the_connection_goes_on() {
    let size = 64 << 20;
    let drive = drive_with(&[("disk", size)]);
    let export = Export::start(&drive);
    for structured in [true, false] {
        let mut client = Client::connect(&export.socket()).unwrap();
        if structured {
            client.structure();
        }
        let agreed = client.go("disk").unwrap();
        assert_eq!(agreed.size, size);
        let df = if structured { EOVERFLOW } else { EINVAL };
        let long = 33 << 20;
        for (request, range, payload, error) in [
            ((command::READ, 0), (size, 1), 0, EINVAL),
            ((command::READ, 0), (u64::MAX, 4096), 0, EINVAL),
            ((command::READ, 0), (0, long), 0, EINVAL),
            ((command::READ, flag::DF), (0, long), 0, df),
            ((command::READ, flag::NO_HOLE), (0, 1), 0, EINVAL),
            ((command::WRITE, 0), (size - 1, 2), 2, ENOSPC),
            ((command::WRITE, 0), (u64::MAX, 70_000), 70_000, ENOSPC),
            ((command::WRITE, flag::DF), (0, 300_000), 300_000, EINVAL),
            ((command::WRITE_ZEROES, 0), (size, 1), 0, ENOSPC),
            (
                (command::WRITE_ZEROES, flag::FAST_ZERO | flag::NO_HOLE),
                (0, 4096),
                0,
                ENOTSUP,
            ),
            ((command::TRIM, 0), (size - 1, 2), 0, EINVAL),
            ((command::BLOCK_STATUS, 0), (0, 4096), 0, EINVAL),
            ((command::CACHE, 0), (0, 4096), 0, EINVAL),
            ((999, 0), (0, 0), 0, EINVAL),
            ((command::FLUSH, 1 << 15), (0, 0), 0, EINVAL),
        ] {
            let answer = client.perform(request, range, &vec![1; payload]);
            assert_eq!(answer.unwrap_err(), error, "{request:?} {range:?}");
        }
        for request in [
            command::READ,
            command::WRITE,
            command::TRIM,
            command::WRITE_ZEROES,
            command::FLUSH,
        ] {
            client.perform((request, flag::FUA), (0, 0), b"").unwrap();
        }
        assert_eq!(client.read(size - 3, 3).unwrap(), [0; 3]);
    }
    assert_eq!(held_bytes(&drive), 0, "nothing of all this was written");
}

#[test]
fn a_connection_out_of_step_ends() {
    let drive = drive_with(&[("disk", 4096)]);
    let export = Export::start(&drive);
    let (mut client, _) = Client::open(&export.socket(), "disk");
    client.send(&[0; 28]).unwrap();
    assert!(client.is_closed());
    let (mut client, _) = Client::open(&export.socket(), "disk");
    client.request((command::WRITE, 0), (0, u32::MAX), b"").unwrap();
    assert!(client.is_closed(), "nobody reads a payload of 4 GiB");
    let (mut client, _) = Client::open(&export.socket(), "disk");
    client.request((command::DISC, 0), (0, 0), b"").unwrap();
    assert!(client.is_closed());
}

#[test]
fn a_read_only_export_refuses_changes() {
    let drive = drive_with(&[("disk", 1 << 20)]);
    image(&drive, "disk").write_all_at(b"kept", 0).unwrap();
    let export = Export::with(&drive, &["--read-only"]);
    let (mut client, agreed) = Client::open(&export.socket(), "disk");
    let has = |bit: u16| agreed.flags >> bit & 1 == 1;
    assert!(has(0) && has(1) && !has(3) && !has(5) && !has(6) && has(8));
    assert_eq!(client.write(0, &[1; 100_000]), Err(EPERM));
    for request in [command::TRIM, command::WRITE_ZEROES] {
        assert_eq!(client.perform((request, 0), (0, 4096), b""), Err(EPERM));
    }
    client.perform((command::FLUSH, 0), (0, 0), b"").unwrap();
    assert_eq!(client.read(0, 5).unwrap(), b"kept\0");
}

#[test]
fn zeroes_keep_memory_or_give_it_back() {
    let drive = drive_with(&[("disk", 8 << 20)]);
    let export = Export::start(&drive);
    let (mut client, _) = Client::open(&export.socket(), "disk");
    let empty = held_bytes(&drive);
    client.write(0, &pattern(3, 4 << 20)).unwrap();
    let full = held_bytes(&drive);
    assert!(full - empty >= 4 << 20);
    let range = (0, 4 << 20);
    client
        .perform((command::WRITE_ZEROES, flag::NO_HOLE), range, b"")
        .unwrap();
    assert_eq!(held_bytes(&drive), full, "the memory stays");
    assert_eq!(client.status(0, range).unwrap(), [(4 << 20, 0)]);
    assert!(client.read(0, 4 << 20).unwrap().iter().all(|&byte| byte == 0));
    for request in [(command::TRIM, 0), (command::WRITE_ZEROES, flag::FAST_ZERO)] {
        client.write(0, &pattern(5, 4 << 20)).unwrap();
        client.perform(request, range, b"").unwrap();
        assert!(held_bytes(&drive) - empty < 64 << 10, "the memory is free again");
        assert_eq!(client.status(0, range).unwrap(), [(4 << 20, 3)]);
        assert!(client.read(0, 4 << 20).unwrap().iter().all(|&byte| byte == 0));
    }
}

#[test]
fn a_full_drive_says_so_and_goes_on() {
    let drive = fs_tests::harness::Drive::mount(&["--size", "4M"]);
    fs::create_dir(drive.path().join("images")).unwrap();
    image(&drive, "disk").set_len(16 << 20).unwrap();
    let export = Export::start(&drive);
    let (mut client, _) = Client::open(&export.socket(), "disk");
    assert_eq!(client.write(0, &pattern(1, 8 << 20)), Err(ENOSPC));
    client.perform((command::TRIM, 0), (0, 16 << 20), b"").unwrap();
    client.write(0, &pattern(2, 1 << 20)).unwrap();
    assert_eq!(client.read(0, MIB).unwrap(), pattern(2, 1 << 20));
}

#[test]
fn requests_sent_together_are_answered_in_order() {
    let drive = drive_with(&[("disk", 4 << 20)]);
    let export = Export::start(&drive);
    let (mut client, _) = Client::open(&export.socket(), "disk");
    let cookies: Vec<_> = (0..100)
        .map(|n| {
            let payload = pattern(n, 4096);
            client
                .request((command::WRITE, 0), (u64::from(n) * 4096, 4096), &payload)
                .unwrap()
        })
        .collect();
    for cookie in cookies {
        assert_eq!(client.reply(cookie, 0).unwrap().len(), 1);
    }
    for n in 0..100 {
        assert_eq!(client.read(u64::from(n) * 4096, 4096).unwrap(), pattern(n, 4096));
    }
}
