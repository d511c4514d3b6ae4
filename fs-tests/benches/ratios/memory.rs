//! What a stored byte costs in memory, on tmpfs and on okapi.

use crate::inputs::Inputs;
use crate::workload::{store_stream, unpack};
use fs_tests::bench::machine::{meminfo, page_cache};
use fs_tests::harness::{Drive, Place, Tmpfs, pss_bytes};
use std::path::Path;

/// What it is called on the command line.
pub(crate) const ROW: &str = "memory";

/// Something to store: its name, the bytes in it, and how it is written.
type Load<'a> = (String, u64, Box<dyn Fn(&Path) + 'a>);

/// Bytes of memory per byte of the files, as a table.
pub(crate) fn table(inputs: &Inputs) -> String {
    let stream_bytes = inputs.sizes.stream_bytes as u64;
    let loads: [Load<'_>; 2] = [
        (
            "source tree".to_owned(),
            inputs.tree_bytes,
            Box::new(|dir| unpack(inputs, dir)),
        ),
        (
            format!("one file of {} MiB", stream_bytes >> 20),
            stream_bytes,
            Box::new(|dir| store_stream(inputs.sizes, dir)),
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
    let measure = || (pss_bytes(drive.pid()), page_cache());
    let before = measure();
    store(drive.path());
    let after = measure();
    (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1))
}
