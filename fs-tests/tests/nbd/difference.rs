//! The metadata context `okapi:diff`: where an image differs from its base.

use std::fs;
use std::os::unix::fs::FileExt;
use std::process::Command;

use fs_tests::harness::{Drive, Place, binary, run};
use fs_tests::nbd::{Client, contexts, flag, option, reply};
use okapi::limits::NBD_RUNS_MAX;
use serde_json::Value;

use crate::support::{Export, drive_of, drive_with, image, pattern};

const SIZE: u64 = 4 << 20;
const DIFF: &str = "okapi:diff";
const DIFF_ID: u32 = 2;

fn okapi_image(drive: &Drive, arguments: &[&str]) {
    run(Command::new(binary())
        .arg("image")
        .args(arguments)
        .arg("--mount")
        .arg(drive.path()));
}

/// A drive with an image `base`, full of bytes, and a clone of it with pages 1 and 256 changed.
fn drive_with_a_clone() -> Drive {
    let drive = drive_with(&[("base", SIZE)]);
    image(&drive, "base")
        .write_all_at(&pattern(1, SIZE as usize), 0)
        .unwrap();
    okapi_image(&drive, &["clone", "base", "clone"]);
    let clone = image(&drive, "clone");
    clone.write_all_at(b"other", 5000).unwrap();
    clone.write_all_at(&[0; 4096], 1 << 20).unwrap();
    drive
}

const CHANGED: [(u32, u32); 5] = [
    (4096, 0),
    (4096, 1),
    ((1 << 20) - 8192, 0),
    (4096, 1),
    ((3 << 20) - 4096, 0),
];

#[test]
fn the_context_is_offered_where_an_image_has_a_base() {
    let drive = drive_with_a_clone();
    let export = Export::start(&drive);
    let mut client = Client::connect(&export.socket()).unwrap();
    client.structure();
    let mut ask = |code, name: &str, queries: &[&str]| -> (u32, Vec<String>) {
        let (last, replies) = client.option(code, &contexts(name, queries)).unwrap();
        let names = replies.iter().map(|(kind, data)| {
            assert_eq!(*kind, reply::META_CONTEXT);
            String::from_utf8(data[4..].to_vec()).unwrap()
        });
        (last, names.collect())
    };
    let (list, set) = (option::LIST_META_CONTEXT, option::SET_META_CONTEXT);
    let named = |names: &[&str]| {
        (
            reply::ACK,
            names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(),
        )
    };
    assert_eq!(ask(list, "clone", &[]), named(&["base:allocation", DIFF]));
    assert_eq!(ask(list, "clone", &["okapi:"]), named(&[DIFF]));
    assert_eq!(ask(list, "base", &[]), named(&["base:allocation"]));
    assert_eq!(ask(list, "base", &[DIFF]), named(&[]));
    assert_eq!(
        ask(set, "clone", &[DIFF, "base:allocation"]),
        named(&["base:allocation", DIFF])
    );
    assert_eq!(
        ask(set, "base", &[DIFF, "base:allocation"]),
        named(&["base:allocation"])
    );
    // Once the base has gone there is nothing to compare with.
    okapi_image(&drive, &["rm", "base"]);
    assert_eq!(ask(list, "clone", &[]), named(&["base:allocation"]));
    assert_eq!(ask(set, "clone", &[DIFF]), named(&[]));
}

#[test]
fn pages_that_differ_are_flagged() {
    let drive = drive_with_a_clone();
    let export = Export::start(&drive);
    let (mut client, _) = Client::open_with(&export.socket(), "clone", &[DIFF]);
    let whole = (0, SIZE as u32);
    assert_eq!(client.status(0, whole).unwrap(), CHANGED);
    assert_eq!(client.status(flag::REQ_ONE, whole).unwrap(), CHANGED[..1]);
    assert_eq!(
        client.status(flag::REQ_ONE, (4096, 1 << 20)).unwrap(),
        CHANGED[1..2]
    );
    // The page differs behind its first 904 bytes, which are asked for by themselves.
    assert_eq!(client.status(0, (4096, 904)).unwrap(), [(904, 0)]);
    assert_eq!(
        client.status(0, (4999, 4000)).unwrap(),
        [(8192 - 4999, 1), (4000 - (8192 - 4999), 0)]
    );
    // What the client changes itself shows at once, and bytes that were written back are no difference.
    client.write(0, b"!").unwrap();
    client
        .write(1 << 20, &pattern(1, SIZE as usize)[1 << 20..][..4096])
        .unwrap();
    assert_eq!(
        client.status(0, whole).unwrap(),
        [(8192, 1), (SIZE as u32 - 8192, 0)]
    );
}

