//! Clients that mean no good: they find bounds, and the others notice nothing.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use fs_tests::harness::pss_bytes;
use fs_tests::nbd::{Client, command, export_query, option, option_bytes};
use fs_tests::rng::{Rng, from_env_or_time, ops_from_env};

use okapi::limits::{NBD_CONNECTIONS_MAX, NBD_HANDSHAKE_SECS, NBD_HANDSHAKES_MAX};

use crate::support::{Export, drive_with, eventually, pattern};

#[test]
fn a_thousand_half_open_connections_leave_a_working_client_undisturbed() {
    let drive = drive_with(&[("disk", 1 << 20)]);
    let export = Export::start(&drive);
    let (mut client, _) = Client::open(&export.socket(), "disk");
    let began = Instant::now();
    // One that chooses an image by name, cut in the middle of the name.
    let choice = [
        &3u32.to_be_bytes()[..],
        &option_bytes(option::GO, &export_query("disk")),
    ]
    .concat();
    let mut half_open = Vec::new();
    for n in 0..1000u32 {
        let mut stream = UnixStream::connect(export.socket()).unwrap();
        if n % 2 == 0 {
            // It may have been sent away already.
            let _ = stream.write_all(&choice[..choice.len() - 7]);
        }
        half_open.push(stream);
        if n % 10 == 0 {
            let bytes = pattern(n as u8, 4096);
            client.write(u64::from(n % 250) * 4096, &bytes).unwrap();
            assert_eq!(client.read(u64::from(n % 250) * 4096, 4096).unwrap(), bytes);
        }
    }
    // Those that mean to work get in between.
    let (mut other, _) = Client::open(&export.socket(), "disk");
    other.write(0, &pattern(9, 4096)).unwrap();
    assert_eq!(client.read(0, 4096).unwrap(), pattern(9, 4096));
    let connected = || count_threads(drive.pid(), "nbd-peer");
    let is_quick = began.elapsed().as_secs() < NBD_HANDSHAKE_SECS / 2;
    eventually("all but the youngest were sent away", || {
        connected() <= NBD_HANDSHAKES_MAX + 2
    });
    let in_time = began.elapsed().as_secs() < NBD_HANDSHAKE_SECS;
    assert!(in_time || !is_quick, "they made way, not their time ran out");
    drop(half_open);
    eventually("the rest have gone", || connected() == 2);
}

#[test]
fn more_clients_than_there_are_places_for_are_refused_and_those_served_go_on() {
    let drive = drive_with(&[("disk", 1 << 20)]);
    let export = Export::start(&drive);
    let connect = || -> std::io::Result<Client> {
        let mut client = Client::connect(&export.socket())?;
        client.export_name("disk")?;
        Ok(client)
    };
    let mut clients: Vec<_> = (0..NBD_CONNECTIONS_MAX).map(|_| connect().unwrap()).collect();
    // The last may not be through its handshake yet, and make way for another.
    clients
        .iter_mut()
        .for_each(|client| client.write(0, b"x").unwrap());
    connect().err().expect("there is no place");
    for client in &mut clients {
        assert_eq!(client.read(0, 2).unwrap(), b"x\0");
    }
    clients.pop();
    eventually("the place is free", || connect().is_ok());
}

#[test]
fn a_client_that_says_nothing_is_sent_away_after_a_while() {
    let drive = drive_with(&[("disk", 4096)]);
    let export = Export::start(&drive);
    let mut silent = Client::connect(&export.socket()).unwrap();
    let mut slow = Client::connect(&export.socket()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || assert!(silent.is_closed()));
        // Each byte arrives in time, the handshake as a whole does not.
        scope.spawn(move || {
            let refused = (0..200).any(|_| {
                std::thread::sleep(Duration::from_millis(500));
                slow.send(b"I").is_err()
            });
            assert!(refused, "bytes that trickle in buy no time");
        });
    });
}

#[test]
fn a_connection_s_memory_does_not_grow_with_its_requests() {
    let drive = drive_with(&[("disk", 64 << 20)]);
    let export = Export::start(&drive);
    let mut clients: Vec<_> = (0..16)
        .map(|_| {
            let mut client = Client::connect(&export.socket()).unwrap();
            client.go("disk").unwrap();
            client
        })
        .collect();
    let before = pss_bytes(drive.pid());
    for client in &mut clients {
        assert_eq!(client.read(0, 32 << 20).unwrap().len(), 32 << 20);
    }
    let grown = pss_bytes(drive.pid()).saturating_sub(before) / clients.len() as u64;
    println!("{grown} bytes for each connection");
    assert!(grown < 1 << 20, "{grown} bytes for each connection");
}

#[test]
fn random_bytes_end_connections_and_nothing_else() {
    let mut rng = Rng::new(from_env_or_time("nbd garbage"));
    let drive = drive_with(&[("disk", 1 << 20)]);
    let export = Export::start(&drive);
    let (mut witness, _) = Client::open(&export.socket(), "disk");
    for round in 0..ops_from_env(200) {
        let mut client = match round % 2 {
            0 => Client::connect(&export.socket()).unwrap(),
            _ => Client::open(&export.socket(), "disk").0,
        };
        let len = 1 + rng.index(5000);
        let mut bytes: Vec<u8> = (0..len).map(|_| rng.bits() as u8).collect();
        if rng.percent(50) {
            // Far enough to get past the first look; reads only, so that the image stays as it is.
            let magic: &[u8] = if round % 2 == 0 {
                b"IHAVEOPT\0\0\0\x07\0\0\x01\0"
            } else {
                b"\x25\x60\x95\x13\0\0\0\0"
            };
            let at = magic.len().min(bytes.len());
            bytes[..at].copy_from_slice(&magic[..at]);
        }
        // The server may hang up before all is sent.
        let _ = client.send(&bytes);
    }
    witness.perform((command::FLUSH, 0), (0, 0), b"").unwrap();
    assert!(witness.read(0, 1 << 20).unwrap().iter().all(|&byte| byte == 0));
}

fn count_threads(pid: u32, name: &str) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks
        .filter(|task| {
            let path = task.as_ref().unwrap().path().join("comm");
            std::fs::read_to_string(path).is_ok_and(|comm| comm.trim_end() == name)
        })
        .count()
}
