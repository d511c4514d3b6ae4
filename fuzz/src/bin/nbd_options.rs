//! Options of an NBD client: the input is a header and its data.

#![no_main]

use libfuzzer_sys::fuzz_target;
use okapi::limits::NBD_STRING_MAX;
use okapi::serve::nbd::parse::{ClientOption, ContextQuery, OptionHeader};
use okapi_fuzz::{nbd, seeds};

fuzz_target!(
    init: seeds(nbd::options),
    |bytes: &[u8]| {
        let Some((header, data)) = bytes.split_first_chunk() else {
            return;
        };
        let Ok(header) = OptionHeader::parse(header) else {
            return;
        };
        match ClientOption::parse(header.code, data) {
            Ok(ClientOption::ExportName(name) | ClientOption::Info(name) | ClientOption::Go(name)) => {
                is_string_of(name, data);
            }
            Ok(ClientOption::ListMetaContext(query) | ClientOption::SetMetaContext(query)) => {
                understood(&query, data);
            }
            Ok(ClientOption::List | ClientOption::StructuredReply) => {
                assert!(data.is_empty(), "they have no data");
            }
            Ok(ClientOption::Abort | ClientOption::Unknown) | Err(_) => {}
        }
    }
);

fn understood(query: &ContextQuery<'_>, data: &[u8]) {
    let strings = || query.queries.iter().chain([&query.export]);
    strings().for_each(|string| is_string_of(string, data));
    let len: usize = strings().map(|string| 4 + string.len()).sum();
    assert_eq!(
        len + 4,
        data.len(),
        "each byte belongs to a string, a length or the count"
    );
    let (listed, chosen) = (query.listed(), query.chosen());
    assert!(listed.allocation || !chosen.allocation);
    assert!(listed.difference || !chosen.difference);
}

fn is_string_of(string: &[u8], data: &[u8]) {
    let inside = data.as_ptr_range();
    let ends = string.as_ptr_range();
    assert!(
        inside.start <= ends.start && ends.end <= inside.end,
        "a string lies in the data"
    );
    assert!(string.len() <= NBD_STRING_MAX);
}
