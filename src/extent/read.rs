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

    /// Appends the bytes to `out`.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        let base = out.len();
        out.reserve(self.len());
        match &self.pieces {
            Pieces::Few(pieces) => pieces
                .iter()
                .flatten()
                .for_each(|piece| self.append(piece, base, out)),
            Pieces::Many(pieces) => pieces.iter().for_each(|piece| self.append(piece, base, out)),
        }
        out.resize(base + self.len(), 0);
    }

    /// Appends a piece, and zeros for the hole before it, to a buffer in which the plan's bytes begin at `base`.
    fn append(&self, piece: &Extent, base: usize, out: &mut Vec<u8>) {
        let hole = usize::try_from(piece.start - self.start).expect("a piece lies within its plan");
        out.resize(base + hole, 0);
        piece.append_to(piece.start, piece.end(), out);
    }
}
