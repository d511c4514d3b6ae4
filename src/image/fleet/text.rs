//! Texts with placeholders for what is different in each member.

use crate::error::{Error, ErrorKind, Result};

/// What a placeholder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Ip,
    Prefix,
    Netmask,
    Gateway,
    Dns,
    Host,
    Mac,
    Number,
    MachineId,
}

/// Names of placeholders, as docs/images.md lists them.
const SLOTS: [(&str, Slot); 9] = [
    ("ip", Slot::Ip),
    ("prefix", Slot::Prefix),
    ("netmask", Slot::Netmask),
    ("gateway", Slot::Gateway),
    ("dns", Slot::Dns),
    ("host", Slot::Host),
    ("mac", Slot::Mac),
    ("n", Slot::Number),
    ("machine_id", Slot::MachineId),
];

/// A text with placeholders such as `{ip}`.
///
/// Only small letters and `_` in braces are a placeholder; any other brace stands for itself, and `{{` for `{`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// A literal text, and what follows it; the last one is followed by nothing.
    pieces: Vec<(String, Option<Slot>)>,
}

impl Text {
    /// Takes a text apart.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown placeholder.
    pub fn parse(text: &str) -> Result<Self> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            literal.push_str(before);
            if let Some(escaped) = behind.strip_prefix('{') {
                literal.push('{');
                rest = escaped;
            } else if let Some((name, after)) = placeholder(behind) {
                pieces.push((std::mem::take(&mut literal), Some(slot(name)?)));
                rest = after;
            } else {
                literal.push('{');
                rest = behind;
            }
        }
        literal.push_str(rest);
        pieces.push((literal, None));
        Ok(Self { pieces })
    }

    /// Whether it is the same for all members.
    pub fn is_plain(&self) -> bool {
        self.slots().next().is_none()
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.pieces.iter().filter_map(|(_, slot)| *slot)
    }

    /// The text with the placeholders filled in.
    pub(super) fn render(&self, value: impl Fn(Slot) -> String) -> String {
        let mut rendered = String::new();
        for (literal, slot) in &self.pieces {
            rendered.push_str(literal);
            rendered.extend(slot.map(&value));
        }
        rendered
    }
}

impl Slot {
    pub(super) fn name(self) -> &'static str {
        let found = SLOTS.iter().find(|(_, slot)| *slot == self);
        found.map_or("", |(name, _)| name)
    }
}

/// A name up to the closing brace, and what is behind it.
fn placeholder(behind: &str) -> Option<(&str, &str)> {
    let (name, after) = behind.split_once('}')?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_name.then_some((name, after))
}

fn slot(name: &str) -> Result<Slot> {
    let found = SLOTS.iter().find(|(known, _)| *known == name);
    found.map(|(_, slot)| *slot).ok_or_else(|| {
        let known: Vec<String> = SLOTS.iter().map(|(name, _)| format!("{{{name}}}")).collect();
        Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "{{{name}}} is no placeholder\nhint: there are {}; {{{{ stands for a brace",
                known.join(" ")
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> String {
        Text::parse(text)
            .expect(text)
            .render(|slot| slot.name().to_uppercase())
    }

    #[test]
    fn placeholders_are_filled_in() {
        assert_eq!(rendered("IP={ip}/{prefix}\n"), "IP=IP/PREFIX\n");
        assert_eq!(rendered("{netmask}{gateway}{dns}"), "NETMASKGATEWAYDNS");
        assert_eq!(rendered("{host} {mac} {n} {machine_id}"), "HOST MAC N MACHINE_ID");
        assert_eq!(rendered(""), "");
    }

    #[test]
    fn other_braces_stay() {
        for text in [
            "${HOME}",
            "{\"a\": {}}",
            "}{",
            "{",
            "{ip",
            "{ ip }",
            "awk '{print $1}'",
            "{ip6}",
        ] {
            assert_eq!(rendered(text), text);
        }
        assert_eq!(rendered("{{ip}} {{{ip}"), "{ip}} {IP");
    }

    #[test]
    fn an_unknown_placeholder_is_refused() {
        let error = Text::parse("a {adress} b").expect_err("there is none");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        let text = error.to_string();
        assert!(
            text.starts_with("{adress} is") && text.contains("{machine_id}"),
            "{text}"
        );
    }
}
