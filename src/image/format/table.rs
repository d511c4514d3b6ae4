//! Tables of 64-bit entries in a container, held by pieces.

use super::fields::damaged;
use super::source::Source;
use crate::error::Result;

/// Entries of a table that are in memory at a time.
pub(super) const TABLE_PIECE: u64 = 4096;

/// A table's place in its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TableAt {
    /// What it is called in messages.
    pub(super) name: &'static str,
    /// Its first byte.
    pub(super) offset: u64,
    /// Entries in it.
    pub(super) len: u64,
}

impl TableAt {
    /// Where the piece with an entry ends: what is asked for below that needs no more reading.
    pub(super) fn piece_end(&self, index: u64) -> u64 {
        let start = index - index % TABLE_PIECE;
        start.saturating_add(TABLE_PIECE).min(self.len)
    }
}

/// The piece of a table that was used last; the table may be another one each time.
#[derive(Debug, Default)]
pub(super) struct TablePiece {
    at: Option<(TableAt, u64)>,
    bytes: Vec<u8>,
}

impl TablePiece {
    /// The bytes of an entry.
    pub(super) fn entry(&mut self, source: &dyn Source, table: TableAt, index: u64) -> Result<[u8; 8]> {
        assert!(index < table.len, "an index lies in its table");
        let start = index - index % TABLE_PIECE;
        if self.at != Some((table, start)) {
            self.load(source, table, start)?;
        }
        let at = (index - start) as usize * 8;
        Ok(super::fields::field(&self.bytes, at))
    }

    fn load(&mut self, source: &dyn Source, table: TableAt, start: u64) -> Result<()> {
        self.at = None;
        let len = table.piece_end(start) - start;
        let place = table.offset.checked_add(start * 8);
        let place = place.filter(|place| place.checked_add(len * 8).is_some_and(|end| end <= source.size()));
        let Some(place) = place else {
            let TableAt { name, offset, .. } = table;
            return Err(damaged(format!(
                "the {name} at {offset} lies behind the end of the file"
            )));
        };
        self.bytes.resize(len as usize * 8, 0);
        source.read(place, &mut self.bytes)?;
        self.at = Some((table, start));
        Ok(())
    }
}
