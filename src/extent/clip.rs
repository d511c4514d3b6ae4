//! Copying between contents: whole pages are shared, the rest is copied.

use std::sync::Arc;

use super::content::Content;
use super::data::Data;
use super::run::Extent;
use crate::Result;
use crate::grid::Namespace;
use crate::limits::PAGE_SIZE;
use crate::range::{ByteRange, page_ceil, page_floor};

/// Extents that are shared at a time, before it is asked again whether there is room.
const BATCH: usize = 32;

/// Bytes that are cut off a clone at most, for one that is wanted: else a large file that is copied in small pieces would
/// be walked through for each of them.
const REST_MAX: u64 = 16;

/// Pinned bytes of a content, to be put elsewhere: it keeps them as they were, whatever happens to their source.
pub struct Clip {
    /// Range in the source, within its length.
    range: ByteRange,
    /// The source as it was.
    source: Content,
}

impl Clip {
    /// Number of bytes.
    pub fn len(&self) -> u64 {
        self.range.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// The source as it was.
    #[cfg(test)]
    pub(super) fn source(&self) -> &Content {
        &self.source
    }

    /// The first extent with a byte at `offset` in the source or behind.
    fn extent_from(&self, offset: u64) -> Option<&Extent> {
        self.source.map.overlapping(offset, self.range.end).next()
    }
}

/// A clip on its way to a place in another content.
struct Paste<'a> {
    clip: &'a Clip,
    /// Range in the target.
    target: ByteRange,
    /// Whether source and target agree modulo the page size.
    aligned: bool,
}

impl Paste<'_> {
    /// The source's offset of what goes to `offset`.
    fn source_of(&self, offset: u64) -> u64 {
        offset - self.target.start + self.clip.range.start
    }

    /// Where a byte of the source goes.
    fn target_of(&self, source: u64) -> u64 {
        source - self.clip.range.start + self.target.start
    }
}

impl Content {
    /// Pins a range, cut at the end of the file, to be put elsewhere with [`Content::paste`]; takes constant time.
    pub fn clip(&self, range: ByteRange) -> Clip {
        Clip {
            range: range.clamp_end(self.len),
            source: self.clone(),
        }
    }

    /// Puts a clip of this namespace at `offset`, growing the file where it ends behind it: shares whole pages where
    /// source and target agree modulo the page size, copies the rest, and turns holes into holes. Returns how many
    /// bytes are done; fewer than the clip has only at the bound of the budget or quota.
    ///
    /// A content that has what the source has before the clip, and nothing behind it, becomes a clone of the source, cut at
    /// the clip's end: in constant time, but for what is cut off. Else extents are shared one by one.
    ///
    /// # Errors
    /// `FileTooBig`; `NoSpace` or `QuotaExceeded` where not one byte fitted. On an error nothing has changed.
    pub fn paste(&mut self, namespace: &Arc<Namespace>, offset: u64, clip: &Clip) -> Result<u64> {
        let target = ByteRange::at(offset, clip.len())?;
        let aligned = (offset ^ clip.range.start).is_multiple_of(PAGE_SIZE);
        let paste = Paste {
            clip,
            target,
            aligned,
        };
        if self.becomes_clone(offset, clip) {
            let mut clone = clip.source.clone();
            clone.cut(target.end, u64::MAX);
            clone.len = target.end;
            *self = clone;
            return Ok(clip.len());
        }
        let (end, result) = self.paste_all(namespace, &paste);
        if end == offset {
            return result.map(|()| 0);
        }
        self.len = self.len.max(end);
        Ok(end - offset)
    }

    /// Whether a clone of the source, cut at the end of a clip, is what pasting the clip at `offset` makes of this.
    fn becomes_clone(&self, offset: u64, clip: &Clip) -> bool {
        let is_behind = |extent: &Extent| extent.end() > clip.range.end;
        offset == clip.range.start
            && !clip.is_empty()
            && clip.source.len - clip.range.end <= clip.len().saturating_mul(REST_MAX)
            && self.len <= clip.range.end
            && !self.map.at_or_before(u64::MAX).is_some_and(is_behind)
            && self.is_same_until(&clip.source, offset)
    }

