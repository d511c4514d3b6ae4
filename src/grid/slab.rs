//! The free set of one size class: which slots of which slabs are taken, and which of their pages hold memory.
//!
//! ```text
//! arena   | slab 0 | slab 1 | slab 2 | ...        a slab serves one class at a time
//! slab    [slot][slot][slot] ... [slot] rest      slots of one class, numbered from the slab's start
//! pages   |    |    |    |    |    |    |         small slots share pages, large ones have their own
//! ```
//!
//! A freed slot first stays *warm*: its bit remains set, and it waits on a stack to be taken again while its pages
//! are in the cache. What the stack has not needed for a while *cools*: its bit is cleared. Pages under no set bit
//! can then be *claimed*, given back to the system outside the lock, and *settled*.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use super::bits;
use crate::limits::{BLOCK_SIZE_MAX, WARM_SLOTS_MAX};
use crate::{Error, ErrorKind, Result};

/// Pages of a slab that hold memory, as bits.
pub(super) type Pages = [u64; bits::words((BLOCK_SIZE_MAX / 4096) as usize)];

/// Sizes in bytes that a free set computes with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    pub(super) slot: u32,
    pub(super) slab: u32,
    pub(super) page: u32,
}

impl Geometry {
    fn slots(self) -> usize {
        (self.slab / self.slot) as usize
    }

    /// Pages that a slot lies on.
    fn pages_of(self, slot: usize) -> Range<usize> {
        let start = slot * self.slot as usize;
        let end = start + self.slot as usize;
        start / self.page as usize..end.div_ceil(self.page as usize)
    }

    /// Slots that lie on a page.
    fn slots_on(self, page: usize) -> Range<usize> {
        let start = page * self.page as usize;
        let end = start + self.page as usize;
        start / self.slot as usize..end.div_ceil(self.slot as usize).min(self.slots())
    }

    fn offset(self, slab: u32, slot: usize) -> u64 {
        u64::from(slab) * u64::from(self.slab) + slot as u64 * u64::from(self.slot)
    }

    fn place(self, offset: u64) -> (u32, usize) {
        let slab = u32::try_from(offset / u64::from(self.slab)).expect("slabs are counted in 32 bits");
        (
            slab,
            (offset % u64::from(self.slab)) as usize / self.slot as usize,
        )
    }
}

struct Slab {
    /// Bit per slot. (1) A slot that a block holds, that is warm or that is claimed has its bit set.
    taken: Box<[u64]>,
    /// (2) Number of bits in `taken`.
    count: usize,
    /// (3) A page under a taken slot is touched, but for the pages of a claim.
    touched: Pages,
    /// No slot below is free.
    hint: usize,
    /// Listed in `FreeSet::dirty`.
    dirty: bool,
}

/// Free and taken slots of one class.
pub(super) struct FreeSet {
    geometry: Geometry,
    /// Places of warm slots, the most recent last; at most `WARM_SLOTS_MAX`.
    warm: Vec<u64>,
    /// How short `warm` has been since slots were last cooled: so many have not been needed.
    warm_low: usize,
    slabs: HashMap<u32, Slab>,
    /// (4) Exactly the slabs with a free slot.
    partial: BTreeSet<u32>,
    /// Slabs in which slots were freed since they were last claimed from.
    dirty: Vec<u32>,
}

/// Pages on their way back to the system; nobody else reaches them until they are settled.
pub(super) struct Claim {
    slab: u32,
    pages: Pages,
    slots: Vec<usize>,
}

