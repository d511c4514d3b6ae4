//! The memory of one block: a slot of the arena and how many of its bytes are stored.

use std::mem;

use parking_lot::{RwLock, RwLockWriteGuard};

use super::arena::Slot;
use super::budget::Account;
use super::class::Class;
use super::index::{Slice, end_in_block};
use crate::Result;

/// Bytes that can be read by many and written in place by one.
///
/// Its owner passes the account that pays for it, always the same one, and closes it in the end.
pub(super) struct Memory {
    lock: RwLock<Stored>,
}

/// Protected by `Memory::lock`.
struct Stored {
    /// `None` where there is room for no byte.
    slot: Option<Slot>,
    /// Bytes stored: at most what the slot holds. What lies behind them is garbage and is never exposed.
    len: u32,
}

impl Stored {
    fn class(&self) -> Option<Class> {
        self.slot.as_ref().map(Slot::class)
    }

    fn capacity(&self) -> u32 {
        self.class().map_or(0, Class::bytes)
    }
}

impl Memory {
    /// Empty memory with room for `capacity` bytes.
    ///
    /// # Errors
    /// `NoSpace`, `QuotaExceeded`.
    pub(super) fn with_capacity(account: &Account, capacity: u32) -> Result<Self> {
        let slot = account.open_block(Class::of(capacity))?;
        Ok(Self {
            lock: RwLock::new(Stored { slot, len: 0 }),
        })
    }

    /// Memory that holds `zeros` zero bytes followed by `bytes`.
    ///
    /// # Errors
    /// `InvalidArgument` where they are more than a block holds; `NoSpace`, `QuotaExceeded`.
    pub(super) fn new(account: &Account, zeros: u32, bytes: &[u8]) -> Result<Self> {
        let len = end_in_block(zeros, bytes.len(), account.pool.block_size)?;
        let mut memory = Self::with_capacity(account, len)?;
        memory.lock.get_mut().store(account, zeros, bytes);
        if bytes.is_empty() {
            memory.lock.get_mut().extend_by_zeros(account, len);
        }
        Ok(memory)
    }

    pub(super) fn len(&self) -> u32 {
        self.lock.read().len
    }

    /// Memory that it takes.
    pub(super) fn held_bytes(&self) -> u32 {
        self.lock.read().capacity()
    }

    /// Calls `f` with the bytes of the slice, cut at the end.
    pub(super) fn read<R>(&self, account: &Account, slice: Slice, f: impl FnOnce(&[u8]) -> R) -> R {
        let stored = self.lock.read();
        match &stored.slot {
            Some(slot) => f(&account.arena().bytes(slot)[slice.cut(stored.len)]),
            None => f(&[]),
        }
    }

    /// Writes at `offset`; what lies between the old end and `offset` becomes zeros. Without bytes nothing changes.
    ///
    /// # Errors
    /// `InvalidArgument` behind the block size; `NoSpace`, `QuotaExceeded`. Nothing has changed then.
    pub(super) fn write(&self, account: &Account, offset: u32, bytes: &[u8]) -> Result<()> {
        let block_size = account.pool.block_size;
        let end = end_in_block(offset, bytes.len(), block_size)?;
        if bytes.is_empty() {
            return Ok(());
        }
        let mut stored = self.lock.write();
        if end > stored.capacity() {
            let keep = stored.len.min(offset);
            let wanted = generous(&stored, offset, end).min(block_size);
            stored
                .move_to(account, wanted, keep)
                .or_else(|_| stored.move_to(account, end, keep))?;
        }
        stored.store(account, offset, bytes);
        Ok(())
    }

    /// Makes room for `capacity` bytes, so that writes up to there cannot fail.
    ///
    /// # Errors
    /// `NoSpace`, `QuotaExceeded`.
    pub(super) fn reserve(&self, account: &Account, capacity: u32) -> Result<()> {
        let mut stored = self.lock.write();
        if capacity > stored.capacity() {
            let keep = stored.len;
            stored.move_to(account, capacity, keep)?;
        }
        Ok(())
    }

