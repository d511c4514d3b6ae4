//! The programs that say what is on a disk: qemu-img, nbdinfo, nbdcopy.

use std::fs;
use std::path::Path;
use std::process::Command;

use fs_tests::harness::run;
use serde_json::Value;

use crate::ways::{Image, text};

/// A stretch of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) start: u64,
    pub(crate) len: u64,
    /// It is said to be a hole that reads as zeros.
    pub(crate) is_hole: bool,
}

impl Run {
    pub(crate) fn end(&self) -> u64 {
        self.start + self.len
    }
}

/// Runs a program that must succeed; what it printed.
fn program(name: &str, arguments: &[&str]) -> String {
    let output = run(Command::new(name).args(arguments));
    String::from_utf8(output.stdout).unwrap()
}

/// `qemu-img map`, of a file or a URI.
pub(crate) fn qemu_map(target: &str) -> Vec<Run> {
    let json = program("qemu-img", &["map", "--output=json", "-f", "raw", target]);
    runs(&json, |run| {
        assert_ne!(run["data"], run["zero"], "data or zeros: {run}");
        (&run["start"], run["zero"] == true)
    })
}

/// `nbdinfo --map`.
pub(crate) fn nbd_map(uri: &str) -> Vec<Run> {
    let json = program("nbdinfo", &["--map", "--json", uri]);
    runs(&json, |run| (&run["offset"], run["type"] == 3))
}

/// Neighbours of one kind become one run; nothing may be missing between them.
fn runs(json: &str, understand: impl Fn(&Value) -> (&Value, bool)) -> Vec<Run> {
    let parsed: Value = serde_json::from_str(json).unwrap();
    let mut runs: Vec<Run> = Vec::new();
    let mut end = 0;
    for run in parsed.as_array().unwrap() {
        let (start, is_hole) = understand(run);
        let (start, len) = (start.as_u64().unwrap(), run["length"].as_u64().unwrap());
        assert_eq!(start, end, "no byte comes twice or not at all: {json}");
        end += len;
        match runs.last_mut().filter(|last| last.is_hole == is_hole) {
            Some(last) => last.len += len,
            None => runs.push(Run { start, len, is_hole }),
        }
    }
    runs
}

/// Both views show the same map, and what it calls a hole are zeros. Returns it.
pub(crate) fn agreed_map(image: &Image, bytes: &[u8]) -> Vec<Run> {
    let map = qemu_map(&image.file);
    assert!(
        qemu_map(&image.uri) == map,
        "{}: qemu-img by file and by NBD",
        image.uri
    );
    assert!(nbd_map(&image.uri) == map, "{}: nbdinfo and qemu-img", image.uri);
    for run in map.iter().filter(|run| run.is_hole) {
        let hole = &bytes[run.start as usize..run.end() as usize];
        assert!(hole.iter().all(|&byte| byte == 0), "a hole with bytes: {run:?}");
    }
    map
}

/// qemu-img finds both views equal to the raw file, and what nbdcopy and qemu-img copy is equal to it.
pub(crate) fn compare(image: &Image, raw: &Path, scratch: &Path) {
    let bytes = fs::read(raw).unwrap();
    for target in [&image.file, &image.uri] {
        program(
            "qemu-img",
            &["compare", "-f", "raw", "-F", "raw", target, &text(raw)],
        );
    }
    let copy = scratch.join("copy");
    for (name, arguments) in [
        ("nbdcopy", &[][..]),
        ("qemu-img", &["convert", "-f", "raw", "-O", "raw"]),
    ] {
        // nbdcopy wants a file of that size.
        fs::File::create(&copy)
            .unwrap()
            .set_len(bytes.len() as u64)
            .unwrap();
        program(name, &[arguments, &[&image.uri, &text(&copy)]].concat());
        assert!(fs::read(&copy).unwrap() == bytes, "what {name} has copied");
        fs::remove_file(&copy).unwrap();
    }
}
