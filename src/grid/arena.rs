//! The memory of all blocks: mapped once, divided into slabs of slots, recycled, given back to the system.
//!
//! The only place in the grid that touches raw memory. A [`Slot`] is the sole right to its bytes: it cannot be
//! copied, and the free sets hand out each place once until it returns.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ops::Range;
use std::slice;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use parking_lot::Mutex;

use super::apart::Apart;
use super::class::{CLASSES, Class, UNIT};
use super::slab::{FreeSet, Geometry, Pages};
use crate::limits::SLAB_SIZE_MIN;
use crate::{Error, ErrorKind, Result};

/// Mapped bytes per byte of budget, by preference. Address space costs nothing, and slabs that are partly in use by
/// one class cannot serve another.
const RESERVE_FACTORS: [u64; 3] = if cfg!(unix) { [4, 2, 1] } else { [1, 1, 1] };

/// Fresh bytes of a slot from which one call for all pages costs less than a fault for each.
const PREFAULT_MIN: u64 = 16 << 10;

/// Slots that are cooled under one hold of a class's lock.
const COOL_BATCH: usize = 1024;

/// The sole right to the memory of one block. Packed, because there is one for each block.
#[derive(Debug)]
#[must_use = "a slot that is dropped is lost to the arena"]
#[repr(Rust, packed(2))]
pub(super) struct Slot {
    /// Place in units of 64 bytes: 40 bits.
    unit_low: u32,
    unit_high: u8,
    class: Class,
    /// The arena that it came from, and to which alone it gives access.
    arena: u32,
}

impl Slot {
    pub(super) fn class(&self) -> Class {
        self.class
    }

    /// Where the slot begins in the arena, in bytes.
    pub(super) fn offset(&self) -> u64 {
        (u64::from(self.unit_high) << 32 | u64::from(self.unit_low)) * u64::from(UNIT)
    }
}

/// Mapped memory and its free sets.
///
/// Lock order: `trimming`, then one class, then `spare`.
pub(super) struct Arena {
    map: MmapRaw,
    id: u32,
    page_bytes: u32,
    slab_count: u32,
    /// Free sets by class, each under its own lock: classes do not wait for each other.
    classes: Box<[Apart<Mutex<FreeSet>>]>,
    spare: Mutex<Spare>,
    /// Pages that hold memory, in bytes: the sum over all slabs.
    resident: Apart<AtomicU64>,
    trimming: Mutex<()>,
}

/// Slabs that no class owns: those from `next` on were never used.
struct Spare {
    next: u32,
    returned: BTreeMap<u32, Pages>,
}

impl Arena {
    /// Maps memory for blocks of at most `block_size` bytes that take `size_bytes` together.
    ///
    /// # Errors
    /// `NoMemory` where the host refuses to map it.
    pub(super) fn new(size_bytes: u64, block_size: u32) -> Result<Self> {
        let slab_bytes = block_size.max(SLAB_SIZE_MIN);
        let page_bytes = page_bytes();
        let map = reserve(size_bytes, slab_bytes)?;
        let geometry = |class: Class| Geometry {
            slot: class.bytes(),
            slab: slab_bytes,
            page: page_bytes,
        };
        let slab_count = map.len() as u64 / u64::from(slab_bytes);
        Ok(Self {
            id: next_id(),
            page_bytes,
            slab_count: u32::try_from(slab_count).expect("the largest grid has less than 2^32 slabs"),
            classes: Class::up_to(block_size)
                .map(|class| Apart(Mutex::new(FreeSet::new(geometry(class)))))
                .collect(),
            spare: Mutex::new(Spare {
                next: 0,
                returned: BTreeMap::new(),
            }),
            resident: Apart(AtomicU64::new(0)),
            trimming: Mutex::new(()),
            map,
        })
    }

