//! How a block is sealed, shared and opened again.
//!
//! ```text
//!           watch (its bytes are read)        seal (nobody has opened it since)
//!   open ───────────────────────────> watched ─────────────────────────────────> sealed
//!    ^                                   |                                         |
//!    └───────────────── open (its only handle is about to be written to) ──────────┘
//! ```
//!
//! **Why nobody writes to bytes that others have come to share.**
//!
//! 1. A block is written to only through its one handle, and only after [`Block::open`] has said so, under the lock of
//!    the content that holds the handle. So it does not change while a second handle exists that was cloned from that
//!    content under its lock; and it has not changed since it was watched, while the mark is there and it was not opened
//!    in between: others may have watched it anew.
//! 2. [`Block::seal`] is called under that lock too, and looks for both: the hash belongs to the bytes.
//! 3. A sealed block gets another handle in two ways. From its own content: then the lock of that content is held. Or
//!    by its hash: then the handle is cloned under the lock of the hash's shard.
//! 4. `open` first takes the block out of its shard, under the shard's lock, and only then believes that its handle is
//!    the only one. Whoever found the block before has a handle, which `open` sees; whoever comes later does not find it.
//!
//! **Why bytes are compared** though blake3 alone would do: it takes a tenth of the time that the hash took
//! (`examples/seal_speed.rs`), lets the table do with 64 bits of the hash, and no mistake here and no flipped bit can
//! then give a file the bytes of another.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use super::block::{Block, Home, Lent, Pin};
use super::index::{BlockIndex, Slice};
use super::namespace::Namespace;
use super::seal::{BlockHash, Bucket, Entered};
use crate::limits::BLOCK_INDEX_BITS;
use crate::{Error, ErrorKind, Result};

/// The block was read, and not opened since.
const WATCHED: u64 = 1 << BLOCK_INDEX_BITS;
/// The block is among the seals of its home.
const SEALED: u64 = 2 << BLOCK_INDEX_BITS;
/// What lies above the marks counts how often a marked block was opened; it wraps around.
const OPENED: u64 = 4 << BLOCK_INDEX_BITS;

/// What a reader knows a block by that it has watched: another reader's mark does not count for it.
///
/// It is wrong only after exactly as many openings as the count has values, each after a watch of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    opened: u64,
}

/// What became of a block that was to be sealed.
#[derive(Debug)]
pub enum Sealing {
    /// It is sealed: others that are equal will find it.
    Sealed,
    /// A sealed block holds the same bytes: to be held in its place.
    Equal(Block),
    /// It stays open: it was opened since it was watched, there is no room for its seal, or another block has its hash.
    Open,
}

impl Block {
    /// Whether the block is sealed. A `true` holds while the content that the handle belongs to is locked.
    pub fn is_sealed(&self) -> bool {
        self.has(SEALED)
    }

    /// Whether the block was not opened since this watch began.
    pub fn is_watched(&self, watch: Watch) -> bool {
        let state = self.0.state.load(Ordering::Relaxed);
        state & WATCHED != 0 && state / OPENED == watch.opened
    }

    /// Notes that the bytes are going to be read in order to seal them. To be called with a handle that keeps the block
    /// from being opened, and to be kept until they are read.
    pub fn watch(&self) -> Watch {
        let state = self.0.state.fetch_or(WATCHED, Ordering::Relaxed);
        Watch {
            opened: state / OPENED,
        }
    }

    /// Makes the block writable in place if this is its only handle; returns whether it is, which then holds until the
    /// handle is cloned. A block that is writable is not sealed.
    ///
    /// As for [`Block::is_shared`], the grid's own holds do not count.
    pub fn open(&self) -> bool {
        if self.is_shared() {
            return false;
        }
        // What was done to the block before the other handles went, sealing above all, is seen from here on.
        fence(Ordering::Acquire);
        let marks = self.0.state.load(Ordering::Relaxed) & (WATCHED | SEALED);
        marks == 0 || self.open_marked(marks)
    }

