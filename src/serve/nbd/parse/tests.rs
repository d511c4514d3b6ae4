//! Tests of the parsers with what clients send, with less, with more, and with anything.

use super::super::protocol::{Code, command_flag, option};
use super::*;

const TERMS: Terms = Terms {
    size: 1 << 20,
    read_only: false,
    structured: true,
    contexts: Contexts {
        allocation: true,
        difference: false,
    },
};

fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes()[..], text].concat()
}

fn request(command: u16, flags: u16, offset: u64, len: u32) -> Request {
    let bytes = [
        &REQUEST_MAGIC.to_be_bytes()[..],
        &flags.to_be_bytes(),
        &command.to_be_bytes(),
        &7u64.to_be_bytes(),
        &offset.to_be_bytes(),
        &len.to_be_bytes(),
    ]
    .concat();
    Request::parse(&bytes.try_into().expect("28 bytes")).expect("the magic number is right")
}

#[test]
fn options_are_understood_whole_and_refused_in_part() {
    let go = [string(b"disk"), vec![0, 2, 0, 3, 0, 1]].concat();
    let contexts = [
        string(b"disk"),
        vec![0, 0, 0, 2],
        string(b"x:"),
        string(ALLOCATION),
    ]
    .concat();
    let query = ContextQuery {
        export: b"disk",
        queries: vec![b"x:", ALLOCATION],
    };
    for (code, data, option) in [
        (option::GO, &go, ClientOption::Go(b"disk")),
        (option::INFO, &go, ClientOption::Info(b"disk")),
        (
            option::LIST_META_CONTEXT,
            &contexts,
            ClientOption::ListMetaContext(query.clone()),
        ),
        (
            option::SET_META_CONTEXT,
            &contexts,
            ClientOption::SetMetaContext(query),
        ),
    ] {
        assert_eq!(ClientOption::parse(code, data), Ok(option));
        for len in 0..data.len() {
            assert_eq!(
                ClientOption::parse(code, &data[..len]),
                Err(Malformed),
                "{len} bytes"
            );
        }
        let overlong = [&data[..], &[0]].concat();
        assert_eq!(ClientOption::parse(code, &overlong), Err(Malformed));
    }
    assert_eq!(ClientOption::parse(option::LIST, b""), Ok(ClientOption::List));
    assert_eq!(ClientOption::parse(option::LIST, b"x"), Err(Malformed));
    assert_eq!(ClientOption::parse(option::ABORT, b"x"), Ok(ClientOption::Abort));
    assert_eq!(ClientOption::parse(4, b"x"), Ok(ClientOption::Unknown));
    let name = ClientOption::parse(option::EXPORT_NAME, b"disk");
    assert_eq!(name, Ok(ClientOption::ExportName(b"disk")));
}

#[test]
fn lengths_that_promise_more_than_there_is_are_refused() {
    let huge = u32::MAX.to_be_bytes();
    for data in [
        huge.to_vec(),
        [&huge[..], b"disk"].concat(),
        [string(b"disk"), huge.to_vec()].concat(),
        [string(b"disk"), vec![0, 0, 0, 1], huge.to_vec()].concat(),
        [string(b"disk"), vec![0xff, 0xff]].concat(),
    ] {
        for code in [option::GO, option::LIST_META_CONTEXT, option::SET_META_CONTEXT] {
            assert_eq!(ClientOption::parse(code, &data), Err(Malformed), "{data:?}");
        }
    }
    let long = vec![b'x'; NBD_STRING_MAX + 1];
    assert_eq!(ClientOption::parse(option::EXPORT_NAME, &long), Err(Malformed));
    let go = [string(&long), vec![0, 0]].concat();
    assert_eq!(ClientOption::parse(option::GO, &go), Err(Malformed));
}

#[test]
fn headers_without_their_magic_numbers_are_refused() {
    let mut option = *b"IHAVEOPT\0\0\0\x03\0\0\0\x05";
    let header = OptionHeader { code: 3, len: 5 };
    assert_eq!(OptionHeader::parse(&option), Ok(header));
    option[7] ^= 1;
    assert_eq!(OptionHeader::parse(&option), Err(Malformed));
    assert_eq!(Request::parse(&[0; Request::LEN]), Err(Malformed));
}