    /// Cuts to `len` bytes if it is longer, and in any case to the smallest class that holds what is left. Where no
    /// slot of that class can be had it keeps the one it has.
    pub(super) fn truncate(&self, account: &Account, len: u32) {
        let mut stored = self.lock.write();
        if len < stored.len {
            account.exchange_stored(stored.len, len);
            stored.len = len;
        }
        let keep = stored.len;
        if Class::of(keep) != stored.class() {
            // The larger slot is as good but for its size.
            let _ = stored.move_to(account, keep, keep);
        }
    }

    /// Moves to a lower page if the slot shares its page with others and one is free below, unless the memory is in
    /// use just now. Once all blocks have done so, pages that were partly in use are free.
    pub(super) fn compact(&self, account: &Account) {
        let Some(mut stored) = self.lock.try_write() else {
            return;
        };
        let arena = account.arena();
        let keep = stored.len as usize;
        let lower = stored.slot.as_ref().and_then(|slot| arena.take_lower(slot));
        if let Some(mut lower) = lower {
            if let Some(old) = stored.slot.take() {
                arena.bytes_mut(&mut lower)[..keep].copy_from_slice(&arena.bytes(&old)[..keep]);
                arena.leave(old);
            }
            stored.slot = Some(lower);
        }
    }

    /// Returns everything to the account. To be called once, last.
    pub(super) fn close(&mut self, account: &Account) {
        let stored = self.lock.get_mut();
        account.close_block(stored.slot.take(), mem::take(&mut stored.len));
    }

    /// Length, and class and place of the slot.
    pub(super) fn survey(&self) -> (u32, Option<(Class, u64)>) {
        let stored = self.lock.read();
        let place = stored.slot.as_ref().map(|slot| (slot.class(), slot.offset()));
        (stored.len, place)
    }
}

/// Room for a write up to `end`: some more where bytes are appended, so that a sequence of small appends copies each
/// byte only a few times.
fn generous(stored: &RwLockWriteGuard<'_, Stored>, offset: u32, end: u32) -> u32 {
    const WORTH_IT: u32 = 4096;
    if stored.len >= WORTH_IT && offset == stored.len {
        end.max(stored.len + stored.len / 2)
    } else {
        end
    }
}

impl Stored {
    /// Moves the first `keep` bytes to a slot for `capacity` bytes. The length stays: the caller stores the rest.
    fn move_to(&mut self, account: &Account, capacity: u32, keep: u32) -> Result<()> {
        let keep = keep as usize;
        match Class::of(capacity) {
            Some(class) => {
                let mut slot = account.take_slot(class, self.class())?;
                if let Some(old) = self.slot.take() {
                    let bytes = &account.arena().bytes(&old)[..keep];
                    account.arena().bytes_mut(&mut slot)[..keep].copy_from_slice(bytes);
                    account.return_replaced(old);
                }
                self.slot = Some(slot);
            }
            None => {
                if let Some(old) = self.slot.take() {
                    account.return_slot(old);
                }
            }
        }
        Ok(())
    }

    /// Stores bytes for which there is room.
    fn store(&mut self, account: &Account, offset: u32, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.extend_by_zeros(account, offset);
        let slot = self.slot.as_mut().expect("there is room for at least one byte");
        let range = offset as usize..offset as usize + bytes.len();
        let end = offset + bytes.len() as u32;
        account.arena().bytes_mut(slot)[range].copy_from_slice(bytes);
        self.extend(account, end);
    }

    /// Makes everything from the old end up to `end` zeros; there is room for it.
    fn extend_by_zeros(&mut self, account: &Account, end: u32) {
        if end > self.len {
            let slot = self.slot.as_mut().expect("there is room for at least one byte");
            account.arena().bytes_mut(slot)[self.len as usize..end as usize].fill(0);
            self.extend(account, end);
        }
    }

    fn extend(&mut self, account: &Account, end: u32) {
        if end > self.len {
            account.exchange_stored(self.len, end);
            self.len = end;
        }
    }
}