    fn open_marked(&self, marks: u64) -> bool {
        self.0.state.fetch_add(OPENED, Ordering::Relaxed);
        self.0.state.fetch_and(!WATCHED, Ordering::Relaxed);
        if marks & SEALED != 0 {
            let home = &self.0.home;
            home.seals
                .take_out(home.bucket(self.index()), Arc::as_ptr(&self.0));
            self.0.state.fetch_and(!SEALED, Ordering::Relaxed);
            home.account.unseal_block();
        }
        !self.is_shared()
    }

    /// Seals a block of these bytes, or finds an equal one that is sealed. The caller has read the bytes of which this is
    /// the hash after the watch began, and holds the lock under which the handle's content is changed.
    pub fn seal(&self, watch: Watch, hash: BlockHash) -> Sealing {
        if self.is_sealed() {
            return Sealing::Sealed;
        }
        let home = &self.0.home;
        // The look-up is one of the grid's own until the bytes have turned out to be equal. It ends after it.
        let _hold = home.hold();
        let present = match home.seals.find(hash) {
            Some(present) => present,
            None if !self.is_watched(watch) || !home.account.seal_block() => return Sealing::Open,
            None => match home.seals.enter(hash, &self.0) {
                Entered::Fresh(bucket) => return self.sealed_in(bucket),
                Entered::Present(present) => {
                    home.account.unseal_block();
                    present
                }
            },
        };
        if Arc::ptr_eq(&present, &self.0) {
            // Another content that shares the block is sealing it just now.
            return Sealing::Sealed;
        }
        let present = Block(present);
        match self.is_watched(watch) && self.equals(&present) {
            true => Sealing::Equal(present),
            false => Sealing::Open,
        }
    }

    /// Ends the sealing of a block that was entered.
    fn sealed_in(&self, bucket: Bucket) -> Sealing {
        self.0.home.set_bucket(self, bucket);
        self.0.state.fetch_or(SEALED, Ordering::Release);
        // It does not grow any more: room for bytes to be appended goes back.
        self.truncate(u32::MAX);
        Sealing::Sealed
    }

    /// Whether two blocks hold the same bytes. Both are locked for reading, in the order of their indexes.
    fn equals(&self, other: &Self) -> bool {
        let (first, second) = match self.index() < other.index() {
            true => (self, other),
            false => (other, self),
        };
        first.read(Slice::ALL, |bytes| {
            second.read(Slice::ALL, |others| bytes == others)
        })
    }

    fn has(&self, mark: u64) -> bool {
        self.0.state.load(Ordering::Relaxed) & mark != 0
    }
}

impl Lent {
    /// Takes the seal of a block away that ends.
    pub(super) fn end_seal(&mut self, bucket: Bucket) {
        if *self.state.get_mut() & SEALED != 0 {
            self.home.seals.take_out(bucket, self);
            self.home.account.unseal_block();
        }
    }
}

/// Verifies the seals of a namespace: each sealed block is entered under the hash of its bytes. Others may work
/// meanwhile.
///
/// # Errors
/// `Corrupt`.
pub(super) fn check(namespace: &Namespace) -> Result<()> {
    let home = &namespace.home;
    let mut broken = None;
    home.each_block(|pin| {
        if let Some(block) = pin.lent().filter(|block| block.is_sealed())
            && !is_entered_rightly(home, block)
        {
            broken = Some(block.index());
        }
    });
    match broken {
        None => Ok(()),
        Some(index) => Err(wrong_seal(namespace.name(), index)),
    }
}

/// Whether a sealed block is entered under its hash, or was being opened while that was looked at. That there are as many
/// entries as sealed blocks is counted elsewhere.
fn is_entered_rightly(home: &Home, block: &Block) -> bool {
    let entered = || {
        home.seals
            .hash_of(home.bucket(block.index()), Arc::as_ptr(&block.0))
    };
    let before = entered();
    let hash = block.read(Slice::ALL, BlockHash::of);
    let after = entered();
    before != after || after.is_none_or(|entered| entered == hash)
}

