//! Requests of an NBD client: the input is what was agreed, and a request.

#![no_main]

use libfuzzer_sys::fuzz_target;
use okapi::limits::NBD_REQUEST_MAX;
use okapi::serve::nbd::parse::{Command, Contexts, Request, Terms};
use okapi_fuzz::{nbd, seeds};

fuzz_target!(
    init: seeds(|| {
        let requests = nbd::requests().into_iter();
        requests.map(|request| [&[0b110][..], &(1u64 << 20).to_be_bytes(), &request].concat()).collect()
    }),
    |bytes: &[u8]| {
        let Some(([bits, size @ ..], request)) = bytes.split_first_chunk::<9>() else {
            return;
        };
        let terms = Terms {
            size: u64::from_be_bytes(*size),
            read_only: bits & 1 != 0,
            structured: bits & 2 != 0,
            contexts: Contexts {
                allocation: bits & 4 != 0,
                difference: bits & 8 != 0,
            },
        };
        let Some(Ok(request)) = request.first_chunk().map(Request::parse) else {
            return;
        };
        if request.permit(&terms).is_ok() {
            permitted(&request, &terms);
        }
    }
);

/// What whoever serves a request relies on.
fn permitted(request: &Request, terms: &Terms) {
    let is_inside = request
        .offset
        .checked_add(request.len.into())
        .is_some_and(|end| end <= terms.size);
    match request.command {
        Command::Read => assert!(is_inside && request.len <= NBD_REQUEST_MAX),
        Command::Write | Command::Trim | Command::WriteZeroes => assert!(is_inside && !terms.read_only),
        Command::BlockStatus => assert!(is_inside && request.len > 0 && !terms.contexts.is_empty()),
        Command::Disconnect | Command::Flush => {}
        Command::Unknown => panic!("what is unknown is not permitted: {request:?}"),
    }
    assert!(request.command == Command::Write || request.payload_len() == 0);
}