#[test]
fn anything_is_understood_or_refused() {
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    for round in 0..20_000u32 {
        let len = usize::from(random()) % 64;
        // Small numbers are likelier to be lengths that fit.
        let data: Vec<u8> = (0..len)
            .map(|_| random() % if round % 2 == 0 { 4 } else { 255 })
            .collect();
        for code in 0..12 {
            let _ = ClientOption::parse(code, &data);
        }
        let mut bytes = [0; Request::LEN];
        bytes.fill_with(&mut random);
        bytes[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
        bytes[6] = 0;
        bytes[7] %= 9;
        let parsed = Request::parse(&bytes).expect("the magic number is right");
        if parsed.permit(&TERMS).is_ok()
            && parsed.command != Command::Disconnect
            && parsed.command != Command::Flush
        {
            assert!(parsed.offset + u64::from(parsed.len) <= TERMS.size, "{parsed:?}");
        }
    }
}

#[test]
fn requests_outside_the_image_get_the_command_s_own_error() {
    let size = TERMS.size;
    for (command, error) in [
        (0, Code::Invalid),
        (1, Code::NoSpace),
        (4, Code::Invalid),
        (6, Code::NoSpace),
        (7, Code::Invalid),
    ] {
        assert_eq!(request(command, 0, size - 1, 1).permit(&TERMS), Ok(()));
        assert_eq!(request(command, 0, size - 1, 2).permit(&TERMS), Err(error));
        assert_eq!(request(command, 0, u64::MAX, u32::MAX).permit(&TERMS), Err(error));
    }
}

#[test]
fn what_was_not_agreed_is_refused() {
    let read_only = Terms {
        read_only: true,
        ..TERMS
    };
    for command in [1, 4, 6] {
        assert_eq!(
            request(command, 0, 0, 1).permit(&read_only),
            Err(Code::NotPermitted)
        );
    }
    assert_eq!(request(0, 0, 0, 1).permit(&read_only), Ok(()));
    let simple = Terms {
        structured: false,
        contexts: Contexts::default(),
        ..TERMS
    };
    assert_eq!(request(0, command_flag::DF, 0, 1).permit(&TERMS), Ok(()));
    assert_eq!(
        request(0, command_flag::DF, 0, 1).permit(&simple),
        Err(Code::Invalid)
    );
    assert_eq!(request(7, 0, 0, 1).permit(&simple), Err(Code::Invalid));
    assert_eq!(request(7, 0, 0, 0).permit(&TERMS), Err(Code::Invalid));
}

#[test]
fn flags_go_with_their_commands() {
    let all = [
        command_flag::FUA,
        command_flag::NO_HOLE,
        command_flag::DF,
        command_flag::REQ_ONE,
        command_flag::FAST_ZERO,
        1 << 15,
    ];
    for (command, allowed) in [
        (0, 0b101),
        (1, 0b1),
        (3, 0b1),
        (4, 0b1),
        (6, 0b1_0011),
        (7, 0b1001),
    ] {
        for flag in all {
            let permitted = request(command, flag, 0, 1).permit(&TERMS).is_ok();
            assert_eq!(
                permitted,
                flag & allowed != 0,
                "command {command}, flag {flag:#b}"
            );
        }
    }
    for unknown in [5, 8, 999] {
        assert_eq!(request(unknown, 0, 0, 1).permit(&TERMS), Err(Code::Invalid));
    }
}

#[test]
fn contexts_are_listed_by_namespace_and_chosen_by_name() {
    let query = |queries: &[&'static [u8]]| ContextQuery {
        export: b"",
        queries: queries.to_vec(),
    };
    let (none, both) = (contexts(false, false), contexts(true, true));
    let (allocation, difference) = (contexts(true, false), contexts(false, true));
    for (queries, listed, chosen) in [
        (&[][..], both, none),
        (&[&b"base:"[..]], allocation, none),
        (&[b"okapi:"], difference, none),
        (&[ALLOCATION], allocation, allocation),
        (&[DIFFERENCE, b"x:", ALLOCATION], both, both),
        (&[b"okapi:", ALLOCATION], both, allocation),
        (&[b"qemu:", b"x-y:z"], none, none),
        (&[b"base:allocations", b"okapi:dif"], none, none),
    ] {
        let query = query(queries);
        assert_eq!((query.listed(), query.chosen()), (listed, chosen), "{queries:?}");
    }
    assert!(none.is_empty() && !difference.is_empty());
    let numbers: Vec<u32> = both.each().map(|(id, _)| id).collect();
    assert_eq!(numbers, [ALLOCATION_ID, DIFFERENCE_ID]);
}

fn contexts(allocation: bool, difference: bool) -> Contexts {
    Contexts {
        allocation,
        difference,
    }
}
