//! A fleet of virtual machines: an image for each address of a subnet, cloned from one base and burned.

use std::fs::{self, File};
use std::process::Command;

use crate::gauge::{Memory, grouped, mebibytes};
use crate::options::Options;
use fs_tests::bench::report::{Spread, figure, table};
use fs_tests::bench::stream::Stream;
use fs_tests::bench::{interrupt, program, time};
use fs_tests::harness::{Drive, Place, Tmpfs, binary, run};
use serde_json::Value;

/// What is burned into a file of one block.
const TEMPLATE: &str =
    "IP={ip}/{prefix}\nGATEWAY={gateway}\nDNS={dns}\nHOST={host}\nMAC={mac}\nID={machine_id}\n";
/// Bytes of the image that are the filesystem's own.
const OWN_BYTES: usize = 6 << 20;

/// What a round has measured.
struct Round {
    daemon_ms: f64,
    command_ms: f64,
    again_ms: f64,
    fleet: Memory,
    /// Of the daemon, with base and fleet.
    pss: u64,
}

/// A table of times and memory.
pub(crate) fn tables(options: &Options, missing: &mut Vec<String>) -> Result<Vec<String>, String> {
    if !program::is_installed("mke2fs") {
        missing.push("fleets: no mke2fs here (package e2fsprogs)".to_owned());
        return Ok(Vec::new());
    }
    let shop = Tmpfs::mount("1G");
    make_base(&shop, options.work.image_bytes);
    let mut rounds = Vec::new();
    for round in 0..options.rounds {
        interrupt::go_on()?;
        eprintln!("round {} of {}: a fleet", round + 1, options.rounds);
        rounds.push(measure(options, &shop));
    }
    let members = options.work.clones as f64;
    let line = |name, value: &dyn Fn(&Round) -> f64, show: &dyn Fn(f64) -> String| {
        let spread = Spread::new(rounds.iter().map(value).collect()).expect("there is a round");
        (name, vec![spread.show(show)])
    };
    let lines = [
        line(
            "made and burned, ms in the daemon",
            &|round| round.daemon_ms,
            &figure,
        ),
        line("the whole command, ms", &|round| round.command_ms, &figure),
        line("the command once more, ms", &|round| round.again_ms, &figure),
        line(
            "memory of a member, bytes",
            &|round| round.fleet.held as f64 / members,
            &grouped,
        ),
        line(
            "metadata of a member, bytes",
            &|round| round.fleet.metadata as f64 / members,
            &grouped,
        ),
        line(
            "the daemon in all, MiB (PSS)",
            &|round| round.pss as f64,
            &mebibytes,
        ),
    ];
    let meaning = format!(
        "A fleet of {members} from a base of {} MiB: ext4, full of what does not compress, with a template in one file.",
        options.work.image_bytes >> 20
    );
    Ok(table(&meaning, &["okapi"], lines.into_iter())
        .into_iter()
        .collect())
}

/// A filesystem of that length, with a file to burn and one that fills it.
fn make_base(shop: &Tmpfs, len_bytes: usize) {
    let (tree, disk) = (shop.path().join("tree"), shop.path().join("base"));
    fs::create_dir_all(tree.join("etc")).expect("a tmpfs takes directories");
    fs::write(tree.join("etc/net"), [b'\n'; 4096]).expect("a tmpfs takes a file");
    fs::write(shop.path().join("net.tmpl"), TEMPLATE).expect("a tmpfs takes a file");
    let large = File::create(tree.join("large")).expect("a tmpfs takes a file");
    let filling = len_bytes.saturating_sub(OWN_BYTES) >> 20 << 20;
    Stream::new(5).write(&large, filling).expect("the file fits");
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args([
        "-q",
        "-F",
        "-t",
        "ext4",
        "-O",
        "^has_journal",
        "-m",
        "0",
        "-b",
        "4096",
        "-d",
    ]);
    run(mke2fs.arg(&tree).arg(&disk).arg(format!("{}K", len_bytes >> 10)));
    fs::remove_dir_all(tree).expect("what was made can be removed");
}

fn measure(options: &Options, shop: &Tmpfs) -> Round {
    let drive = options.drive("1G");
    let images = drive.path().join("images");
    fs::create_dir(&images).expect("a drive takes a directory");
    let mut copy = Command::new("cp");
    run(copy
        .arg("--sparse=always")
        .arg(shop.path().join("base"))
        .arg(images.join("base")));
    let before = Memory::at_rest(&drive);
    let mut clone = clone(&drive, shop, options.work.clones);
    let mut reply = Value::Null;
    let took = time(|| {
        let output = run(&mut clone);
        reply = serde_json::from_slice(&output.stdout).expect("the command prints JSON");
    });
    assert_eq!(
        reply["made"].as_u64(),
        Some(options.work.clones as u64),
        "all were made"
    );
    let again = time(|| {
        run(&mut clone);
    });
    let after = Memory::at_rest(&drive);
    let elapsed_us = reply["elapsed_us"].as_f64().expect("the daemon tells its time");
    Round {
        daemon_ms: elapsed_us / 1e3,
        command_ms: took.as_secs_f64() * 1e3,
        again_ms: again.as_secs_f64() * 1e3,
        fleet: after.since(&before),
        pss: after.pss,
    }
}

fn clone(drive: &Drive, shop: &Tmpfs, members: usize) -> Command {
    let mut template = std::ffi::OsString::from("etc/net=");
    template.push(shop.path().join("net.tmpl"));
    let range = format!(".0.1-.{}.{}", members >> 8, members & 0xFF);
    let mut command = Command::new(binary());
    command
        .args([
            "image",
            "clone",
            "base",
            "--json",
            "--subnet",
            "10.0.0.0/16",
            "--range",
            &range,
        ])
        .args([
            "--gateway",
            "10.0.255.254",
            "--dns",
            "1.1.1.1,8.8.8.8",
            "--host",
            "vm-{n}",
        ])
        .arg("--template")
        .arg(template)
        .arg("--mount")
        .arg(drive.path());
    command
}
