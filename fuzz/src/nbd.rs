//! What NBD clients say, for fuzzing to begin with.

use okapi::serve::nbd::protocol::{
    ALLOCATION, DIFFERENCE, OPTION_MAGIC, REQUEST_MAGIC, command_flag, option,
};

/// An option each, of all kinds.
pub fn options() -> Vec<Vec<u8>> {
    let contexts = contexts(&[ALLOCATION, b"base:", DIFFERENCE]);
    [
        (option::EXPORT_NAME, b"disk".to_vec()),
        (option::ABORT, Vec::new()),
        (option::LIST, Vec::new()),
        (option::INFO, query()),
        (option::GO, query()),
        (option::STRUCTURED_REPLY, Vec::new()),
        (option::LIST_META_CONTEXT, contexts.clone()),
        (option::SET_META_CONTEXT, contexts),
    ]
    .map(|(code, data)| client_option(code, &data))
    .into()
}

/// A request each, of all kinds, with its payload.
pub fn requests() -> Vec<Vec<u8>> {
    let commands = [
        (0, command_flag::DF, 0, 4096),
        (0, 0, 60_000, 150_000),
        (1, command_flag::FUA, 65_000, 2000),
        (2, 0, 0, 0),
        (3, 0, 0, 0),
        (4, 0, 4000, 100_000),
        (6, command_flag::NO_HOLE, 0, 10_000),
        (6, command_flag::FAST_ZERO, 100_000, 1),
        (7, command_flag::REQ_ONE, 0, 300_000),
        (7, 0, 0, 300_000),
    ];
    commands
        .map(|(command, flags, offset, len)| request((command, flags), (offset, len)))
        .into()
}

/// Connections that end well: with structured replies and without, and one that only asks.
pub fn connections() -> Vec<Vec<u8>> {
    let go = client_option(option::GO, &query());
    let structured = client_option(option::STRUCTURED_REPLY, b"");
    let contexts = client_option(option::SET_META_CONTEXT, &contexts(&[ALLOCATION]));
    let name = client_option(option::EXPORT_NAME, b"disk");
    let (greeting, requests) = (3u32.to_be_bytes().to_vec(), requests());
    // The one that ends the connection comes last.
    let (ends, work): (Vec<_>, Vec<_>) = requests.into_iter().partition(|request| request[7] == 2);
    let work = [work.concat(), ends.concat()].concat();
    vec![
        [&greeting[..], &structured, &contexts, &go, &work].concat(),
        [&greeting[..], &name, &work].concat(),
        [greeting, options()[1..].concat()].concat(),
    ]
}

fn client_option(code: u32, data: &[u8]) -> Vec<u8> {
    let len = data.len() as u32;
    [&OPTION_MAGIC[..], &code.to_be_bytes(), &len.to_be_bytes(), data].concat()
}

/// The data of INFO and GO.
fn query() -> Vec<u8> {
    [&string(b"disk")[..], &[0, 1, 0, 3]].concat()
}

fn contexts(queries: &[&[u8]]) -> Vec<u8> {
    let count = (queries.len() as u32).to_be_bytes();
    let queries = queries.iter().flat_map(|query| string(query)).collect();
    [string(b"disk"), count.to_vec(), queries].concat()
}

fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes(), text].concat()
}

fn request((command, flags): (u16, u16), (offset, len): (u64, u32)) -> Vec<u8> {
    let payload = vec![9; if command == 1 { len as usize } else { 0 }];
    [
        &REQUEST_MAGIC.to_be_bytes()[..],
        &flags.to_be_bytes(),
        &command.to_be_bytes(),
        b"a cookie",
        &offset.to_be_bytes(),
        &len.to_be_bytes(),
        &payload,
    ]
    .concat()
}
