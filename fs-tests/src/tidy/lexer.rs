//! Just enough of Rust's lexical rules to tell code from comments and literals.

/// Replaces comments and the insides of string and character literals by spaces.
pub(super) fn blank_comments_and_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let len = blank_len(bytes, at);
        if len == 0 {
            code.push(bytes[at]);
            at += 1;
            continue;
        }
        let end = (at + len).min(bytes.len());
        code.extend(
            bytes[at..end]
                .iter()
                .map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }),
        );
        at = end;
    }
    String::from_utf8_lossy(&code).into_owned()
}

/// Length of the comment or literal at `at`; 0 where there is none.
fn blank_len(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let inside_word = at > 0 && is_word(bytes[at - 1]);
    match rest {
        [b'/', b'/', ..] => rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => find(rest, b"*/").map_or(rest.len(), |end| end + 2),
        [b'"', ..] => quoted_len(rest, b'"'),
        [b'r', b'"' | b'#', ..] if !inside_word => raw_len(rest, 1),
        [b'b', b'r', b'"' | b'#', ..] if !inside_word => raw_len(rest, 2),
        [b'\'', b'\\', ..] => quoted_len(rest, b'\''),
        [b'\'', _, b'\'', ..] => 3,
        _ => 0,
    }
}

fn quoted_len(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// Length of a raw string whose marks begin behind `prefix` letters; 0 where it is none (`r#type`).
fn raw_len(rest: &[u8], prefix: usize) -> usize {
    let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
    let start = prefix + hashes;
    if rest.get(start) != Some(&b'"') {
        return 0;
    }
    let end = [&b"\""[..], &vec![b'#'; hashes]].concat();
    find(&rest[start + 1..], &end).map_or(rest.len(), |at| start + 1 + at + end.len())
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Whether a byte can be a part of an identifier.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where `word` stands alone in `text`, as offsets.
pub(super) fn words<'t>(text: &'t str, word: &'t str) -> impl Iterator<Item = usize> + 't {
    let bytes = text.as_bytes();
    text.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = at.checked_sub(1).is_none_or(|before| !is_word(bytes[before]));
        before && bytes.get(at + word.len()).is_none_or(|after| !is_word(*after))
    })
}

/// Number of the line that an offset lies in, from 1.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    1 + text[..offset].bytes().filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_become_blank_and_code_stays() {
        let text = "a // b\nc /* d */ e \"f \\\" g\" r#\"h \" i\"# 'j' '\\'' &'life k b\"l\"";
        let code = blank_comments_and_literals(text);
        let left: Vec<_> = code.split_whitespace().collect();
        assert_eq!(left, ["a", "c", "e", "&'life", "k", "b"]);
        assert_eq!(code.len(), text.len());
    }

    #[test]
    fn a_word_is_found_only_alone() {
        assert_eq!(words("unsafe_code unsafe {", "unsafe").collect::<Vec<_>>(), [12]);
    }
}
