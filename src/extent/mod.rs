//! Content: the bytes of a file as a copy-on-write map of extents. It knows no names.
//!
//! ```text
//! file    |0        |4096     |8192     |12288    |16384    |20480   | length 23000
//!         |====A=========|    |         |=B==|    |====C=============|
//! extent   A: start 0, len 6000     B: start 12288, len 2000     C: start 16384, len 6616
//! ```
//!
//! An extent is a run of the file's bytes in one block. It begins at a page and may end anywhere; no page holds bytes
//! of two extents, and what no extent covers is a hole of zeros (the rest of the page in which an extent ends, too).
//! The numbered invariants stand beside the fields of [`Content`] and are verified by [`Content::check`].
//!
//! ```text
//! content.rs  length, extents, accounting, check; cutting, on which every other file builds
//! write.rs    writing            hole.rs  punching, allocating, zeroing, seeking
//! read.rs     pinned reads       clip.rs  copying between contents
//! diff.rs     where two contents differ          equal.rs  what is equal in both, held once
//! merge.rs    neighbours brought together in one block
//! seal.rs     equal blocks held once          press.rs  blocks held compressed
//! map.rs      extents by offset, in nodes (node.rs) that clones share, and an overlay (overlay.rs) for what differs
//! run.rs      one extent         data.rs  bytes or zeros on their way into a block
//! ```
//!
//! **Private and shared.** A block with one handle belongs to one extent: it is opened, if it was sealed, to be written
//! in place, and cut when the extent is cut. A block with several handles (of other contents, of other extents of this
//! one, of readers) is never written to: a write puts the pages that it touches into a new block, and the bytes before and behind them go on
//! sharing the old one. Map nodes are shared between contents as well, so handles count only where the way to the
//! extent is private, which `Map::exclusive_mut` finds out and `Map::at_or_before_mut` brings about.
//!
//! **Garbage.** A block may be longer than the extent's slice of it: what was cut from a shared extent stays in the
//! block. So an extent never grows over bytes that are in the block already: the block is cut to the slice first.

mod clip;
mod content;
mod data;
mod diff;
mod equal;
mod hole;
mod map;
mod merge;
mod node;
mod overlay;
mod press;
mod read;
mod run;
mod seal;
mod write;

#[cfg(test)]
mod tests;

pub use clip::Clip;
pub use content::Content;
pub use diff::Differences;
pub use equal::Shared;
pub use merge::Merged;
pub use press::{Compressible, Packed};
pub use read::ReadPlan;
pub use seal::{Reading, SealWalk, Settled, Unsealed};