    /// A slot of this class; its bytes are whatever was there. Touches no fresh page if that took the pages in use
    /// above `resident_max` bytes, which is asked for only then.
    ///
    /// # Errors
    /// `NoSpace` where free slots of other classes lie scattered over so many pages that none can be taken.
    pub(super) fn take(&self, class: Class, resident_max: impl Fn() -> u64) -> Result<Slot> {
        self.try_take(class, &resident_max)
            .or_else(|| {
                self.trim();
                self.try_take(class, &resident_max)
            })
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::NoSpace,
                    "no space left in the grid: its free memory is scattered among small blocks",
                )
            })
    }

    /// Takes a slot back. What it held is not wiped: whoever takes it next exposes only what they wrote.
    pub(super) fn put_back(&self, slot: Slot) {
        assert_eq!(
            { slot.arena },
            self.id,
            "a slot returns to the arena it came from"
        );
        self.classes[slot.class.position()].lock().put_back(slot.offset());
    }

    /// A slot of the same class on a lower page, for a slot that shares its page with others.
    pub(super) fn take_lower(&self, slot: &Slot) -> Option<Slot> {
        if slot.class.bytes() >= self.page_bytes {
            return None;
        }
        let mut set = self.classes[slot.class.position()].lock();
        if !set.has_below(slot.offset()) {
            return None;
        }
        let offset = set.take_cold(|bytes| bytes == 0 || self.touch(bytes, u64::MAX))?;
        Some(self.slot(slot.class, offset))
    }

    /// Takes a slot back that [`Arena::take_lower`] has replaced.
    pub(super) fn leave(&self, slot: Slot) {
        assert_eq!(
            { slot.arena },
            self.id,
            "a slot returns to the arena it came from"
        );
        self.classes[slot.class.position()].lock().free(slot.offset());
    }

    /// The bytes of a slot.
    pub(super) fn bytes<'a>(&'a self, slot: &'a Slot) -> &'a [u8] {
        let start = self.start_of(slot);
        // SAFETY: `start_of` proved that the range lies in the mapping, which lives as long as `self` and whose bytes
        // are initialised (anonymous memory reads as zeros). The slot is the only one for its place (see
        // `slab::FreeSet`), and it is borrowed shared for 'a, so nobody writes meanwhile. Safe code cannot view
        // parts of one mapping under independent borrows.
        unsafe { slice::from_raw_parts(self.map.as_ptr().add(start), slot.class.bytes() as usize) }
    }

    /// The bytes of a slot, to be written.
    pub(super) fn bytes_mut<'a>(&'a self, slot: &'a mut Slot) -> &'a mut [u8] {
        let start = self.start_of(slot);
        // SAFETY: as in `bytes`; the slot is borrowed exclusively for 'a, so nobody else reads or writes its place.
        unsafe { slice::from_raw_parts_mut(self.map.as_mut_ptr().add(start), slot.class.bytes() as usize) }
    }

    /// Bytes of pages that hold memory.
    pub(super) fn resident_bytes(&self) -> u64 {
        self.resident.load(Ordering::Relaxed)
    }

    /// Gives all free pages back to the system; how many bytes.
    pub(super) fn trim(&self) -> u64 {
        let _one_at_a_time = self.trimming.lock();
        self.classes
            .iter()
            .map(|class| {
                class.lock().age();
                self.trim_class(class)
            })
            .sum()
    }

    /// Gives back the pages that were free since the last call; whether free pages are left.
    pub(super) fn tidy(&self) -> bool {
        let _one_at_a_time = self.trimming.lock();
        let mut restless = false;
        for class in &self.classes {
            self.trim_class(class);
            let mut set = class.lock();
            set.age();
            restless |= set.is_restless();
        }
        restless
    }

    /// Whether free pages wait to be given back.
    pub(super) fn is_restless(&self) -> bool {
        self.classes.iter().any(|class| class.lock().is_restless())
    }

    /// Verifies every invariant, given class and place of all slots that blocks hold.
    ///
    /// # Errors
    /// `Corrupt`, naming the first rule that is broken.
    pub(super) fn check(&self, held: &[(Class, u64)]) -> Result<()> {
        let _no_claims_meanwhile = self.trimming.lock();
        let mut places = vec![Vec::new(); CLASSES];
        for &(class, offset) in held {
            places[class.position()].push(offset);
        }
        let mut owners = BTreeMap::new();
        let mut touched = 0;
        for (position, class) in self.classes.iter().enumerate() {
            let set = class.lock();
            set.check(&places[position])?;
            touched += set.touched_bytes();
            for slab in set.slabs() {
                if owners.insert(slab, position).is_some() {
                    return Err(broken(format!("slab {slab} belongs to two classes")));
                }
            }
        }
        self.check_spare(&owners, touched)
    }

    fn check_spare(&self, owners: &BTreeMap<u32, usize>, touched: u64) -> Result<()> {
        let spare = self.spare.lock();
        if let Some(slab) = spare.returned.keys().find(|slab| owners.contains_key(slab)) {
            return Err(broken(format!("slab {slab} is spare and in use")));
        }
        if owners.len() + spare.returned.len() != spare.next as usize {
            return Err(broken("a slab is lost".to_owned()));
        }
        let kept: u32 = spare
            .returned
            .values()
            .flatten()
            .map(|word| word.count_ones())
            .sum();
        let touched = touched + u64::from(kept) * u64::from(self.page_bytes);
        let resident = self.resident_bytes();
        if touched != resident {
            return Err(broken(format!(
                "{resident} bytes are counted as resident, {touched} are"
            )));
        }
        Ok(())
    }

    fn try_take(&self, class: Class, resident_max: impl Fn() -> u64) -> Option<Slot> {
        let mut set = self.classes[class.position()].lock();
        let mut fresh = 0;
        let offset = match set.take_warm() {
            Some(offset) => offset,
            None => {
                if !set.has_cold() {
                    let (slab, touched) = self.spare.lock().take(self.slab_count)?;
                    set.add_slab(slab, touched);
                }
                set.take_cold(|bytes| {
                    fresh = bytes;
                    bytes == 0 || self.touch(bytes, resident_max())
                })?
            }
        };
        drop(set);
        if fresh >= PREFAULT_MIN {
            self.prefault(offset, u64::from(class.bytes()));
        }
        Some(self.slot(class, offset))
    }

    fn slot(&self, class: Class, offset: u64) -> Slot {
        let unit = offset / u64::from(UNIT);
        Slot {
            unit_low: unit as u32,
            unit_high: u8::try_from(unit >> 32).expect("the largest arena has 2^40 units"),
            class,
            arena: self.id,
        }
    }

    fn touch(&self, bytes: u64, max: u64) -> bool {
        let fits = |resident: u64| resident.checked_add(bytes).filter(|&after| after <= max);
        self.resident
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .is_ok()
    }

    /// Cools what a period did not need, and gives idle pages back; how many bytes.
    fn trim_class(&self, class: &Mutex<FreeSet>) -> u64 {
        while class.lock().cool(COOL_BATCH) > 0 {}
        let mut trimmed = 0;
        loop {
            let mut set = class.lock();
            let Some(claim) = set.claim() else {
                return trimmed;
            };
            let geometry = set.geometry();
            drop(set);
            let given_back = claim.ranges(geometry).all(|range| self.give_back(range));
            let returned = class.lock().settle(&claim, given_back);
            if given_back {
                trimmed += claim.bytes(geometry);
                self.resident.fetch_sub(claim.bytes(geometry), Ordering::Relaxed);
            }
            if let Some((slab, touched)) = returned {
                self.spare.lock().returned.insert(slab, touched);
            }
        }
    }

    /// Has the system back a fresh slot with pages at once, which costs less than a fault for each.
    #[cfg(target_os = "linux")]
    fn prefault(&self, offset: u64, len: u64) {
        // Kernels before 5.14 refuse. Then the pages come when they are written to.
        let _ = self
            .map
            .advise_range(memmap2::Advice::PopulateWrite, offset as usize, len as usize);
    }

    /// Pages come when they are written to.
    #[cfg(not(target_os = "linux"))]
    fn prefault(&self, _offset: u64, _len: u64) {}

    /// Tells the system that claimed pages are not needed; whether it took them.
    #[cfg(unix)]
    fn give_back(&self, range: Range<u64>) -> bool {
        let (start, len) = (range.start as usize, (range.end - range.start) as usize);
        debug_assert!(start.is_multiple_of(self.page_bytes as usize) && start + len <= self.map.len());
        // SAFETY: the pages become zeros. They are claimed (see `slab::FreeSet::claim`): every slot on them is
        // marked taken and held by nobody, so no slice of them exists and none is made until the claim is settled.
        let advised = unsafe {
            self.map
                .unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, len)
        };
        advised.is_ok()
    }

    /// Pages stay with the process where the system knows no such advice.
    #[cfg(not(unix))]
    fn give_back(&self, _range: Range<u64>) -> bool {
        false
    }

    /// Where the slot begins in the mapping, in which it lies as a whole.
    fn start_of(&self, slot: &Slot) -> usize {
        assert_eq!({ slot.arena }, self.id, "a slot gives access to its own arena");
        let start = slot.offset() as usize;
        debug_assert!(start + slot.class.bytes() as usize <= self.map.len());
        start
    }
}