impl FreeSet {
    pub(super) fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            warm: Vec::new(),
            warm_low: 0,
            slabs: HashMap::new(),
            partial: BTreeSet::new(),
            dirty: Vec::new(),
        }
    }

    pub(super) fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The most recently freed slot.
    pub(super) fn take_warm(&mut self) -> Option<u64> {
        let offset = self.warm.pop()?;
        self.warm_low = self.warm_low.min(self.warm.len());
        Some(offset)
    }

    pub(super) fn has_cold(&self) -> bool {
        !self.partial.is_empty()
    }

    /// The lowest free slot, if `touch` allows so many bytes of fresh pages.
    ///
    /// Lowest first keeps high slabs empty, so that they can serve other classes.
    pub(super) fn take_cold(&mut self, touch: impl FnOnce(u64) -> bool) -> Option<u64> {
        let (number, slot) = self.lowest_free()?;
        let geometry = self.geometry;
        let slab = self.slabs.get_mut(&number).expect("a partial slab is known");
        let fresh = geometry
            .pages_of(slot)
            .filter(|&page| !bits::contains(&slab.touched, page));
        if !touch(fresh.count() as u64 * u64::from(geometry.page)) {
            return None;
        }
        for page in geometry.pages_of(slot) {
            bits::insert(&mut slab.touched, page);
        }
        bits::insert(&mut slab.taken, slot);
        slab.count += 1;
        slab.hint = slot + 1;
        if slab.count == geometry.slots() {
            self.partial.remove(&number);
        }
        Some(geometry.offset(number, slot))
    }

    /// Whether the lowest free slot is on a lower page than the slot at `offset`.
    pub(super) fn has_below(&self, offset: u64) -> bool {
        self.lowest_free()
            .map(|(slab, slot)| self.geometry.offset(slab, slot))
            .is_some_and(|lowest| lowest + u64::from(self.geometry.page) <= offset)
    }

    fn lowest_free(&self) -> Option<(u32, usize)> {
        let number = *self.partial.first()?;
        let slab = self.slabs.get(&number).expect("a partial slab is known");
        let slot = bits::first_missing(&slab.taken, slab.hint, self.geometry.slots())
            .expect("a partial slab has a free slot");
        Some((number, slot))
    }

    /// Adds an empty slab, of which some pages may hold memory still.
    pub(super) fn add_slab(&mut self, number: u32, touched: Pages) {
        let slab = Slab {
            taken: vec![0; bits::words(self.geometry.slots())].into(),
            count: 0,
            touched,
            hint: 0,
            dirty: false,
        };
        let before = self.slabs.insert(number, slab);
        assert!(before.is_none(), "slab {number} has one owner");
        self.partial.insert(number);
    }

    /// Takes a slot back that no block holds any more.
    pub(super) fn put_back(&mut self, offset: u64) {
        if self.warm.len() < WARM_SLOTS_MAX {
            self.warm.push(offset);
        } else {
            self.free(offset);
        }
    }

    /// Cools at most `max` of the slots that were not needed since the last [`FreeSet::age`]; how many.
    pub(super) fn cool(&mut self, max: usize) -> usize {
        let count = self.warm_low.min(max);
        let cooled: Vec<u64> = self.warm.drain(..count).collect();
        for offset in cooled {
            self.free(offset);
        }
        self.warm_low -= count;
        if self.warm.is_empty() {
            self.warm.shrink_to(64);
        }
        count
    }

    /// Begins a new period: what is warm now and is not needed until the next one may cool then.
    pub(super) fn age(&mut self) {
        self.warm_low = self.warm.len();
    }

    /// Whether memory waits to be cooled or claimed.
    pub(super) fn is_restless(&self) -> bool {
        !self.warm.is_empty() || !self.dirty.is_empty()
    }

    /// The idle pages of one slab in which slots were freed; `None` where no such slab is left.
    pub(super) fn claim(&mut self) -> Option<Claim> {
        let number = self.dirty.pop()?;
        let geometry = self.geometry;
        let mut claim = Claim {
            slab: number,
            pages: Pages::default(),
            slots: Vec::new(),
        };
        let Some(slab) = self.slabs.get_mut(&number) else {
            return Some(claim);
        };
        slab.dirty = false;
        for page in bits::runs(&slab.touched).flatten() {
            if !bits::intersects(&slab.taken, geometry.slots_on(page)) {
                bits::insert(&mut claim.pages, page);
            }
        }
        for page in bits::runs(&claim.pages).flatten() {
            let free = geometry
                .slots_on(page)
                .filter(|&slot| bits::insert(&mut slab.taken, slot));
            claim.slots.extend(free);
        }
        slab.count += claim.slots.len();
        if slab.count == geometry.slots() {
            self.partial.remove(&number);
        }
        Some(claim)
    }

    /// Ends a claim. `given_back`: its pages hold no memory any more. Returns the slab if nothing is taken in it.
    pub(super) fn settle(&mut self, claim: &Claim, given_back: bool) -> Option<(u32, Pages)> {
        let slab = self.slabs.get_mut(&claim.slab)?;
        if given_back {
            for (touched, gone) in slab.touched.iter_mut().zip(&claim.pages) {
                *touched &= !gone;
            }
        }
        for &slot in &claim.slots {
            bits::remove(&mut slab.taken, slot);
            slab.hint = slab.hint.min(slot);
        }
        slab.count -= claim.slots.len();
        if slab.count > 0 {
            if slab.count < self.geometry.slots() {
                self.partial.insert(claim.slab);
            }
            return None;
        }
        let touched = slab.touched;
        if slab.dirty {
            self.dirty.retain(|&dirty| dirty != claim.slab);
        }
        self.partial.remove(&claim.slab);
        self.slabs.remove(&claim.slab);
        Some((claim.slab, touched))
    }

    /// Takes a slot back that shall not be used again soon.
    pub(super) fn free(&mut self, offset: u64) {
        let (number, slot) = self.geometry.place(offset);
        let slab = self
            .slabs
            .get_mut(&number)
            .expect("a taken slot is in a known slab");
        assert!(
            bits::remove(&mut slab.taken, slot),
            "slot {slot} of slab {number} is freed once"
        );
        if slab.count == self.geometry.slots() {
            self.partial.insert(number);
        }
        slab.count -= 1;
        slab.hint = slab.hint.min(slot);
        if !slab.dirty {
            slab.dirty = true;
            self.dirty.push(number);
        }
    }

    /// Verifies the invariants, given the places of all slots of this class that blocks hold.
    ///
    /// # Errors
    /// `Corrupt`, naming the first rule that is broken.
    pub(super) fn check(&self, held: &[u64]) -> Result<()> {
        let mut seen: HashMap<u32, Box<[u64]>> = HashMap::new();
        for &offset in self.warm.iter().chain(held) {
            let (number, slot) = self.geometry.place(offset);
            let slab = self.slabs.get(&number);
            if !slab.is_some_and(|slab| bits::contains(&slab.taken, slot)) {
                return Err(self.broken(number, "a slot in use is marked free"));
            }
            let slots = seen
                .entry(number)
                .or_insert_with(|| vec![0; bits::words(self.geometry.slots())].into());
            if !bits::insert(slots, slot) {
                return Err(self.broken(number, "a slot has two owners"));
            }
        }
        for (&number, slab) in &self.slabs {
            let known = seen.get(&number).map_or(0, |slots| bits::count(slots));
            self.check_slab(number, slab, known)?;
        }
        Ok(())
    }

    fn check_slab(&self, number: u32, slab: &Slab, known: usize) -> Result<()> {
        if slab.count != bits::count(&slab.taken) {
            return Err(self.broken(number, "the count of taken slots is wrong"));
        }
        if slab.count != known {
            return Err(self.broken(number, "a taken slot has no owner"));
        }
        if bits::first_missing(&slab.taken, 0, slab.hint).is_some() {
            return Err(self.broken(number, "a slot below the hint is free"));
        }
        if self.partial.contains(&number) != (slab.count < self.geometry.slots()) {
            return Err(self.broken(number, "the list of slabs with free slots is wrong"));
        }
        if self.dirty.contains(&number) != slab.dirty {
            return Err(self.broken(number, "the list of slabs with freed slots is wrong"));
        }
        let mut under = bits::runs(&slab.taken)
            .flatten()
            .flat_map(|slot| self.geometry.pages_of(slot));
        if under.any(|page| !bits::contains(&slab.touched, page)) {
            return Err(self.broken(number, "a taken slot lies on a page that counts as given back"));
        }
        Ok(())
    }

    /// Bytes of pages that hold memory.
    pub(super) fn touched_bytes(&self) -> u64 {
        let pages: usize = self.slabs.values().map(|slab| bits::count(&slab.touched)).sum();
        pages as u64 * u64::from(self.geometry.page)
    }

    /// Numbers of the slabs of this class.
    pub(super) fn slabs(&self) -> impl Iterator<Item = u32> {
        self.slabs.keys().copied()
    }

    fn broken(&self, slab: u32, rule: &str) -> Error {
        let class = self.geometry.slot;
        Error::new(
            ErrorKind::Corrupt,
            format!("slab {slab} of class {class}: {rule}"),
        )
    }
}

