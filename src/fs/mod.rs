//! The local filesystem: POSIX semantics over extents, one file per concern.
//!
//! ```text
//! operations.rs  the Vfs trait, spread over the files below
//! volume.rs      the volume: construction, totals
//! table.rs       inode number -> inode; look-up counts; what dies when
//! inode.rs       an inode: attributes under one lock, body by kind
//! directory.rs   a directory's entries: by name, and in the order of their cookies
//! names.rs       lookup, create, link, unlink, rmdir, readdir
//! rename.rs      rename with its three modes
//! attributes.rs  chmod, chown, truncate, utimens
//! file.rs        read, write, fallocate, seek, copy
//! compare.rs     where two files differ, and pages of theirs that are equal
//! looks.rs       who compares gives way to writers on a full volume
//! sealer.rs      deduplication behind the writers: backlog.rs has what waits for it, dedup.rs when it is wanted
//! compressor.rs  blocks of files left alone are held compressed
//! defrag.rs      what writes have shattered becomes whole again
//! xattr.rs       extended attributes        acl.rs  POSIX ACLs, which live in two of them
//! xattr_store.rs both of their storage
//! inode/change.rs  the gate: the only way to change an inode, which keeps it for the newest snapshot first
//! snapshot/      what is kept, and how it is shown
//! usage.rs       what files take, and what of it they share
//! check.rs       proof that all of it fits together
//! ```
//!
//! # Lock order
//! ```text
//! managing (Volume)    one of these at a time: making, deleting, cloning and going back to a snapshot, the check, the
//!    |                 usage, the look for scattered files
//!    |
//! snapshots (Volume)   shared: an operation that changes something, or reads a snapshot
//!    |                 exclusive: a snapshot comes or goes, or is gone back to, and the check
//!    |
//! structure (Volume)   shared: an operation that changes names or charges metadata
//!    |                 exclusive: a rename between two directories, going back to a snapshot, and the check
//! entries (Directory)  ancestor before descendant; two unrelated ones only under the exclusive structure lock
//!    |
//! table shard          held only inside a call of the table
//!    |
//! meta (Inode)         one at a time
//!    |
//! content (Inode)      one at a time
//!    |
//! readers (Inode)      shared while bytes are copied out; below it come the grid's locks
//!
//! entries, meta -> records shard (History) -> lost entries (Record) -> list of records (Snapshot)
//! ```
//! Reading and seeking take none of the first four. Writing and preallocating pass the gate, which is `snapshots`, and
//! take `structure` only for the moment in which the inode is kept; the nodes of extent maps are charged without it.
//! Sealing passes the gate for each block, with `meta` and `content` for the moment in which the block is settled, and
//! merging for each region. Compressing passes it too, with `content` shared, for the moment in which a block's memory
//! is swapped.

mod acl;
mod agree;
mod attributes;
mod backlog;
mod check;
mod compare;
mod compress;
mod dedup;
mod defrag;
mod directory;
mod file;
mod inode;
mod looks;
mod names;
mod operations;
mod rename;
mod sealer;
mod snapshot;
mod table;
mod usage;
mod volume;
mod xattr;
mod xattr_store;

#[cfg(test)]
mod tests;

pub use check::CheckReport;
pub use compress::Compress;
pub use dedup::Dedup;
pub use defrag::{DefragStep, ScatteredFiles};
pub use sealer::{SealReport, Sealer};
pub use snapshot::diff::Difference;
pub use snapshot::fork::CloneSnapshot;
pub use snapshot::manage::SnapshotInfo;
pub use usage::{FileUsage, Subject, UsageReport};
pub use volume::{Volume, VolumeConfig, VolumeStat};