impl Spare {
    /// The lowest slab: page tables of low addresses exist already.
    fn take(&mut self, count: u32) -> Option<(u32, Pages)> {
        self.returned.pop_first().or_else(|| {
            let fresh = self.next;
            (fresh < count).then(|| {
                self.next += 1;
                (fresh, Pages::default())
            })
        })
    }
}

/// Has the C heap give back the free end of each of its parts, which [`trim_heap`] passes over, when that has grown to
/// `HEAP_TOP_MAX`. By itself the heap raises that bound up to 64 MiB.
pub(super) fn bound_heap_tops() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt(3) may be called at any time from any thread, and knows this parameter. The standard library has
    // no equivalent.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, crate::limits::HEAP_TOP_MAX);
    }
}

/// Gives unused pages of the C heap, where blocks' bookkeeping lives, back to the system.
pub(super) fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim(3) may be called at any time from any thread; it touches free heap memory only. The
    // standard library has no equivalent.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Address space for the arena: as many times the budget as the host allows.
fn reserve(size_bytes: u64, slab_bytes: u32) -> Result<MmapRaw> {
    let margin = CLASSES as u64 * u64::from(slab_bytes);
    let mut refused = None;
    for factor in RESERVE_FACTORS {
        let len = (size_bytes * factor + margin).next_multiple_of(u64::from(slab_bytes));
        let Ok(len) = usize::try_from(len) else { continue };
        match MmapOptions::new().len(len).no_reserve_swap().map_anon() {
            Ok(map) => {
                // With huge pages a small block would take 2 MiB. A kernel without them refuses the advice, which
                // is as good.
                #[cfg(target_os = "linux")]
                let _ = map.advise(memmap2::Advice::NoHugePage);
                return Ok(map.into());
            }
            Err(error) => refused = Some(error),
        }
    }
    let error = Error::new(
        ErrorKind::NoMemory,
        format!("the host refuses address space for a grid of {size_bytes} bytes: choose a smaller size"),
    );
    Err(match refused {
        Some(cause) => error.with_source(cause),
        None => error,
    })
}