    /// Returns where it ended, and why if that is too early.
    fn paste_all(&mut self, namespace: &Arc<Namespace>, paste: &Paste<'_>) -> (u64, Result<()>) {
        self.adopt(namespace);
        let target = paste.target;
        let mut at = target.start;
        while at < target.end {
            let shared_end = self.shared_end(target.end);
            if paste.aligned && at.is_multiple_of(PAGE_SIZE) && at < shared_end {
                let pages = ByteRange {
                    start: at,
                    end: shared_end,
                };
                match self.share_some(namespace, paste, pages) {
                    Ok(done) => at = done,
                    Err(error) => return (at, Err(error)),
                }
                continue;
            }
            let end = match paste.aligned {
                true => page_ceil(at + 1).min(target.end),
                false => target.end,
            };
            match self.copy_some(namespace, paste, ByteRange { start: at, end }) {
                Ok(done) => at = done,
                Err(error) => return (at, Err(error)),
            }
        }
        (at, Ok(()))
    }

    /// How far pages may be replaced for a range that ends at `end`: a page in which bytes follow stays.
    fn shared_end(&self, end: u64) -> u64 {
        match self.map.covering(end) {
            Some(_) => page_floor(end),
            None => end,
        }
    }

    /// Replaces whole pages by those of the clip, up to a number of extents. Returns where it ended.
    fn share_some(&mut self, namespace: &Arc<Namespace>, paste: &Paste<'_>, pages: ByteRange) -> Result<u64> {
        let (start, end) = (paste.source_of(pages.start), paste.source_of(pages.end));
        // from extent to extent: a hole between them may be exbibytes long
        let mut extents = paste.clip.source.map.overlapping(start, end);
        let batch: Vec<&Extent> = extents.by_ref().take(BATCH).collect();
        let done = match (extents.next(), batch.last()) {
            (Some(_), Some(last)) => paste.target_of(last.page_end()),
            (_, None) | (None, _) => pages.end,
        };
        if !batch.is_empty() {
            // Extents come without blocks here, which would be refused.
            namespace.probe(1)?;
        }
        self.carve(namespace, pages.start, done);
        for extent in batch {
            let shared = ByteRange {
                start: paste.target_of(extent.start.max(start)),
                end: paste.target_of(extent.end().min(end)),
            };
            for region in shared.pieces(u64::from(namespace.block_size())) {
                let mut part = extent.part(paste.source_of(region.start), paste.source_of(region.end));
                part.start = region.start;
                self.add(part);
            }
        }
        Ok(done)
    }

    /// Copies the first bytes of a range: up to the next change between bytes and a hole in the source, or as many as
    /// one block of it holds, or as many as memory is there for. Returns where it ended.
    fn copy_some(&mut self, namespace: &Arc<Namespace>, paste: &Paste<'_>, range: ByteRange) -> Result<u64> {
        let source = paste.source_of(range.start);
        let extent = paste.clip.extent_from(source);
        match extent.filter(|extent| extent.start <= source) {
            Some(extent) => {
                let end = extent.end().min(paste.source_of(range.end));
                let mut bytes = Vec::new();
                extent.append_to(source, end, &mut bytes);
                match self.put(namespace, range.start, Data::Bytes(&bytes)) {
                    (end, Err(error)) if end == range.start => Err(error),
                    (end, _) => Ok(end),
                }
            }
            None => {
                let end = extent.map_or(range.end, |extent| range.end.min(paste.target_of(extent.start)));
                self.punch(
                    namespace,
                    ByteRange {
                        start: range.start,
                        end,
                    },
                )?;
                Ok(end)
            }
        }
    }
}
