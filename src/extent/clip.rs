//! Copying between contents: whole pages are shared, the rest is copied.

use std::sync::Arc;

use super::content::Content;
use super::data::Data;
use super::run::Extent;
use crate::Result;
use crate::grid::Namespace;
use crate::limits::PAGE_SIZE;
use crate::range::{ByteRange, page_ceil, page_floor};

/// Pinned bytes of a content, to be put elsewhere: it keeps them as they were, whatever happens to their source.
pub struct Clip {
    /// Range in the source.
    range: ByteRange,
    /// The source's extents, ascending and cut to the range.
    extents: Vec<Extent>,
}

impl Clip {
    /// Number of bytes.
    pub fn len(&self) -> u64 {
        self.range.len()
    }

    /// Number of extents; holes have none.
    pub fn extent_count(&self) -> u64 {
        self.extents.len() as u64
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Extents with a byte behind `offset` in the source.
    fn extents_from(&self, offset: u64) -> &[Extent] {
        &self.extents[self.extents.partition_point(|extent| extent.end() <= offset)..]
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
    /// Pins a range, cut at the end of the file, to be put elsewhere with [`Content::paste`]; takes time and memory in
    /// proportion to the extents in it.
    pub fn clip(&self, range: ByteRange) -> Clip {
        let range = range.clamp_end(self.len);
        let extents = self
            .map
            .overlapping(range.start, range.end)
            .map(|extent| extent.part(extent.start.max(range.start), extent.end().min(range.end)))
            .collect();
        Clip { range, extents }
    }

    /// Puts a clip of this namespace at `offset`, growing the file where it ends behind it: shares whole pages where
    /// source and target agree modulo the page size, copies the rest, and turns holes into holes. Returns how many
    /// bytes are done; fewer than the clip has only at the bound of the budget or quota.
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
        let (end, result) = self.paste_all(namespace, &paste);
        if end == offset {
            return result.map(|()| 0);
        }
        self.len = self.len.max(end);
        Ok(end - offset)
    }

    /// Returns where it ended, and why if that is too early.
    fn paste_all(&mut self, namespace: &Arc<Namespace>, paste: &Paste<'_>) -> (u64, Result<()>) {
        self.adopt(namespace);
        let target = paste.target;
        let mut at = target.start;
        while at < target.end {
            let shared_end = self.shared_end(target.end);
            if paste.aligned && at.is_multiple_of(PAGE_SIZE) && at < shared_end {
                self.share(
                    namespace,
                    paste,
                    ByteRange {
                        start: at,
                        end: shared_end,
                    },
                );
                at = shared_end;
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

    /// Replaces whole pages by those of the clip.
    fn share(&mut self, namespace: &Arc<Namespace>, paste: &Paste<'_>, pages: ByteRange) {
        self.carve(namespace, pages.start, pages.end);
        let (start, end) = (paste.source_of(pages.start), paste.source_of(pages.end));
        // from extent to extent: a hole between them may be exbibytes long
        let extents = paste.clip.extents_from(start).iter();
        for extent in extents.take_while(|extent| extent.start < end) {
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
    }

    /// Copies the first bytes of a range: up to the next change between bytes and a hole in the source, or as many as
    /// one block of it holds, or as many as memory is there for. Returns where it ended.
    fn copy_some(&mut self, namespace: &Arc<Namespace>, paste: &Paste<'_>, range: ByteRange) -> Result<u64> {
        let source = paste.source_of(range.start);
        let extent = paste.clip.extents_from(source).first();
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