fn next_id() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |id| id.checked_add(1))
        .expect("a process makes fewer than 2^32 grids")
}

/// The granule in which the system takes memory back, at least 4 KiB.
fn page_bytes() -> u32 {
    #[cfg(unix)]
    // SAFETY: sysconf(3) reads a constant of the system; the standard library does not expose it.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    #[cfg(not(unix))]
    let page = 4096;
    u32::try_from(page)
        .ok()
        .filter(|page| page.is_power_of_two() && *page <= SLAB_SIZE_MIN)
        .unwrap_or(4096)
        .max(4096)
}

fn broken(rule: String) -> Error {
    Error::new(ErrorKind::Corrupt, format!("arena: {rule}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(len: u32) -> Class {
        Class::of(len).unwrap()
    }

    #[test]
    fn slots_do_not_overlap() {
        let arena = Arena::new(8 << 20, 65536).unwrap();
        let mut slots = Vec::new();
        for round in 0..200_u32 {
            for len in [64, 100, 640, 3000, 4096, 40_000, 65_536] {
                let mut slot = arena.take(class(len), || u64::MAX).unwrap();
                arena.bytes_mut(&mut slot).fill((round * 7 + len) as u8);
                slots.push((slot, (round * 7 + len) as u8));
            }
        }
        for (slot, byte) in &slots {
            assert!(arena.bytes(slot).iter().all(|b| b == byte));
        }
        let held: Vec<_> = slots
            .iter()
            .map(|(slot, _)| (slot.class(), slot.offset()))
            .collect();
        arena.check(&held).unwrap();
        slots.into_iter().for_each(|(slot, _)| arena.put_back(slot));
        arena.check(&[]).unwrap();
        assert_eq!(arena.trim(), arena_total(&held));
        assert_eq!(arena.resident_bytes(), 0);
        arena.check(&[]).unwrap();
    }

    /// Bytes of the 4 KiB pages on which the slots lie.
    fn arena_total(held: &[(Class, u64)]) -> u64 {
        let pages: std::collections::BTreeSet<u64> = held
            .iter()
            .flat_map(|(class, offset)| offset / 4096..(offset + u64::from(class.bytes())).div_ceil(4096))
            .collect();
        pages.len() as u64 * 4096
    }

    #[test]
    fn pages_given_back_read_as_zeros() {
        let arena = Arena::new(1 << 20, 4096).unwrap();
        let mut slot = arena.take(class(4096), || u64::MAX).unwrap();
        arena.bytes_mut(&mut slot).fill(7);
        let place = slot.offset();
        arena.put_back(slot);
        assert_eq!(arena.trim(), u64::from(page_bytes()));
        let slot = arena.take(class(4096), || u64::MAX).unwrap();
        assert_eq!(slot.offset(), place);
        assert!(arena.bytes(&slot).iter().all(|&byte| byte == 0));
        arena.put_back(slot);
    }

    #[test]
    fn fresh_pages_stop_at_the_bound_after_free_ones_were_given_back() {
        let arena = Arena::new(1 << 20, 4096).unwrap();
        let max = 4 * u64::from(page_bytes());
        let take = |len| arena.take(class(len), || max);
        let small: Vec<_> = (0..4).map(|_| take(page_bytes().min(4096)).unwrap()).collect();
        assert!(arena.resident_bytes() <= max);
        small.into_iter().for_each(|slot| arena.put_back(slot));
        let other = take(64).unwrap();
        assert!(arena.resident_bytes() <= max);
        let mut kept = Vec::new();
        let error = loop {
            match take(4096) {
                Ok(slot) => kept.push(slot),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        assert!(arena.resident_bytes() <= max);
        kept.into_iter()
            .chain([other])
            .for_each(|slot| arena.put_back(slot));
        arena.check(&[]).unwrap();
    }

    #[test]
    #[should_panic(expected = "its own arena")]
    fn a_slot_is_worth_nothing_in_another_arena() {
        let one = Arena::new(1 << 20, 4096).unwrap();
        let other = Arena::new(1 << 20, 4096).unwrap();
        let slot = one.take(class(1), || u64::MAX).unwrap();
        let _ = other.bytes(&slot);
    }

    #[test]
    fn a_size_that_the_host_refuses_is_named() {
        let error = Arena::new(1 << 56, 4096).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::NoMemory);
        assert!(error.to_string().contains("72057594037927936"), "{error}");
    }
}
