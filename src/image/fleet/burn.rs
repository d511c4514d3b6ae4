//! Texts at their places in the base: how they are padded, and which bytes of each member they change.

use serde::{Deserialize, Serialize};

use super::members::{Fleet, Member};
use super::text::Text;
use crate::error::{Error, ErrorKind, Result};
use crate::image::burn::Place;
use crate::image::manage::Patch;
use crate::limits::{BURN_ROOM_MAX, FLEET_BURNS_MAX, PAGE_SIZE};
use crate::range::ByteRange;

/// What fills the room behind a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Padding {
    /// Newlines.
    Newlines,
    /// Blanks.
    Blanks,
    /// Nothing: what the base has there stays.
    None,
}

/// A text with placeholders, and its places in the base.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Burn {
    /// What people call it: a path, a token, an offset.
    pub what: String,
    /// Where the room for it is, in order.
    pub places: Vec<Place>,
    /// The text.
    pub text: String,
    /// What fills the rest of the room.
    pub padding: Padding,
    /// Hash (blake3, hexadecimal) of the bytes that the base had in the room when it was looked for.
    pub present: String,
}

impl Burn {
    /// Bytes that there is room for.
    ///
    /// # Errors
    /// `TooLarge` for more than a burn may have.
    pub fn room(&self) -> Result<u64> {
        let sum = self
            .places
            .iter()
            .try_fold(0u64, |sum, place| sum.checked_add(place.len));
        match sum {
            Some(room) if room <= BURN_ROOM_MAX => Ok(room),
            _ => Err(Error::new(
                ErrorKind::TooLarge,
                format!("{}: at most {BURN_ROOM_MAX} bytes are burned", self.what),
            )),
        }
    }

    /// Sees to it that no two burns overlap, and that the text of each member fits.
    ///
    /// # Errors
    /// `InvalidArgument` for unknown placeholders and for burns that overlap, `TooLarge` for a text longer than its room.
    pub fn check_all(burns: &[Self], fleet: &Fleet, members: &[Member]) -> Result<()> {
        check_overlaps(burns)?;
        burns.iter().try_for_each(|burn| burn.check(fleet, members))
    }

    fn check(&self, fleet: &Fleet, members: &[Member]) -> Result<()> {
        let text = Text::parse(&self.text)?;
        fleet.check_text(&text)?;
        members
            .iter()
            .try_for_each(|member| self.check_len(member, fleet.render(&text, member).len()))
    }

    fn check_len(&self, member: &Member, len: usize) -> Result<()> {
        let room = self.room()?;
        if len as u64 <= room {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::TooLarge,
            format!(
                "the text for {} is longer than its room: {len} bytes for {}, and {} has room for {room}\n\
                 hint: make the room longer in the base, with newlines in a file or a longer token",
                member.name, member.ip, self.what
            ),
        ))
    }
}

/// A burn whose text was taken apart, with the base's bytes in its room.
pub(super) struct Prepared<'b> {
    burn: &'b Burn,
    text: Text,
    present: Vec<u8>,
}

/// Takes burns apart, and reads the base's bytes; `read` fills a buffer from an offset on.
///
/// # Errors
/// `InvalidArgument` for a text with unknown placeholders and for burns that overlap, `Busy` where the base has changed
/// since it was looked at.
pub(super) fn prepare<'b>(
    fleet: &Fleet,
    burns: &'b [Burn],
    read: &dyn Fn(u64, &mut [u8]) -> Result<()>,
) -> Result<Vec<Prepared<'b>>> {
    check_overlaps(burns)?;
    burns
        .iter()
        .map(|burn| {
            let text = Text::parse(&burn.text)?;
            fleet.check_text(&text)?;
            let mut present = vec![0; burn.room()? as usize];
            let mut rest = present.as_mut_slice();
            for place in &burn.places {
                let (bytes, behind) = rest.split_at_mut(place.len as usize);
                read(place.offset, bytes)?;
                rest = behind;
            }
            match blake3::hash(&present).to_hex().as_str() == burn.present {
                true => Ok(Prepared { burn, text, present }),
                false => Err(Error::new(
                    ErrorKind::Busy,
                    format!(
                        "the base has changed at {} while it was looked at\nhint: shut down what writes to it, and try again",
                        burn.what
                    ),
                )),
            }
        })
        .collect()
}

fn check_overlaps(burns: &[Burn]) -> Result<()> {
    if burns.len() > FLEET_BURNS_MAX {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("at most {FLEET_BURNS_MAX} texts are burned into a member"),
        ));
    }
    let places = burns
        .iter()
        .flat_map(|burn| burn.places.iter().map(|place| (place, burn.what.as_str())));
    let mut places: Vec<_> = places.collect();
    places.sort();
    for pair in places.windows(2) {
        let [(place, what), (next, other)] = pair else {
            continue;
        };
        if place.end().is_none_or(|end| end > next.offset) {
            let context =
                format!("{what} and {other} are at the same place in the base\nhint: burn only one of them");
            return Err(Error::new(ErrorKind::InvalidArgument, context));
        }
    }
    Ok(())
}

impl Prepared<'_> {
    /// What one member has in the room.
    ///
    /// # Errors
    /// `TooLarge` for a text that does not fit.
    fn bytes(&self, fleet: &Fleet, member: &Member) -> Result<Vec<u8>> {
        let mut bytes = fleet.render(&self.text, member).into_bytes();
        self.burn.check_len(member, bytes.len())?;
        match self.burn.padding {
            Padding::Newlines => bytes.resize(self.present.len(), b'\n'),
            Padding::Blanks => bytes.resize(self.present.len(), b' '),
            Padding::None => bytes.extend_from_slice(&self.present[bytes.len()..]),
        }
        Ok(bytes)
    }

    /// Adds to a hash what one member has, by which it is known again. The length of the room does not count.
    pub(super) fn hash(&self, fleet: &Fleet, member: &Member, hasher: &mut blake3::Hasher) {
        let text = fleet.render(&self.text, member);
        let offset = self.burn.places.first().map_or(0, |place| place.offset);
        for number in [offset, text.len() as u64] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(text.as_bytes());
    }

    /// Adds what one member has to have instead of the base's bytes: only pages in which something differs.
    pub(super) fn patches(&self, fleet: &Fleet, member: &Member, patches: &mut Vec<Patch>) -> Result<()> {
        let bytes = self.bytes(fleet, member)?;
        let mut done = 0;
        for place in &self.burn.places {
            // Their sum was bounded, and `read` has read them.
            let range = ByteRange::at(place.offset, place.len)?;
            for piece in range.pieces(PAGE_SIZE) {
                let end = done + piece.len() as usize;
                if bytes[done..end] != self.present[done..end] {
                    patches.push(Patch {
                        offset: piece.start,
                        bytes: bytes[done..end].to_vec(),
                    });
                }
                done = end;
            }
        }
        Ok(())
    }
}
