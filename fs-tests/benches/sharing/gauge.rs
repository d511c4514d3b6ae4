//! What a drive of okapi takes, once it has come to rest, and how figures of memory are told.

use fs_tests::bench::machine::{Caches, drop_caches};
use fs_tests::harness::{Drive, pss_bytes};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// For so long nothing may change in a drive that has come to rest.
const QUIET: Duration = Duration::from_secs(4);
/// After so long it is measured as it is.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(200);

/// Memory of a drive, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Of all blocks.
    pub(crate) held: u64,
    /// Charged for inodes, names and extents.
    pub(crate) metadata: u64,
    /// Of the process.
    pub(crate) pss: u64,
}

impl Memory {
    /// Waits until what runs behind writers has ended: sealing, and giving memory back.
    pub(crate) fn at_rest(drive: &Drive) -> Self {
        drop_caches(Caches::Names);
        let began = Instant::now();
        let mut memory = Self::now(drive);
        let mut since = Instant::now();
        while since.elapsed() < QUIET && began.elapsed() < PATIENCE {
            sleep(PAUSE);
            let now = Self::now(drive);
            if !now.is_like(&memory) || has_backlog(drive) {
                (memory, since) = (now, Instant::now());
            }
        }
        memory
    }

    fn now(drive: &Drive) -> Self {
        let stat = drive.stat();
        let bytes = |name: &str| {
            let bytes = stat[name].as_u64();
            bytes.unwrap_or_else(|| panic!("okapi stat --json tells {name}"))
        };
        Self {
            held: bytes("held_bytes"),
            metadata: bytes("metadata_bytes"),
            pss: pss_bytes(drive.pid()),
        }
    }

    /// Whether nothing goes on any more; to answer what it holds moves a few pages of the process.
    fn is_like(&self, other: &Self) -> bool {
        self.charged() == other.charged() && self.pss.abs_diff(other.pss) <= 64 << 10
    }

    /// What is charged to the drive's size.
    pub(crate) fn charged(&self) -> u64 {
        self.held + self.metadata
    }

    /// What it takes more than before.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            held: self.held.saturating_sub(before.held),
            metadata: self.metadata.saturating_sub(before.metadata),
            pss: self.pss.saturating_sub(before.pss),
        }
    }
}

/// Whether files wait to be sealed; a drive that does not seal tells of none.
fn has_backlog(drive: &Drive) -> bool {
    drive.stat()["unsealed_inodes"]
        .as_u64()
        .is_some_and(|inodes| inodes > 0)
}

/// Bytes as MiB.
pub(crate) fn mebibytes(bytes: f64) -> String {
    let mebibytes = bytes / f64::from(1 << 20);
    match mebibytes {
        ..10.0 => format!("{mebibytes:.2}"),
        ..100.0 => format!("{mebibytes:.1}"),
        _ => grouped(mebibytes),
    }
}

/// A whole number with commas between the thousands.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
