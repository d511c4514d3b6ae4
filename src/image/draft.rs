//! Names of files that are in the making, and what is left of them.
//!
//! A draft is renamed or removed by who makes it. One that a snapshot has caught comes back when the drive goes back to that
//! snapshot, and then nobody will.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::folder::Folder;
use crate::error::Result;
use crate::vfs::FileKind;

/// What names of drafts begin with; a number follows.
const PREFIX: &str = ".okapi-";

/// The number of the next draft of this program.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Entries of the directory that one clone looks at for what is left, so that it takes no longer where there are many.
const LOOKS: usize = 256;

/// A name for a draft that no other one has had in this program.
pub(super) fn next_name() -> Vec<u8> {
    format!("{PREFIX}{}", NEXT.fetch_add(1, Ordering::Relaxed)).into_bytes()
}

/// Who makes drafts now, and how far the look for those that are left has come.
#[derive(Default)]
pub(super) struct Drafts {
    /// For each who makes some: its drafts have this number or a higher one.
    makers: Mutex<Vec<u64>>,
    /// Cookie of the entry behind which the next look begins.
    looked: AtomicU64,
}

/// One who makes drafts, until this is dropped.
pub(super) struct Maker<'d> {
    drafts: &'d Drafts,
    first: u64,
}

impl Drafts {
    pub(super) fn begin(&self) -> Maker<'_> {
        let mut makers = self.makers.lock();
        let first = NEXT.load(Ordering::Relaxed);
        makers.push(first);
        Maker { drafts: self, first }
    }

    /// Drafts with lower numbers are left over.
    fn first_under_way(&self) -> u64 {
        let makers = self.makers.lock();
        let first = makers.iter().min().copied();
        first.unwrap_or_else(|| NEXT.load(Ordering::Relaxed))
    }

    /// Names of all that is left.
    pub(super) fn left(&self, folder: &Folder<'_>) -> Result<Vec<String>> {
        let (names, _) = left_in(folder, 0, usize::MAX, self.first_under_way())?;
        let names = names.iter().map(|name| String::from_utf8_lossy(name).into());
        Ok(names.collect())
    }

    /// Removes some of what is left, beginning where the last look ended; returns the names. What cannot be removed stays.
    pub(super) fn sweep(&self, folder: &Folder<'_>) -> Result<Vec<Vec<u8>>> {
        let below = self.first_under_way();
        let cookie = self.looked.load(Ordering::Relaxed);
        let (mut names, next) = left_in(folder, cookie, LOOKS, below)?;
        self.looked.store(next.unwrap_or(0), Ordering::Relaxed);
        names.retain(|name| folder.fs.unlink(folder.ino, name).is_ok());
        Ok(names)
    }
}

impl Drop for Maker<'_> {
    fn drop(&mut self) {
        let mut makers = self.drafts.makers.lock();
        if let Some(own) = makers.iter().position(|first| *first == self.first) {
            makers.swap_remove(own);
        }
    }
}

/// Drafts with numbers below `below` among at most `max` entries behind `cookie`, and where to go on.
fn left_in(folder: &Folder<'_>, cookie: u64, max: usize, below: u64) -> Result<(Vec<Vec<u8>>, Option<u64>)> {
    let (mut names, mut next) = (Vec::new(), None);
    let (mut last, mut looked) = (cookie, 0);
    folder.fs.readdir(folder.ino, cookie, false, &mut |entry| {
        if looked == max {
            next = Some(last);
            return ControlFlow::Break(());
        }
        (last, looked) = (entry.cookie, looked + 1);
        if entry.kind == FileKind::Regular && number(entry.name).is_some_and(|number| number < below) {
            names.push(entry.name.to_vec());
        }
        ControlFlow::Continue(())
    })?;
    Ok((names, next))
}

/// The number of a draft, of a name that can be one's.
fn number(name: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(name).ok()?.strip_prefix(PREFIX)?;
    let number: u64 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drafts_are_known_by_their_names() {
        let name = next_name();
        assert!(number(&name) < number(&next_name()));
        for other in [
            ".okapi-",
            ".okapi-x",
            ".okapi-+1",
            ".okapi-01",
            ".okapi-1.raw",
            "okapi-1",
        ] {
            assert_eq!(number(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn what_is_under_way_is_not_left() {
        let drafts = Drafts::default();
        let maker = drafts.begin();
        let own = number(&next_name()).expect("it is a draft's");
        let second = drafts.begin();
        assert!(own >= drafts.first_under_way());
        drop(maker);
        assert!(own < drafts.first_under_way());
        drop(second);
        assert!(own < drafts.first_under_way());
    }
}