fn wrong_seal(namespace: &str, index: BlockIndex) -> Error {
    let index = index.get();
    Error::new(
        ErrorKind::Corrupt,
        format!("{namespace}: block {index} is not sealed under the hash of its bytes"),
    )
}

/// Whether a block that a walk has found is sealed.
pub(super) fn is_sealed(pin: &Pin<'_>) -> bool {
    pin.lent().is_some_and(Block::is_sealed)
}

#[cfg(test)]
mod tests {
    use super::super::{Grid, GridConfig};
    use super::*;
    use crate::limits::{SEAL_COST, SEAL_SHARE};
    use std::sync::atomic::AtomicBool;
    use std::thread;

    fn namespace(size_bytes: u64) -> (Arc<Grid>, Arc<Namespace>) {
        let grid = Grid::new(GridConfig::with_size(size_bytes)).unwrap();
        let namespace = grid.create_namespace("test", None).unwrap();
        (grid, namespace)
    }

    /// A block of these bytes that was watched, and how to seal it.
    fn watched(namespace: &Arc<Namespace>, bytes: &[u8]) -> (Block, (Watch, BlockHash)) {
        let block = namespace.new_block(0, bytes).unwrap();
        let watch = block.watch();
        (block, (watch, BlockHash::of(bytes)))
    }

    fn seal(block: &Block, (watch, hash): (Watch, BlockHash)) -> Sealing {
        block.seal(watch, hash)
    }

    fn sealed(namespace: &Arc<Namespace>, bytes: &[u8]) -> Block {
        let (block, hash) = watched(namespace, bytes);
        assert!(matches!(seal(&block, hash), Sealing::Sealed));
        block
    }

    #[test]
    fn an_equal_block_is_found_as_long_as_it_is_sealed() {
        let (grid, namespace) = namespace(1 << 20);
        let empty = namespace.usage();
        let first = sealed(&namespace, &[7; 5000]);
        assert!(first.is_sealed() && !first.is_shared());
        assert_eq!(namespace.usage().sealed_blocks, 1);
        let (second, hash) = watched(&namespace, &[7; 5000]);
        match seal(&second, hash) {
            Sealing::Equal(equal) => assert_eq!(equal.index(), first.index()),
            other => panic!("it is {other:?}"),
        }
        assert!(!second.is_sealed() && !first.is_shared());
        grid.check().unwrap();
        assert!(first.open() && !first.is_sealed());
        first.write(0, b"other").unwrap();
        assert!(matches!(seal(&second, hash), Sealing::Sealed));
        grid.check().unwrap();
        drop((first, second));
        assert_eq!(namespace.usage(), empty, "seals end with their blocks");
        grid.check().unwrap();
    }

    #[test]
    fn what_was_opened_since_it_was_read_stays_open() {
        let (_grid, namespace) = namespace(1 << 20);
        let (block, hash) = watched(&namespace, &[1; 4096]);
        assert!(block.open() && !block.is_watched(hash.0));
        block.write(9, &[2]).unwrap();
        assert!(matches!(seal(&block, hash), Sealing::Open));
        let equal = sealed(&namespace, &[1; 4096]);
        assert!(matches!(seal(&block, hash), Sealing::Open), "it has other bytes");
        assert!(equal.is_sealed() && !block.is_sealed());
    }

    #[test]
    fn a_shared_block_is_sealed_and_not_opened() {
        let (grid, namespace) = namespace(1 << 20);
        let block = sealed(&namespace, &[1; 4096]);
        let other = block.clone();
        assert!(!block.open() && block.is_sealed());
        drop(other);
        assert!(block.open() && !block.is_sealed());
        let (block, hash) = watched(&namespace, &[3; 4096]);
        let other = block.clone();
        assert!(matches!(seal(&other, hash), Sealing::Sealed));
        assert!(
            matches!(seal(&block, hash), Sealing::Sealed),
            "by the other handle"
        );
        grid.check().unwrap();
    }

