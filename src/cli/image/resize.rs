//! `okapi image resize`.

use crate::cli::outcome::{Outcome, print};
use crate::cli::size::{human, parse_bytes};
use crate::serve::control::{Client, SizeRequest};

/// A size, or a change of one by `+SIZE` or `-SIZE`.
pub(super) fn parse(text: &str) -> Result<SizeRequest, String> {
    if let Some(more) = text.strip_prefix('+') {
        return parse_bytes(more).map(SizeRequest::Grow);
    }
    match text.strip_prefix('-') {
        Some(fewer) => parse_bytes(fewer).map(SizeRequest::Shrink),
        None => parse_bytes(text).map(SizeRequest::To),
    }
}

pub(super) fn run(client: &mut Client, name: &str, size: SizeRequest, shrink: bool) -> Outcome {
    let resized = client.resize_image(name, size, shrink)?;
    print(format!(
        "{name}: {} before, {} now\n",
        human(resized.from_bytes),
        human(resized.to_bytes)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_makes_a_size_a_change() {
        assert_eq!(parse("20G"), Ok(SizeRequest::To(20 << 30)));
        assert_eq!(parse("+512"), Ok(SizeRequest::Grow(512)));
        assert_eq!(parse("-1MiB"), Ok(SizeRequest::Shrink(1 << 20)));
        for wrong in ["", "+", "-", "+-1", "--1", "1X", "+ 1"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
