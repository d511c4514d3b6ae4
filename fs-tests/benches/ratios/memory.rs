//! What a stored byte costs in memory, on tmpfs and on okapi.

use crate::text_of;
use crate::workload::{self, Tree};
use fs_tests::harness::{Drive, Place, Tmpfs, pss_bytes};
use std::path::Path;

/// Something to store: its name, the bytes in it, and how it is written.
type Load<'a> = (&'static str, u64, Box<dyn Fn(&Path) + 'a>);

/// Bytes of memory per byte of the files, as a table.
pub(crate) fn table(tree: &Tree) -> String {
    let loads: [Load<'_>; 2] = [
        (
            "source tree",
            tree.bytes,
            Box::new(|dir| workload::unpack(tree, dir)),
        ),
        (
            "one file of 256 MiB",
            workload::FILE_BYTES as u64,
            Box::new(workload::write_large),
        ),
    ];
    let mut lines = vec![
        "Memory per byte stored:\n".to_owned(),
        "| stored | tmpfs | okapi | okapi with the kernel's page cache |".to_owned(),
        "| --- | --- | --- | --- |".to_owned(),
    ];
    for (name, stored, store) in loads {
        let per_byte = |memory: u64| format!("{:.3}", memory as f64 / stored as f64);
        let (daemon, cache) = on_okapi(&store);
        let cells = [on_tmpfs(&store), daemon, daemon + cache].map(per_byte);
        lines.push(format!("| {name} | {} |", cells.join(" | ")));
    }
    lines.join("\n")
}

/// Shared memory that tmpfs takes for it.
fn on_tmpfs(store: impl Fn(&Path)) -> u64 {
    let tmpfs = Tmpfs::mount("1G");
    let before = meminfo("Shmem");
    store(tmpfs.path());
    meminfo("Shmem").saturating_sub(before)
}

/// Memory of the daemon, and page cache that the kernel adds and can drop again.
fn on_okapi(store: impl Fn(&Path)) -> (u64, u64) {
    let drive = Drive::mount(&["--size", "1G"]);
    let measure = || (pss_bytes(drive.pid()), meminfo("Cached") - meminfo("Shmem"));
    let before = measure();
    store(drive.path());
    let after = measure();
    (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1))
}

/// A quantity of the system's memory, in bytes.
fn meminfo(name: &str) -> u64 {
    let text = text_of("/proc/meminfo");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    number.unwrap_or_else(|| panic!("/proc/meminfo has no line `{name}: NUMBER kB`")) << 10
}
