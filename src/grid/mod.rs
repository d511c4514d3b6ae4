//! The grid: sparse arrays of memory blocks, under one budget. It knows no files.
//!
//! A [`Grid`] has [`Namespace`]s; a namespace has blocks of up to `block_size` bytes at 48-bit indexes. A block is
//! *kept* under its index ([`Namespace::put`], [`Namespace::get`]), or *lent* to the holders of a counted handle
//! ([`Namespace::new_block`], [`Block`]).
//!
//! ```text
//! Grid ── Namespace ── Home ──┬── Shards: index ─> kept block, or weak reference to a lent one
//!   │                         ├── Seals: hash ─> weak reference to a sealed block
//!   │                         └── Account: quota and figures
//!   │                                 │
//!   └── Janitor ────────────────── Pool: budget, Arena: slabs of slots by size class
//! ```
//!
//! **Lock order**, from first to last; whoever holds one takes only locks below it:
//!
//! ```text
//! namespace table      Grid::namespaces
//! records              Namespace::records         swapping or finding the blocks of a record
//! compacting           Pool::compacting           one thread brings small blocks together at a time
//! holds                Home::holds                shared with the grid's own handles on lent blocks; exclusive, with
//!                                                 nothing below it, to tell whether a block has others
//! index shard          Shards                     one at a time; never while a block is dropped
//! seal shard           Seals                      one at a time, beside no index shard; never while a block is dropped
//! block                Memory::lock               copies of at most a block under it; compacting only tries it
//! trimming             Arena::trimming            one thread gives pages back at a time
//! size class           Arena::classes             one at a time
//! spare slabs          Arena::spare
//! budget, figures      atomics, no lock
//! ```
//!
//! The janitor's bell is rung with no lock of the arena held. Dropping the last handle of a block takes its index
//! shard, so handles are dropped with no shard held: what an edit of the index map takes out, it passes on.

mod apart;
mod arena;
mod bell;
mod bits;
mod block;
mod budget;
mod charge;
mod check;
mod class;
mod codec;
mod figures;
#[allow(clippy::module_inception)]
mod grid;
mod heap;
mod index;
mod janitor;
mod memory;
mod namespace;
mod press;
mod record;
mod seal;
mod sealing;
mod shards;
mod slab;

pub use block::Block;
pub use budget::Usage;
pub use charge::Charge;
pub use class::class_bytes;
pub use codec::Codec;
pub use grid::{Grid, GridConfig};
pub use index::{BlockIndex, Slice};
pub use namespace::Namespace;
pub use press::Press;
pub use seal::BlockHash;
pub use sealing::{Sealing, Watch};
