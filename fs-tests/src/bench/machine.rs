//! What the numbers depend on and nobody can change, and what the kernel tells of its memory.

use std::path::Path;
use std::process::Command;

use nix::sys::statvfs::statvfs;

use crate::harness::run;

/// Kernel, processor, memory and the day in a line of prose.
///
/// # Panics
/// Where the machine does not tell.
pub fn description() -> String {
    let kernel = text_of("/proc/sys/kernel/osrelease");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let processors = text_of("/proc/cpuinfo");
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("an unnamed processor", |(_, name)| name);
    let memory = meminfo("MemTotal") >> 30;
    let date = run(Command::new("date").args(["-u", "+%F"])).stdout;
    format!(
        "Linux {}, {cores} cores of {model}, {memory} GiB of memory, {}",
        kernel.trim(),
        String::from_utf8_lossy(&date).trim(),
    )
}

/// A quantity of the system's memory, in bytes.
///
/// # Panics
/// Where there is no such line in /proc/meminfo.
pub fn meminfo(name: &str) -> u64 {
    let text = text_of("/proc/meminfo");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    number.unwrap_or_else(|| panic!("/proc/meminfo has no line `{name}: NUMBER kB`")) << 10
}

/// The kernel's page cache without what tmpfs stores in it, in bytes.
pub fn page_cache() -> u64 {
    meminfo("Cached").saturating_sub(meminfo("Shmem"))
}

/// What the kernel can be made to forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caches {
    /// Clean pages of files.
    Pages,
    /// Names and inodes.
    Names,
}

/// Makes the kernel forget; needs root.
///
/// # Panics
/// Where that is refused.
pub fn drop_caches(which: Caches) {
    let number = match which {
        Caches::Pages => "1",
        Caches::Names => "2",
    };
    std::fs::write("/proc/sys/vm/drop_caches", number).expect("root may drop caches");
}

/// Bytes that a mounted filesystem says are taken, as df(1) shows them.
///
/// # Panics
/// Where it does not answer.
pub fn used_bytes(mounted: &Path) -> u64 {
    let totals = statvfs(mounted).unwrap_or_else(|errno| panic!("{}: {errno}", mounted.display()));
    (totals.blocks() - totals.blocks_free()) * totals.fragment_size()
}

fn text_of(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}
