//! Random reads of 4 KiB from an image: over vhost-user and over NBD, one and 16 at a time, in turns.
//!
//! `cargo run --release --package fs-tests --example disk_speed [ROUNDS]`, as root. The clients are those of the tests,
//! so that a guest's own time is not in the figures; what counts is the ratio within a round.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::Instant;

use fs_tests::export::Export;
use fs_tests::harness::{Drive, Place};
use fs_tests::nbd::{Client, command};
use fs_tests::rng::Rng;
use fs_tests::virtio::Machine;

const SIZE: u64 = 256 << 20;
const READS: usize = 20_000;
const DEPTHS: [usize; 2] = [1, 16];

fn main() {
    let rounds = std::env::args().nth(1).map_or(5, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{text} is no number of rounds"))
    });
    let drive = Drive::mount(&["--size", "1G"]);
    fill(&drive);
    let (nbd, vhost) = (
        Export::start(&drive),
        Export::vhost(&drive, "disk", &["--queues", "1"]),
    );
    let (mut client, _) = Client::open(&nbd.socket(), "disk");
    let mut machine = Machine::connect(&vhost.socket(), 1);
    let mut rng = Rng::new(1);
    for depth in DEPTHS {
        let mut ratios = Vec::new();
        for round in 0..rounds {
            let pages: Vec<_> = (0..READS).map(|_| rng.below(SIZE / 4096)).collect();
            let nbd = per_second(|| read_over_nbd(&mut client, &pages, depth));
            let vhost = per_second(|| machine.read_pages(0, &pages, depth, |_, _| {}));
            println!(
                "depth {depth}, round {round}: NBD {nbd:.0}/s, vhost-user {vhost:.0}/s, {:.2}x",
                vhost / nbd
            );
            ratios.push(vhost / nbd);
        }
        ratios.sort_by(f64::total_cmp);
        println!(
            "depth {depth}: vhost-user over NBD, median: {:.2}x",
            ratios[ratios.len() / 2]
        );
    }
}

/// Bytes that are the same nowhere, so that each page has memory of its own.
fn fill(drive: &Drive) {
    let images = drive.path().join("images");
    fs::create_dir(&images).expect("the drive is empty");
    let file = File::create(images.join("disk")).expect("the drive takes files");
    let mut rng = Rng::new(2);
    for offset in (0..SIZE).step_by(1 << 20) {
        let bytes: Vec<u8> = (0..1 << 17).flat_map(|_| rng.bits().to_ne_bytes()).collect();
        file.write_all_at(&bytes, offset).expect("the drive has room");
    }
}

fn per_second(read: impl FnOnce()) -> f64 {
    let start = Instant::now();
    read();
    READS as f64 / start.elapsed().as_secs_f64()
}

fn read_over_nbd(client: &mut Client, pages: &[u64], depth: usize) {
    let mut cookies = Vec::with_capacity(pages.len());
    for (number, page) in pages.iter().enumerate() {
        let request = client.request((command::READ, 0), (page * 4096, 4096), b"");
        cookies.push(request.expect("the server reads"));
        if number + 1 >= depth {
            receive(client, cookies[number + 1 - depth]);
        }
    }
    for cookie in &cookies[pages.len() + 1 - depth..] {
        receive(client, *cookie);
    }
}

fn receive(client: &mut Client, cookie: u64) {
    client.reply(cookie, 4096).expect("the server answers");
}
