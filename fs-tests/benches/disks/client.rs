//! Programs that read and write disks: the same for every kind of disk, as far as there are such.

use std::process::Command;

use fs_tests::harness::run;
use serde_json::Value;

use crate::contender::Target;
use crate::options::Options;

/// Something that a client does with a disk.
pub(crate) struct Work {
    pub(crate) name: &'static str,
    writes: bool,
    /// Bytes of a request.
    len_bytes: u64,
    /// Requests under way at a time.
    depth: u64,
    /// One behind the other, or all over the image.
    in_order: bool,
    /// Requests, where a client takes a number of them: for about half a second on what is neither fast nor slow.
    count: u64,
}

/// All of it.
pub(crate) const WORK: [Work; 4] = [
    Work {
        name: "random 4 KiB reads",
        writes: false,
        len_bytes: 4096,
        depth: 16,
        in_order: false,
        count: 30_000,
    },
    Work {
        name: "random 4 KiB writes",
        writes: true,
        len_bytes: 4096,
        depth: 16,
        in_order: false,
        count: 30_000,
    },
    Work {
        name: "reads of 1 MiB in order",
        writes: false,
        len_bytes: 1 << 20,
        depth: 4,
        in_order: true,
        count: 1000,
    },
    Work {
        name: "writes of 1 MiB in order",
        writes: true,
        len_bytes: 1 << 20,
        depth: 4,
        in_order: true,
        count: 1000,
    },
];

/// A program that does it.
pub(crate) struct Client {
    pub(crate) name: &'static str,
    run: fn(&Work, &Target, &Options) -> Result<f64, String>,
}

/// Both: QEMU's own block layer, which is what a virtual machine has, and fio, which takes less time itself.
pub(crate) const CLIENTS: [Client; 2] = [
    Client {
        name: "QEMU",
        run: qemu_img,
    },
    Client {
        name: "fio",
        run: fio,
    },
];

impl Client {
    /// Requests per second.
    pub(crate) fn run(&self, work: &Work, target: &Target, options: &Options) -> Result<f64, String> {
        (self.run)(work, target, options)
    }
}

/// `qemu-img bench`. It knows no random offsets, but a stride, and begins anew at the image's end: a stride near the
/// golden section of the image goes everywhere, and never near to where it was shortly before.
fn qemu_img(work: &Work, target: &Target, options: &Options) -> Result<f64, String> {
    let count = (work.count / options.divisor).max(1);
    let stride = match work.in_order {
        true => work.len_bytes,
        false => stride(options.image_bytes / work.len_bytes) * work.len_bytes,
    };
    let mut command = Command::new("qemu-img");
    command.args(["bench", "-f", "raw"]);
    for (option, number) in [
        ("-c", count),
        ("-d", work.depth),
        ("-s", work.len_bytes),
        ("-S", stride),
    ] {
        command.arg(option).arg(number.to_string());
    }
    if work.writes {
        command.args(["-w", "--pattern=165"]);
    }
    match target {
        Target::File(path) => command.args(["-t", "none", "-i", "io_uring"]).arg(path),
        Target::Nbd(uri) => command.arg(uri),
    };
    let output = run(&mut command).stdout;
    let output = String::from_utf8_lossy(&output);
    let told = output
        .lines()
        .find_map(|line| line.strip_prefix("Run completed in ")?.strip_suffix(" seconds."));
    let seconds = told.and_then(|number| number.parse::<f64>().ok());
    let rate = seconds
        .filter(|seconds| *seconds > 0.0)
        .map(|seconds| count as f64 / seconds);
    rate.ok_or_else(|| format!("qemu-img bench does not tell its time: {output}"))
}

/// A number of requests near the golden section of `places` that has no factor in common with it, so that each place has
/// its turn before one has its second.
fn stride(places: u64) -> u64 {
    let golden = (places as f64 * 0.618) as u64;
    (golden.max(1)..)
        .find(|&stride| coprime(stride, places))
        .expect("the next prime is coprime")
}

fn coprime(a: u64, b: u64) -> bool {
    match b {
        0 => a == 1,
        _ => coprime(b, a % b),
    }
}

fn fio(work: &Work, target: &Target, options: &Options) -> Result<f64, String> {
    let kind = if work.writes { "write" } else { "read" };
    let order = if work.in_order { "" } else { "rand" };
    let mut command = Command::new("fio");
    command.args(["--name=disk", "--output-format=json", "--time_based"]);
    command.arg(format!("--rw={order}{kind}"));
    command.arg(format!("--bs={}", work.len_bytes));
    command.arg(format!("--iodepth={}", work.depth));
    command.arg(format!("--size={}", options.image_bytes));
    command.arg(format!("--runtime={}", options.seconds));
    match target {
        Target::File(path) => command
            .args(["--ioengine=io_uring", "--direct=1"])
            .arg(format!("--filename={}", path.display())),
        Target::Nbd(uri) => command.args(["--ioengine=nbd", &format!("--uri={uri}")]),
    };
    let output = run(&mut command).stdout;
    let output = String::from_utf8_lossy(&output);
    // What the engine has to say comes before.
    let json = output.find('{').map_or("", |start| &output[start..]);
    let told: Value = serde_json::from_str(json).map_err(|error| format!("fio: {error}: {output}"))?;
    let rate = told["jobs"][0][kind]["iops"].as_f64().filter(|rate| *rate > 0.0);
    rate.ok_or_else(|| format!("fio does not tell its rate: {output}"))
}
