//! Tests of the framing and of what may be connected to.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use super::protocol::{Answer, BlockKey, GetWhat, PutHow, Request, receive, send};
use nix::unistd::geteuid;

use super::client::Client;
use super::socket::verify_directory;
use crate::error::ErrorKind;
use crate::limits::{CONTROL_HEADER_MAX, CONTROL_PAYLOAD_MAX};

fn round_trip(request: &Request, payload: &[u8]) -> (Request, Vec<u8>) {
    let mut bytes = Vec::new();
    send(&mut bytes, request, payload).expect("a vector takes every message");
    receive(&mut bytes.as_slice())
        .expect("the message is whole")
        .expect("the message is there")
}

#[test]
fn messages_arrive_as_they_were_sent() {
    let request = Request::Get {
        namespace: "grid".into(),
        index: (1 << 48) - 1,
        what: GetWhat::Slice { offset: 4096, len: 7 },
    };
    assert_eq!(round_trip(&request, b""), (request, Vec::new()));
    let request = Request::Put {
        namespace: "grid".into(),
        index: 0,
        how: PutHow::At(3),
    };
    assert_eq!(round_trip(&request, b"\0\xff"), (request, b"\0\xff".to_vec()));
}

#[test]
fn the_end_between_messages_is_no_error_and_within_one_it_is() {
    assert!(
        receive::<Request>(&mut [].as_slice())
            .expect("an end is fine")
            .is_none()
    );
    let mut bytes = Vec::new();
    send(&mut bytes, &Request::Stat, b"payload").expect("a vector takes every message");
    for cut in 1..bytes.len() {
        assert!(receive::<Request>(&mut &bytes[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn lengths_beyond_the_limits_are_refused_unread() {
    let header = u32::try_from(CONTROL_HEADER_MAX + 1).expect("the limit fits 32 bits");
    assert!(receive::<Request>(&mut header.to_le_bytes().as_slice()).is_err());

    let mut bytes = Vec::new();
    send(&mut bytes, &Request::Stat, b"").expect("a vector takes every message");
    let at = bytes.len() - 8;
    bytes[at..].copy_from_slice(&(CONTROL_PAYLOAD_MAX as u64 + 1).to_le_bytes());
    assert!(receive::<Request>(&mut bytes.as_slice()).is_err());
}

#[test]
fn a_header_that_is_no_message_is_refused() {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    bytes.extend_from_slice(b"[]");
    bytes.extend_from_slice(&0u64.to_le_bytes());
    assert!(receive::<Request>(&mut bytes.as_slice()).is_err());
}

#[test]
fn the_longest_list_of_keys_fits_in_a_header() {
    let key = BlockKey {
        index: (1 << 48) - 1,
        len: crate::limits::BLOCK_SIZE_MAX,
    };
    let answer = Answer::Keys(vec![key; crate::limits::CONTROL_KEYS_MAX]);
    send(&mut Vec::new(), &answer, b"").expect("the header is below its limit");
}

#[test]
fn a_client_hears_why_it_was_refused() {
    let (mut server, client) = UnixStream::pair().expect("a pair of sockets");
    let failed = Answer::Failed {
        kind: ErrorKind::Busy,
        message: "too many".into(),
    };
    send(&mut server, &failed, b"").expect("the buffer takes it");
    server.flush().expect("nothing is buffered");
    drop(server);
    let mut client = Client::new(client).expect("a fresh socket");
    let error = client.stat().expect_err("the server refused");
    assert_eq!(
        (error.kind(), error.to_string()),
        (ErrorKind::Busy, "too many".into())
    );
}

#[test]
fn a_directory_that_others_can_reach_is_refused() {
    let directory = std::env::temp_dir().join(format!("okapi-control-{}", std::process::id()));
    std::fs::create_dir(&directory).expect("a fresh name");
    let owner = geteuid().as_raw();
    let mut verdicts = Vec::new();
    for mode in [0o755, 0o700] {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&directory, permissions).expect("our own directory");
        verdicts.push(verify_directory(&directory, owner).is_ok());
    }
    verdicts.push(verify_directory(&directory, owner + 1).is_ok());
    std::fs::remove_dir(&directory).expect("our own directory");
    assert_eq!(verdicts, [false, true, false]);
}