    #[test]
    fn blocks_of_one_hash_with_other_bytes_are_not_shared() {
        let (grid, namespace) = namespace(1 << 20);
        let (first, hash) = watched(&namespace, &[1; 4096]);
        assert!(matches!(seal(&first, hash), Sealing::Sealed));
        let (second, _) = watched(&namespace, &[2; 4096]);
        assert!(matches!(seal(&second, hash), Sealing::Open));
        grid.check().unwrap();
    }

    #[test]
    fn the_check_finds_a_block_that_is_not_what_its_seal_says() {
        let (grid, namespace) = namespace(1 << 20);
        let (block, (watch, _)) = watched(&namespace, &[1; 4096]);
        let other = BlockHash::of(b"other");
        assert!(matches!(block.seal(watch, other), Sealing::Sealed));
        let found = grid.check().unwrap_err();
        assert_eq!(found.kind(), ErrorKind::Corrupt);
        assert!(found.to_string().contains("not sealed under the hash"), "{found}");
    }

    #[test]
    fn seals_keep_to_their_share_of_the_budget() {
        let (grid, namespace) = namespace(1 << 20);
        let most = (1 << 20) / SEAL_SHARE / SEAL_COST;
        let blocks: Vec<_> = (0..most)
            .map(|number| sealed(&namespace, &number.to_le_bytes()))
            .collect();
        let (block, hash) = watched(&namespace, b"one more");
        assert!(matches!(seal(&block, hash), Sealing::Open));
        let (equal, hash) = watched(&namespace, &0_u64.to_le_bytes());
        assert!(
            matches!(seal(&equal, hash), Sealing::Equal(_)),
            "that needs no entry"
        );
        drop((equal, blocks));
        let (block, hash) = watched(&namespace, b"now there is room");
        assert!(matches!(seal(&block, hash), Sealing::Sealed));
        namespace.set_quota(Some(0));
        assert!(matches!(seal(&block.clone(), hash), Sealing::Sealed));
        grid.check().unwrap();
    }

    #[test]
    fn who_found_a_block_never_sees_it_written_to() {
        const FOUND: usize = 20_000;
        const BYTES: [u8; 128] = [7; 128];
        let (grid, namespace) = namespace(1 << 20);
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let (block, hash) = watched(&namespace, &BYTES);
                    seal(&block, hash);
                    if block.open() {
                        block.write(0, &[8; 128]).unwrap();
                    }
                }
            });
            let mut found = 0;
            let mut rightly = true;
            while found < FOUND && rightly {
                let (block, hash) = watched(&namespace, &BYTES);
                match seal(&block, hash) {
                    Sealing::Equal(equal) => {
                        rightly = (0..20).all(|_| equal.read(Slice::ALL, |bytes| bytes == BYTES));
                        found += 1;
                    }
                    Sealing::Sealed | Sealing::Open => drop(block),
                }
            }
            over.store(true, Ordering::Relaxed);
            assert!(rightly, "it was written to after {found} were found");
        });
        grid.check().unwrap();
    }

    #[test]
    fn a_sealed_block_gives_back_what_it_had_to_grow() {
        let (_grid, namespace) = namespace(1 << 20);
        let block = namespace.new_block(0, &[5; 20_000]).unwrap();
        block.write(20_000, &[5; 5_000]).unwrap();
        assert!(block.held_bytes() > 28 << 10);
        let watch = block.watch();
        let hash = block.read(Slice::ALL, BlockHash::of);
        assert!(matches!(block.seal(watch, hash), Sealing::Sealed));
        assert_eq!(block.held_bytes(), 28 << 10);
    }
}
