//! Reading: the blocks of a range are pinned under the owner's lock and copied out without it.

use super::content::Content;
use super::run::Extent;

/// Pinned bytes of a content, as they were when the plan was made: a writer that comes later copies what it changes.
#[must_use]
pub struct ReadPlan {
    /// Range in the file.
    start: u64,
    end: u64,
    pieces: Pieces,
}

/// The extents of a plan, ascending and cut to its range; most reads meet one or two and need no allocation.
enum Pieces {
    Few([Option<Extent>; 2]),
    Many(Vec<Extent>),
}

impl Content {
    /// Pins the bytes of `offset..offset+len`, cut at the end of the file, to be copied out without a lock on the
    /// content.
    pub fn plan(&self, offset: u64, len: usize) -> ReadPlan {
        let end = offset.saturating_add(len as u64).min(self.len);
        let start = offset.min(end);
        let mut extents = self
            .map
            .overlapping(start, end)
            .map(|extent| extent.part(extent.start.max(start), extent.end().min(end)));
        let few = [extents.next(), extents.next()];
        let pieces = match extents.next() {
            None => Pieces::Few(few),
            Some(third) => Pieces::Many(few.into_iter().flatten().chain([third]).chain(extents).collect()),
        };
        ReadPlan { start, end, pieces }
    }
}

impl ReadPlan {
    /// Number of bytes that the plan yields.
    pub fn len(&self) -> usize {
        usize::try_from(self.end - self.start)
            .expect("a plan is no longer than the length that was asked for")
    }

    /// Whether it yields none.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Copies the bytes to the front of `out`, which has room for them; returns how many they are.
    ///
    /// # Panics
    /// Where `out` is shorter than the plan.
    pub fn copy_to(&self, out: &mut [u8]) -> usize {
        let out = &mut out[..self.len()];
        let filled = match &self.pieces {
            Pieces::Few(pieces) => self.copy_pieces(pieces.iter().flatten(), out),
            Pieces::Many(pieces) => self.copy_pieces(pieces.iter(), out),
        };
        out[filled..].fill(0);
        out.len()
    }

    /// The pinned blocks.
    #[cfg(test)]
    pub(super) fn blocks(&self) -> impl Iterator<Item = &crate::grid::Block> {
        let pieces: Vec<&Extent> = match &self.pieces {
            Pieces::Few(pieces) => pieces.iter().flatten().collect(),
            Pieces::Many(pieces) => pieces.iter().collect(),
        };
        pieces.into_iter().map(|piece| &piece.block)
    }

    /// Copies pieces, and zeros for the holes before them; returns where the last one ends.
    fn copy_pieces<'a>(&self, pieces: impl Iterator<Item = &'a Extent>, out: &mut [u8]) -> usize {
        let mut filled = 0;
        for piece in pieces {
            let start = self.place(piece.start);
            out[filled..start].fill(0);
            filled = self.place(piece.end());
            piece.copy_to(&mut out[start..filled]);
        }
        filled
    }

    /// Where a byte of the file lies among the bytes of the plan.
    fn place(&self, at: u64) -> usize {
        usize::try_from(at - self.start).expect("a piece lies within its plan")
    }
}
