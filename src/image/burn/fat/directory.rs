//! Entries of directories: names of eight and three bytes, and long ones in front of them.

use super::boot::Width;
use super::long_name::{ATTRIBUTES, UNITS_AT, checksum};
use super::volume::Fat;
use crate::error::Result;
use crate::image::burn::disk::{le16, le32};
use crate::image::burn::place::Place;

const ENTRY_LEN: usize = 32;
/// Bytes of a directory: 65,536 entries.
pub(super) const DIRECTORY_MAX: u64 = 2 << 20;
const DIRECTORY: u8 = 0x10;
const LABEL: u8 = 0x08;
/// Parts of a long name, of 13 units each.
const PARTS_MAX: u8 = 20;

/// A file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) is_directory: bool,
    pub(super) cluster: u32,
    pub(super) size: u64,
}

/// A long name while its parts come, the last one first.
#[derive(Default)]
struct LongName {
    units: Vec<u16>,
    /// The part that has to come next; 0 when the name is whole.
    part: u8,
    checksum: u8,
}

impl Fat<'_> {
    /// The entry of that name; upper and lower case are the same.
    pub(super) fn entry(&self, directory: &[Place], name: &str) -> Result<Option<Entry>> {
        let wanted = folded(name);
        let mut long = LongName::default();
        for raw in self.entries(directory)?.chunks_exact(ENTRY_LEN) {
            match raw[0] {
                0 => return Ok(None),
                0xE5 => long = LongName::default(),
                _ if raw[11] & 0x3F == ATTRIBUTES => long.add(raw),
                _ if raw[11] & LABEL != 0 => long = LongName::default(),
                _ => {
                    let whole = std::mem::take(&mut long).text(raw);
                    if whole.as_deref() == Some(&wanted) || short_name(raw) == wanted {
                        return Ok(Some(self.found(raw)));
                    }
                }
            }
        }
        Ok(None)
    }

    fn entries(&self, directory: &[Place]) -> Result<Vec<u8>> {
        let mut entries = Vec::new();
        for place in directory {
            let at = entries.len();
            entries.resize(at + place.len as usize, 0);
            self.part.read(place.offset, &mut entries[at..])?;
        }
        Ok(entries)
    }

    fn found(&self, raw: &[u8]) -> Entry {
        // Elsewhere old programs keep other things in the place of the upper half.
        let high = match self.boot.width {
            Width::Bits32 => le16(raw, 20),
            Width::Bits12 | Width::Bits16 => 0,
        };
        Entry {
            is_directory: raw[11] & DIRECTORY != 0,
            cluster: u32::from(high) << 16 | u32::from(le16(raw, 26)),
            size: le32(raw, 28).into(),
        }
    }
}

impl LongName {
    /// Takes a part; one out of order makes the name void.
    fn add(&mut self, raw: &[u8]) {
        let (part, is_last) = (raw[0] & 0x3F, raw[0] & 0x40 != 0);
        if is_last && (1..=PARTS_MAX).contains(&part) {
            *self = Self {
                units: vec![0; usize::from(part) * UNITS_AT.len()],
                part,
                checksum: raw[13],
            };
        } else if part == 0 || part != self.part || raw[13] != self.checksum {
            *self = Self::default();
            return;
        }
        if self.part == 0 {
            return;
        }
        self.part -= 1;
        let at = usize::from(self.part) * UNITS_AT.len();
        for (unit, from) in self.units[at..].iter_mut().zip(UNITS_AT) {
            *unit = le16(raw, from);
        }
    }

    /// The name, folded, where it is whole and belongs to the short name behind it.
    fn text(self, raw: &[u8]) -> Option<String> {
        if self.units.is_empty() || self.part != 0 || self.checksum != checksum(&raw[..11]) {
            return None;
        }
        let units = self.units.into_iter().take_while(|unit| *unit != 0);
        let text: String = char::decode_utf16(units).collect::<Result<_, _>>().ok()?;
        Some(folded(&text))
    }
}

/// `NAME.EXT`, folded; bytes beyond ASCII depend on a code page that nobody tells, and match nothing.
fn short_name(raw: &[u8]) -> String {
    let part = |bytes: &[u8]| -> String {
        let text: String = bytes
            .iter()
            .map(|&byte| match byte.is_ascii() {
                true => char::from(byte),
                false => char::REPLACEMENT_CHARACTER,
            })
            .collect();
        text.trim_end_matches(' ').to_owned()
    };
    let (name, extension) = (part(&raw[..8]), part(&raw[8..11]));
    match extension.is_empty() {
        true => folded(&name),
        false => folded(&format!("{name}.{extension}")),
    }
}

fn folded(name: &str) -> String {
    name.to_lowercase()
}
