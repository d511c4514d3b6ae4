//! What the numbers depend on and nobody can change: kernel, processor, memory, the day.

use fs_tests::harness::run;
use std::path::Path;
use std::process::Command;

/// The machine and the day in a line of prose.
pub(crate) fn description() -> String {
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
pub(crate) fn meminfo(name: &str) -> u64 {
    let text = text_of("/proc/meminfo");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    number.unwrap_or_else(|| panic!("/proc/meminfo has no line `{name}: NUMBER kB`")) << 10
}

fn text_of(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}