impl Claim {
    /// Runs of claimed pages, as ranges of bytes in the arena.
    pub(super) fn ranges(&self, geometry: Geometry) -> impl Iterator<Item = Range<u64>> {
        let base = u64::from(self.slab) * u64::from(geometry.slab);
        let at = move |page: usize| base + page as u64 * u64::from(geometry.page);
        bits::runs(&self.pages).map(move |run| at(run.start)..at(run.end))
    }

    /// Bytes of all claimed pages.
    pub(super) fn bytes(&self, geometry: Geometry) -> u64 {
        bits::count(&self.pages) as u64 * u64::from(geometry.page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u32 = 4096;
    const SLAB: u32 = 256 << 10;

    fn free_set(slot: u32) -> FreeSet {
        let mut set = FreeSet::new(Geometry {
            slot,
            slab: SLAB,
            page: PAGE,
        });
        set.add_slab(3, Pages::default());
        set
    }

    /// Gives everything back that can be; the bytes, and the slabs that became empty.
    fn give_back(set: &mut FreeSet) -> (u64, Vec<u32>) {
        let (mut bytes, mut slabs) = (0, Vec::new());
        set.age();
        set.cool(usize::MAX);
        while let Some(claim) = set.claim() {
            bytes += claim.bytes(set.geometry);
            slabs.extend(set.settle(&claim, true).map(|(slab, _)| slab));
        }
        (bytes, slabs)
    }

    #[test]
    fn a_slab_hands_out_each_slot_once() {
        for slot in [64, 640, 3584, 4096, 49152, SLAB] {
            let mut set = free_set(slot);
            let mut places: Vec<u64> = std::iter::from_fn(|| set.take_cold(|_| true)).collect();
            assert_eq!(places.len() as u32, SLAB / slot);
            set.check(&places).unwrap();
            assert_eq!(
                set.touched_bytes(),
                (u64::from(SLAB / slot) * u64::from(slot)).next_multiple_of(4096)
            );
            assert!(set.check(&places[1..]).is_err(), "a lost slot is noticed");
            places.push(places[0]);
            assert!(set.check(&places).is_err(), "a slot with two owners is noticed");
        }
    }

    #[test]
    fn the_most_recently_freed_slot_comes_first() {
        let mut set = free_set(4096);
        let places: Vec<u64> = (0..4).filter_map(|_| set.take_cold(|_| true)).collect();
        set.put_back(places[2]);
        set.put_back(places[0]);
        assert_eq!(set.take_warm(), Some(places[0]));
        assert_eq!(set.take_warm(), Some(places[2]));
        assert_eq!(set.take_warm(), None);
    }

    #[test]
    fn only_slots_that_a_period_did_not_need_cool() {
        let mut set = free_set(4096);
        let places: Vec<u64> = (0..8).filter_map(|_| set.take_cold(|_| true)).collect();
        places.iter().for_each(|&place| set.put_back(place));
        assert_eq!(set.cool(usize::MAX), 0, "a period must pass first");
        set.age();
        let again: Vec<u64> = (0..3).filter_map(|_| set.take_warm()).collect();
        again.iter().for_each(|&place| set.put_back(place));
        assert_eq!(set.cool(usize::MAX), 5);
        set.check(&[]).unwrap();
        assert!(set.is_restless());
    }

    #[test]
    fn a_page_goes_back_when_its_last_slot_is_free() {
        let mut set = free_set(64);
        let places: Vec<u64> = (0..128).filter_map(|_| set.take_cold(|_| true)).collect();
        assert_eq!(set.touched_bytes(), 8192);
        places[1..].iter().for_each(|&place| set.put_back(place));
        assert_eq!(give_back(&mut set), (4096, vec![]));
        set.check(&places[..1]).unwrap();
        set.put_back(places[0]);
        assert_eq!(give_back(&mut set), (4096, vec![3]));
        assert_eq!(set.slabs().count(), 0);
        assert!(!set.is_restless());
    }

    #[test]
    fn a_claimed_slot_is_not_handed_out() {
        let mut set = free_set(SLAB / 2);
        let place = set.take_cold(|_| true).unwrap();
        let other = set.take_cold(|_| true).unwrap();
        set.put_back(other);
        set.age();
        set.cool(1);
        let claim = set.claim().unwrap();
        let mut ranges = claim.ranges(set.geometry);
        assert_eq!(ranges.next(), Some(other..other + u64::from(SLAB / 2)));
        assert_eq!(ranges.next(), None);
        drop(ranges);
        assert_eq!(set.take_cold(|_| true), None);
        assert!(set.settle(&claim, true).is_none());
        assert_eq!(set.take_cold(|_| true), Some(other));
        set.check(&[place, other]).unwrap();
    }

    #[test]
    fn pages_that_the_system_kept_stay_counted() {
        let mut set = free_set(4096);
        let place = set.take_cold(|_| true).unwrap();
        set.put_back(place);
        set.age();
        set.cool(1);
        let claim = set.claim().unwrap();
        let (slab, touched) = set.settle(&claim, false).unwrap();
        set.add_slab(slab, touched);
        assert_eq!(set.touched_bytes(), 4096);
    }

    #[test]
    fn fresh_pages_are_asked_for_once() {
        let mut set = free_set(2048);
        let mut asked = Vec::new();
        for _ in 0..3 {
            set.take_cold(|bytes| {
                asked.push(bytes);
                true
            });
        }
        assert_eq!(asked, [4096, 0, 4096]);
        assert_eq!(
            set.take_cold(|bytes| bytes > 0),
            None,
            "refused, and nothing has changed"
        );
        assert_eq!(set.touched_bytes(), 8192);
    }
}
