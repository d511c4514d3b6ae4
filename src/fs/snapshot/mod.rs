//! Snapshots: the state of the whole volume at a moment, frozen in constant time.
//!
//! ```text
//! list.rs      the snapshots: names, order
//! record.rs    what is kept of one inode: its state before a change     lost.rs  and of a directory's entries
//! history.rs   the records of all inodes, by snapshot
//! frozen.rs    one snapshot's volume: records first, then what is unchanged
//! place.rs     inode numbers of what is shown            view.rs  the directories in which it is shown
//! manage.rs    create, delete, list          rollback.rs  going back to one
//! diff.rs      what differs between two      usage.rs     the memory that only they hold
//! fork.rs      clones of one                 check.rs     the proof
//! ```
//!
//! **How it works.** A snapshot is a number, and the number of the next inode to be made. Nothing else happens when it
//! is made. Each inode knows up to which snapshot it was kept; the gate through which every change goes
//! ([`super::inode::change`]) finds an inode that is older than the newest snapshot and was not kept for it, and puts
//! its state into a record of that snapshot first. A content is cloned in constant time, and a directory's entries are
//! not copied at all: those that go are moved to the record, one by one.
//!
//! ```text
//! snapshots    1          2               3        now
//! inode 7      |--record 1|-----------record 3-----|--live
//!               kept at the first change after 1    kept at the first change after 3
//! ```
//! So the state of an inode in snapshot `s` is its first record of a number from `s` on, and without one what it is
//! now. A record may stand for several snapshots, and outlive its own: deleting a snapshot hands a record to the
//! snapshot before it where that has none.

pub(super) mod check;
pub(super) mod diff;
pub(super) mod fork;
pub(super) mod frozen;
pub(super) mod history;
pub(super) mod list;
pub(super) mod lost;
pub(super) mod manage;
pub(super) mod place;
pub(super) mod record;
pub(super) mod rollback;
pub(super) mod usage;
pub(super) mod view;
