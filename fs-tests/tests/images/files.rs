//! Files beside the drive, random disks, and the program that judges what is written.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use fs_tests::harness::{Scratch, run};
use fs_tests::rng::Rng;
use serde_json::Value;

/// A directory that goes with all that is in it.
pub(crate) struct Files(Scratch);

impl Files {
    pub(crate) fn new() -> Self {
        Self(Scratch::new())
    }

    /// The path of a file, there or not.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Makes a raw disk, and tells its path.
    pub(crate) fn raw(&self, name: &str, size: u64, pieces: &[(u64, Vec<u8>)]) -> String {
        let file = File::create(self.path(name)).unwrap();
        file.set_len(size).unwrap();
        for (at, bytes) in pieces {
            file.write_all_at(bytes, *at).unwrap();
        }
        self.text(name)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.0.path()).unwrap() {
            let _ = fs::remove_file(entry.unwrap().path());
        }
    }
}

/// Random pieces of a disk, in no order: bytes that pack badly, bytes that pack well, zeros.
pub(crate) fn pieces(rng: &mut Rng, size: u64) -> Vec<(u64, Vec<u8>)> {
    let sectors = size / 512;
    let count = if sectors == 0 { 0 } else { 1 + rng.below(24) };
    let piece = |_| {
        let at = rng.below(sectors);
        let most = rng.pick(&[1, 8, 64, 2048]).min(sectors - at);
        let len = 512 * (1 + rng.below(most));
        let kind = rng.below(4);
        let bytes = (0..len).map(|n| match kind {
            0 => 0,
            1 => (n / 700) as u8 | 1,
            _ => rng.bits() as u8,
        });
        (at * 512, bytes.collect())
    };
    (0..count).map(piece).collect()
}

/// Runs `qemu-img`, which must succeed.
#[track_caller]
pub(crate) fn qemu_img(arguments: &[&str]) -> String {
    let output = run(Command::new("qemu-img").args(arguments));
    String::from_utf8(output.stdout).unwrap()
}

/// Expects two disks to have the same size and the same bytes.
#[track_caller]
pub(crate) fn same((first, of): (&str, &str), (second, as_in): (&str, &str)) {
    qemu_img(&["compare", "-f", of, "-F", as_in, first, second]);
    // It takes what one of them has not for zeros.
    assert_eq!(
        info(first, of)["virtual-size"],
        info(second, as_in)["virtual-size"]
    );
}

/// Expects a file to be free of errors and leaks.
#[track_caller]
pub(crate) fn sound(path: &str, format: &str) {
    qemu_img(&["check", "-f", format, path]);
}

pub(crate) fn info(path: &str, format: &str) -> Value {
    serde_json::from_str(&qemu_img(&["info", "--output=json", "-f", format, path])).unwrap()
}

/// Bytes of data, and not of zeros, that QEMU sees in a file itself and not below it.
pub(crate) fn mapped_bytes(path: &str, format: &str) -> u64 {
    let map: Value = serde_json::from_str(&qemu_img(&["map", "--output=json", "-f", format, path])).unwrap();
    let own = map
        .as_array()
        .unwrap()
        .iter()
        .filter(|run| run["data"] == true && run["depth"] == 0);
    own.map(|run| run["length"].as_u64().unwrap()).sum()
}

/// Bytes that two files have in common from their start, where they are not the same.
pub(crate) fn difference(first: &Path, second: &Path) -> Option<usize> {
    let (first, second) = (fs::read(first).unwrap(), fs::read(second).unwrap());
    let end = first.len().max(second.len());
    (0..end).find(|&at| first.get(at) != second.get(at))
}