#[test]
fn several_contexts_are_answered_together() {
    let drive = drive_with_a_clone();
    image(&drive, "clone").set_len(2 * SIZE).unwrap();
    let export = Export::start(&drive);
    let both = ["base:allocation", DIFF];
    let (mut client, _) = Client::open_with(&export.socket(), "clone", &both);
    let statuses = client.statuses(0, (0, 2 * SIZE as u32)).unwrap();
    let mut differences = CHANGED;
    differences[4].0 += SIZE as u32;
    assert_eq!(
        statuses,
        [
            (1, vec![(SIZE as u32, 0), (SIZE as u32, 3)]),
            (DIFF_ID, differences.to_vec())
        ]
    );
    let one = client.statuses(flag::REQ_ONE, (0, SIZE as u32)).unwrap();
    assert_eq!(one, [(1, vec![(SIZE as u32, 0)]), (DIFF_ID, vec![(4096, 0)])]);
}

#[test]
fn a_client_goes_on_with_the_base_that_it_has_begun_with() {
    let drive = drive_with_a_clone();
    let export = Export::start(&drive);
    let (mut client, _) = Client::open_with(&export.socket(), "clone", &[DIFF]);
    let whole = (0, SIZE as u32);
    assert_eq!(client.status(0, whole).unwrap(), CHANGED);
    // The base's present bytes count.
    image(&drive, "base").write_all_at(b"x", 0).unwrap();
    assert_eq!(client.status(flag::REQ_ONE, whole).unwrap(), [(8192, 1)]);
    // It is the same file under another name, or none.
    let at = |name: &str| drive.path().join("images").join(name);
    fs::rename(at("base"), at("old")).unwrap();
    fs::copy(at("clone"), at("base")).unwrap();
    assert_eq!(client.status(flag::REQ_ONE, whole).unwrap(), [(8192, 1)]);
    fs::remove_file(at("old")).unwrap();
    assert_eq!(client.status(flag::REQ_ONE, whole).unwrap(), [(8192, 1)]);
    let (mut later, _) = Client::open_with(&export.socket(), "clone", &[DIFF]);
    assert_eq!(later.status(0, whole).unwrap(), [(SIZE as u32, 0)]);
}

#[test]
fn an_answer_is_bounded_and_the_next_one_goes_on() {
    let drive = drive_of(&["--size", "768M", "--dedup", "off"], &[]);
    // Every second page differs, more often than one answer tells; then more equal bytes than one look compares.
    let (scattered, len) = (3 * NBD_RUNS_MAX as u64 * 4096, 160u64 << 20);
    for name in ["base", "clone"] {
        let file = image(&drive, name);
        for start in (0..len).step_by(1 << 20) {
            file.write_all_at(&pattern((start >> 20) as u8, 1 << 20), start)
                .unwrap();
        }
    }
    let clone = image(&drive, "clone");
    for start in (0..scattered).step_by(8192) {
        clone.write_all_at(&[0; 8], start).unwrap();
    }
    okapi_image(&drive, &["rebase", "clone", "base"]);
    // Rebasing shares what is equal; here it shall be compared.
    for start in (scattered..len).step_by(1 << 20) {
        clone
            .write_all_at(&pattern((start >> 20) as u8, 1 << 20), start)
            .unwrap();
    }
    let export = Export::start(&drive);
    let (mut client, _) = Client::open_with(&export.socket(), "clone", &[DIFF]);
    let (mut at, mut answers, mut states) = (0u64, 0, Vec::new());
    while at < len {
        let runs = client.status(0, (at, (len - at) as u32)).unwrap();
        assert!(!runs.is_empty() && runs.len() <= NBD_RUNS_MAX);
        answers += 1;
        for (run, state) in runs {
            for page in 0..run / 4096 {
                states.push((at / 4096 + u64::from(page), state));
            }
            at += u64::from(run);
        }
    }
    assert!(answers > 4, "{answers} answers");
    for (page, state) in states {
        let differs = page * 4096 < scattered && page % 2 == 0;
        assert_eq!(state, u32::from(differs), "page {page}");
    }
}

#[test]
fn nbdinfo_and_qemu_img_read_the_context() {
    let drive = drive_with_a_clone();
    let export = Export::start(&drive);
    let map = run(Command::new("nbdinfo").args(["--json", "--map=okapi:diff", &export.uri("clone")]));
    let map: Vec<Value> = serde_json::from_slice(&map.stdout).unwrap();
    let number = |run: &Value, of: &str| u32::try_from(run[of].as_u64().unwrap()).unwrap();
    let runs: Vec<_> = map
        .iter()
        .map(|run| (number(run, "length"), number(run, "type")))
        .collect();
    assert_eq!(runs, CHANGED);
    // QEMU shows such a context as if what is flagged had no data.
    let source = format!(
        "driver=nbd,server.type=unix,server.path={},export=clone,x-dirty-bitmap={DIFF}",
        export.socket().display()
    );
    let map = run(Command::new("qemu-img").args(["map", "--output=json", "--image-opts", &source]));
    let map: Vec<Value> = serde_json::from_slice(&map.stdout).unwrap();
    let differing: Vec<_> = map
        .iter()
        .filter(|run| run["data"] == false)
        .map(|run| (run["start"].as_u64().unwrap(), number(run, "length")))
        .collect();
    assert_eq!(differing, [(4096, 4096), (1 << 20, 4096)]);
}
