//! The memory of one block: a slot of the arena and how many of its bytes are stored.

use std::mem;
use std::ops::Range;

use parking_lot::{RwLock, RwLockWriteGuard};

use super::arena::Slot;
use super::budget::Account;
use super::class::{Class, class_bytes};
use super::figures::Compressed;
use super::index::{Slice, end_in_block};
use super::press::{self, Packed, Pressed};
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
    /// How the slot holds the bytes; plain where there is none.
    form: Form,
    /// Bytes stored: at most what the slot holds, or what its packed bytes stand for. What lies behind them is garbage
    /// and is never exposed.
    len: u32,
}

/// How a slot holds bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    /// Plain, and since they last changed it was found that compressing them does not pay.
    Incompressible,
    /// As [`press`] lays them out. They are read by unpacking them, and become plain before they change; only their
    /// number may become less.
    Compressed,
}

/// What a look at memory finds.
pub(super) struct Survey {
    pub(super) len: u32,
    /// Class and place of the slot.
    pub(super) slot: Option<(Class, u64)>,
    /// What it adds to the figures of compressed blocks.
    pub(super) compressed: Compressed,
}

impl Memory {
    /// Empty memory with room for `capacity` bytes.
    ///
    /// # Errors
    /// `NoSpace`, `QuotaExceeded`.
    pub(super) fn with_capacity(account: &Account, capacity: u32) -> Result<Self> {
        let slot = account.open_block(Class::of(capacity))?;
        Ok(Self {
            lock: RwLock::new(Stored {
                slot,
                form: Form::Plain,
                len: 0,
            }),
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
        stored.view(account, |bytes| f(&bytes[slice.cut(stored.len)]))
    }

    /// Writes at `offset`; what lies between the old end and `offset` becomes zeros. Without bytes nothing changes.
    /// Compressed bytes become plain.
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
        if end > stored.room() {
            let least = end.max(stored.len);
            let keep = if end < stored.len {
                stored.len
            } else {
                stored.len.min(offset)
            };
            let wanted = generous(&stored, offset, least).min(block_size);
            stored
                .move_to(account, wanted, keep)
                .or_else(|_| stored.move_to(account, least, keep))?;
        }
        stored.store(account, offset, bytes);
        Ok(())
    }

    /// Makes room for `capacity` bytes, so that writes up to there cannot fail until it is compressed.
    ///
    /// # Errors
    /// `NoSpace`, `QuotaExceeded`.
    pub(super) fn reserve(&self, account: &Account, capacity: u32) -> Result<()> {
        let mut stored = self.lock.write();
        if capacity > stored.room() {
            let keep = stored.len;
            stored.move_to(account, capacity.max(keep), keep)?;
        }
        Ok(())
    }

    /// Makes compressed bytes plain, so that writing over them cannot fail until they are compressed again.
    ///
    /// # Errors
    /// `NoSpace`, `QuotaExceeded`.
    pub(super) fn expand(&self, account: &Account) -> Result<()> {
        // Asked first, so that plain bytes can be read meanwhile.
        if self.lock.read().form == Form::Compressed {
            self.reserve(account, 1)?;
        }
        Ok(())
    }

    /// Cuts to `len` bytes if it is longer, and in any case to the smallest class that holds what is left. Where no
    /// slot of that class can be had it keeps the one it has; so it does where that is smaller, being compressed.
    pub(super) fn truncate(&self, account: &Account, len: u32) {
        self.lock.write().cut(account, len);
    }

    /// Cuts to the bytes of the slice, which are no more than there are, and moves them to the front; whether there
    /// was memory to do so, which only compressed bytes need.
    pub(super) fn keep(&self, account: &Account, slice: Slice) -> bool {
        let mut stored = self.lock.write();
        let part = slice.cut(stored.len);
        let len = part.len() as u32;
        if stored.form == Form::Compressed {
            if stored.move_part(account, len, part).is_err() {
                return false;
            }
        } else if let Some(slot) = &mut stored.slot {
            account.arena().bytes_mut(slot).copy_within(part, 0);
            stored.form = Form::Plain;
        }
        stored.cut(account, len);
        true
    }

    /// Whether it may be worth to compress the bytes, and has not been tried since they changed.
    pub(super) fn is_compressible(&self) -> bool {
        let stored = self.lock.read();
        stored.form == Form::Plain && press::may_pay(stored.len)
    }

    /// Stores the compressed form of the bytes if these are the ones that went into the press, or notes that there is
    /// none worth it. Returns whether they are stored compressed now; not where the memory is in use just now, or no
    /// slot can be had.
    pub(super) fn compress(&self, account: &Account, pressed: Pressed<'_>) -> bool {
        // Those who come to read are not held up by somebody who waits for those who do.
        let Some(mut stored) = self.lock.try_write() else {
            return false;
        };
        if stored.form != Form::Plain || !stored.view(account, |bytes| bytes == pressed.plain) {
            return false;
        }
        match pressed.packed {
            Some(packed) => stored.pack(account, packed).is_ok(),
            None => {
                stored.form = Form::Incompressible;
                false
            }
        }
    }

    /// Moves to a lower page if the slot shares its page with others and one is free below, unless the memory is in
    /// use just now. Once all blocks have done so, pages that were partly in use are free.
    pub(super) fn compact(&self, account: &Account) {
        let Some(mut stored) = self.lock.try_write() else {
            return;
        };
        let arena = account.arena();
        let lower = stored.slot.as_ref().and_then(|slot| arena.take_lower(slot));
        if let Some(mut lower) = lower {
            if let Some(old) = stored.slot.take() {
                arena.bytes_mut(&mut lower).copy_from_slice(arena.bytes(&old));
                arena.leave(old);
            }
            stored.slot = Some(lower);
        }
    }

    /// Returns everything to the account. To be called once, last.
    pub(super) fn close(&mut self, account: &Account) {
        let stored = self.lock.get_mut();
        account.exchange_compressed(stored.compressed(), Compressed::default());
        account.close_block(stored.slot.take(), mem::take(&mut stored.len));
    }

    /// Looks at everything but the bytes.
    pub(super) fn survey(&self) -> Survey {
        let stored = self.lock.read();
        Survey {
            len: stored.len,
            slot: stored.slot.as_ref().map(|slot| (slot.class(), slot.offset())),
            compressed: stored.compressed(),
        }
    }

    /// Whether the slot has all bytes; unpacks them where they are compressed.
    pub(super) fn is_whole(&self, account: &Account) -> bool {
        let stored = self.lock.read();
        let packed = stored.slot.as_ref().filter(|_| stored.form == Form::Compressed);
        packed.map_or(stored.len <= stored.capacity(), |slot| {
            press::holds(account.arena().bytes(slot), stored.len, account.pool.block_size)
        })
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
    fn class(&self) -> Option<Class> {
        self.slot.as_ref().map(Slot::class)
    }

    fn capacity(&self) -> u32 {
        self.class().map_or(0, Class::bytes)
    }

    /// Bytes that can be stored where they are.
    fn room(&self) -> u32 {
        match self.form {
            Form::Plain | Form::Incompressible => self.capacity(),
            Form::Compressed => 0,
        }
    }

    /// What it adds to the figures of compressed blocks.
    fn compressed(&self) -> Compressed {
        match self.form {
            Form::Plain | Form::Incompressible => Compressed::default(),
            Form::Compressed => Compressed {
                blocks: 1,
                plain_bytes: u64::from(class_bytes(self.len)),
                held_bytes: u64::from(self.capacity()),
            },
        }
    }

    /// Calls `f` with the bytes.
    fn view<R>(&self, account: &Account, f: impl FnOnce(&[u8]) -> R) -> R {
        let Some(slot) = &self.slot else {
            return f(&[]);
        };
        let (bytes, len) = (account.arena().bytes(slot), self.len as usize);
        match self.form {
            Form::Plain | Form::Incompressible => f(&bytes[..len]),
            Form::Compressed => press::unpack(bytes, account.pool.block_size, |bytes| f(&bytes[..len])),
        }
    }

    /// Moves the first `keep` bytes to a slot for `capacity` bytes, where they are plain. The length stays: the caller
    /// stores the rest.
    fn move_to(&mut self, account: &Account, capacity: u32, keep: u32) -> Result<()> {
        self.move_part(account, capacity, 0..keep as usize)
    }

    /// As `move_to`, with bytes from anywhere.
    fn move_part(&mut self, account: &Account, capacity: u32, part: Range<usize>) -> Result<()> {
        let before = self.compressed();
        match Class::of(capacity) {
            Some(class) => {
                let mut slot = account.take_slot(class, self.class())?;
                if !part.is_empty() {
                    let kept = &mut account.arena().bytes_mut(&mut slot)[..part.len()];
                    self.view(account, |bytes| kept.copy_from_slice(&bytes[part]));
                }
                if let Some(old) = self.slot.replace(slot) {
                    account.return_replaced(old);
                }
            }
            None => {
                if let Some(old) = self.slot.take() {
                    account.return_slot(old);
                }
            }
        }
        self.form = Form::Plain;
        account.exchange_compressed(before, self.compressed());
        Ok(())
    }

    /// Puts the compressed form in the place of the plain bytes.
    fn pack(&mut self, account: &Account, packed: Packed<'_>) -> Result<()> {
        let mut slot = account.take_slot(packed.class(), self.class())?;
        packed.lay_out(account.arena().bytes_mut(&mut slot));
        if let Some(old) = self.slot.replace(slot) {
            account.return_replaced(old);
        }
        self.form = Form::Compressed;
        account.exchange_compressed(Compressed::default(), self.compressed());
        Ok(())
    }

    /// As [`Memory::truncate`].
    fn cut(&mut self, account: &Account, len: u32) {
        if len < self.len {
            let before = self.compressed();
            account.exchange_stored(self.len, len);
            self.len = len;
            account.exchange_compressed(before, self.compressed());
        }
        let keep = self.len;
        let fits = match self.form {
            Form::Plain | Form::Incompressible => Class::of(keep) == self.class(),
            Form::Compressed => self.capacity() < class_bytes(keep),
        };
        if !fits {
            // The larger slot is as good but for its size.
            let _ = self.move_to(account, keep, keep);
        }
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
        self.form = Form::Plain;
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
