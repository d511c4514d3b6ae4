//! The bytes of a file in the model: a length, and the pages that something was put in.

use std::collections::BTreeMap;

/// Granularity of holes in bytes.
pub const PAGE: u64 = 4096;
/// Largest file size.
pub const FILE_END_MAX: u64 = i64::MAX as u64;

type Page = [u8; PAGE as usize];

/// What must be true of a page of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageState {
    /// Nothing was written there: a hole.
    Hole,
    /// Zeros were written or allocated there: a filesystem may keep them, or make it a hole.
    Zeros,
    /// It holds a byte that is not zero: data.
    Data,
}

/// Sparse bytes. A byte behind the length is zero in every page, so that growing shows zeros.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    len: u64,
    pages: BTreeMap<u64, Box<Page>>,
}

/// The part of a range that lies in one page: page number, first byte in the page, bytes.
fn pieces(start: u64, end: u64) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut at = start;
    std::iter::from_fn(move || {
        (at < end).then(|| {
            let page = at / PAGE;
            let inside = at % PAGE;
            let len = (PAGE - inside).min(end - at);
            at += len;
            (page, inside as usize, len as usize)
        })
    })
}

impl Pages {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the length is 0.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Pages that are no holes.
    pub fn present(&self) -> usize {
        self.pages.len()
    }

    /// The bytes of a range, cut at the end of the file.
    pub fn read(&self, offset: u64, len: u64) -> Vec<u8> {
        let end = self.len.min(offset.saturating_add(len));
        let mut bytes = Vec::with_capacity(end.saturating_sub(offset) as usize);
        for (page, inside, len) in pieces(offset, end) {
            match self.pages.get(&page) {
                Some(page) => bytes.extend_from_slice(&page[inside..inside + len]),
                None => bytes.resize(bytes.len() + len, 0),
            }
        }
        bytes
    }

    /// Writes, and grows where needed.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        let mut rest = bytes;
        for (page, inside, len) in pieces(offset, end) {
            let (now, later) = rest.split_at(len);
            self.page(page)[inside..inside + len].copy_from_slice(now);
            rest = later;
        }
        if !bytes.is_empty() {
            self.len = self.len.max(end);
        }
    }

    /// Cuts or grows the file.
    pub fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.pages.split_off(&len.div_ceil(PAGE));
            if let Some(page) = self.pages.get_mut(&(len / PAGE)) {
                page[(len % PAGE) as usize..].fill(0);
            }
        }
        self.len = len;
    }

    /// Makes a range a hole; a page of which a part remains is zeroed in that part.
    pub fn punch(&mut self, offset: u64, len: u64) {
        for (page, inside, len) in self.present_pieces(offset, len) {
            if len == PAGE as usize {
                self.pages.remove(&page);
            } else {
                self.page(page)[inside..inside + len].fill(0);
            }
        }
    }

    /// Zeroes what is in a range, which may or may not be a hole afterwards.
    pub fn wipe(&mut self, offset: u64, len: u64) {
        for (page, inside, len) in self.present_pieces(offset, len) {
            self.page(page)[inside..inside + len].fill(0);
        }
    }

    /// Backs a range with pages: they stay as they are, or hold zeros.
    pub fn allocate(&mut self, offset: u64, len: u64) {
        for (page, ..) in pieces(offset, offset + len) {
            self.page(page);
        }
    }

    /// Fills a range with zeros, which may or may not be a hole afterwards.
    pub fn zero(&mut self, offset: u64, len: u64) {
        for (page, inside, len) in pieces(offset, offset + len) {
            self.page(page)[inside..inside + len].fill(0);
        }
    }

    /// What must be true of a page.
    pub fn state(&self, page: u64) -> PageState {
        match self.pages.get(&page) {
            None => PageState::Hole,
            Some(page) if page.iter().all(|byte| *byte == 0) => PageState::Zeros,
            Some(_) => PageState::Data,
        }
    }

    /// Every answer to SEEK_DATA from `offset`, which lies before the end, that is right; whether ENXIO is, too.
    pub fn data_from(&self, offset: u64) -> (Vec<u64>, bool) {
        let mut right = Vec::new();
        for page in self.pages.range(offset / PAGE..).map(|(page, _)| *page) {
            if page * PAGE >= self.len {
                break;
            }
            right.push(offset.max(page * PAGE));
            if self.state(page) == PageState::Data {
                return (right, false);
            }
        }
        (right, true)
    }

    /// Every answer to SEEK_HOLE from `offset`, which lies before the end, that is right.
    pub fn hole_from(&self, offset: u64) -> Vec<u64> {
        let mut right = Vec::new();
        let mut page = offset / PAGE;
        while page * PAGE < self.len {
            match self.state(page) {
                PageState::Data => (),
                PageState::Zeros => right.push(offset.max(page * PAGE)),
                PageState::Hole => {
                    right.push(offset.max(page * PAGE));
                    return right;
                }
            }
            page += 1;
        }
        right.push(self.len);
        right
    }

    /// Numbers of the pages that must be data.
    pub fn data_pages(&self) -> impl Iterator<Item = u64> {
        self.pages
            .keys()
            .copied()
            .filter(|page| self.state(*page) == PageState::Data)
    }

    fn page(&mut self, page: u64) -> &mut Page {
        self.pages
            .entry(page)
            .or_insert_with(|| Box::new([0; PAGE as usize]))
    }

    /// The parts of a range that lie in pages that are no holes.
    fn present_pieces(&self, start: u64, len: u64) -> Vec<(u64, usize, usize)> {
        let last = self.len.div_ceil(PAGE).saturating_mul(PAGE);
        let end = last.min(start.saturating_add(len));
        if start >= end {
            return Vec::new();
        }
        self.pages
            .range(start / PAGE..end.div_ceil(PAGE))
            .map(|(page, _)| {
                let from = start.max(page * PAGE);
                let to = end.min((page + 1) * PAGE);
                (*page, (from % PAGE) as usize, (to - from) as usize)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growing_again_after_a_cut_shows_zeros() {
        let mut pages = Pages::default();
        pages.write(10, &[7; 100]);
        pages.set_len(50);
        pages.set_len(200);
        assert_eq!(
            pages.read(0, 1000),
            [vec![0; 10], vec![7; 40], vec![0; 150]].concat()
        );
    }

    #[test]
    fn punching_whole_pages_makes_holes_and_parts_stay() {
        let mut pages = Pages::default();
        pages.write(0, &[1; 3 * PAGE as usize]);
        pages.punch(100, 2 * PAGE);
        assert_eq!(
            [pages.state(0), pages.state(1), pages.state(2)],
            [PageState::Data, PageState::Hole, PageState::Data]
        );
        assert_eq!(pages.read(2 * PAGE + 99, 2), [0, 1]);
    }

    #[test]
    fn seeking_lists_every_right_answer() {
        let mut pages = Pages::default();
        pages.write(PAGE, &[0; PAGE as usize]);
        pages.write(2 * PAGE, &[1; PAGE as usize]);
        assert_eq!(pages.data_from(10), (vec![PAGE, 2 * PAGE], false));
        assert_eq!(pages.hole_from(PAGE + 1), [PAGE + 1, 3 * PAGE]);
        assert_eq!(pages.hole_from(0), [0]);
    }
}
