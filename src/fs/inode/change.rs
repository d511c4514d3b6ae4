//! The gate of every change: an inode that a snapshot needs as it is now is kept first.

use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::{MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{Inode, Meta, NewInode};
use crate::extent::{Content, Merged, Reading, Settled, Shared};
use crate::fs::backlog::Backlog;
use crate::fs::directory::{Entries, Target, entry_cost};
use crate::fs::snapshot::history::History;
use crate::fs::snapshot::list::Snapshots;
use crate::fs::snapshot::place::is_shown;
use crate::fs::snapshot::record::Record;
use crate::fs::table::{Reservation, Table};
use crate::grid::Namespace;
use crate::limits::FILE_SIZE_MAX;
use crate::range::ByteRange;
use crate::vfs::{FileKind, Ino};
use crate::{Error, ErrorKind, Result};

/// The snapshots, which no operation that changes something sees come or go while it runs.
pub(in crate::fs) enum Gate<'v> {
    /// Held by a change.
    Shared(RwLockReadGuard<'v, Snapshots>),
    /// Lent by a rollback, which holds it alone.
    Exclusive(&'v Snapshots),
}

/// How a change holds the structure lock (see [`crate::fs`]).
pub(in crate::fs) struct Structure<'v> {
    lock: &'v RwLock<()>,
    is_held: bool,
    _shared: Option<RwLockReadGuard<'v, ()>>,
    _exclusive: Option<RwLockWriteGuard<'v, ()>>,
}

impl<'v> Structure<'v> {
    /// Not, or only for a moment where metadata is charged.
    pub(in crate::fs) fn free(lock: &'v RwLock<()>) -> Self {
        Self {
            lock,
            is_held: false,
            _shared: None,
            _exclusive: None,
        }
    }

    /// For an operation on names.
    pub(in crate::fs) fn shared(lock: &'v RwLock<()>) -> Self {
        Self {
            is_held: true,
            _shared: Some(lock.read()),
            ..Self::free(lock)
        }
    }

    /// For an operation that no other on names may meet.
    pub(in crate::fs) fn exclusive(lock: &'v RwLock<()>) -> Self {
        Self {
            is_held: true,
            _exclusive: Some(lock.write()),
            ..Self::free(lock)
        }
    }
}

/// A running operation that changes something.
pub(in crate::fs) struct Change<'v> {
    /// Let go of before the gate.
    structure: Structure<'v>,
    gate: Gate<'v>,
    books: Books<'v>,
}

/// What a change finds inodes in, and what it has to tell of it.
#[derive(Clone, Copy)]
pub(in crate::fs) struct Books<'v> {
    pub(in crate::fs) table: &'v Table,
    /// Keeps what snapshots need.
    pub(in crate::fs) history: &'v History,
    /// Notes whose content changes; `None` where nobody wants to know.
    pub(in crate::fs) backlog: Option<&'v Backlog>,
}

impl<'v> Change<'v> {
    /// A change of what is in the books.
    pub(in crate::fs) fn new(gate: Gate<'v>, structure: Structure<'v>, books: Books<'v>) -> Self {
        Self {
            structure,
            gate,
            books,
        }
    }

    /// Finds an inode to change.
    ///
    /// # Errors
    /// `ReadOnly` in a snapshot, `Stale`; `NoSpace` and `QuotaExceeded` where its present state cannot be kept.
    pub(in crate::fs) fn inode(&self, ino: Ino) -> Result<Writable<'_>> {
        if is_shown(ino) {
            return Err(Error::new(ErrorKind::ReadOnly, "a snapshot cannot be changed"));
        }
        let inode = self.books.table.get(ino)?;
        let snapshots = self.snapshots();
        let newest = snapshots.newest_number();
        if inode.kept() < newest
            && let Some(newest) = snapshots.get(newest)
        {
            self.charging(|| self.books.history.keep(newest, &inode))?;
        }
        Ok(self.writable(inode))
    }

    /// Adds an inode, which no snapshot knows yet.
    pub(in crate::fs) fn insert(&self, reservation: Reservation<'_>, new: NewInode) -> Writable<'_> {
        let inode = Inode::new(new, self.snapshots().newest_number());
        self.writable(reservation.insert(inode))
    }

    /// Notes for the newest snapshot that nothing in it leads to an inode, which is about to be brought back.
    ///
    /// # Errors
    /// `NoSpace`, `QuotaExceeded`.
    pub(in crate::fs) fn note_absent(&self, ino: Ino, kind: FileKind) -> Result<()> {
        match self.snapshots().get(self.snapshots().newest_number()) {
            Some(newest) => self.charging(|| self.books.history.note_absent(newest, ino, kind)),
            None => Ok(()),
        }
    }

    /// Brings an inode back that a snapshot has kept; it is charged for already.
    pub(in crate::fs) fn revive(&self, new: NewInode) -> Writable<'_> {
        let inode = Inode::new(new, self.snapshots().newest_number());
        self.writable(self.books.table.revive(inode))
    }

    /// Hands an inode's record of a deleted snapshot to the snapshot before it, or returns it where that has no use for
    /// it; to be dropped without a lock.
    pub(in crate::fs) fn hand_over(&self, ino: Ino, deleted: u64) -> Option<Arc<Record>> {
        let living = self.books.table.get(ino).ok();
        // What a directory loses meanwhile must not go to the record that is taken away.
        let _entries = living
            .as_ref()
            .and_then(|inode| inode.directory().ok())
            .map(|directory| directory.entries.write());
        let older = self.snapshots().before(deleted);
        self.charging(|| self.books.history.hand_over(ino, deleted, older))
    }

    /// Settles a block of a file that was read in order to seal it (see [`Content::settle`]). `None` where the file has
    /// no name any more, and is about to go.
    ///
    /// The inode is not kept for the newest snapshot, and need not be: bytes, length and times stay as they are, only
    /// other memory holds the bytes. A snapshot that shows the living content goes on doing so. One that has kept the
    /// inode holds what it held.
    pub(in crate::fs) fn settle(
        &self,
        inode: &Inode,
        namespace: &Arc<Namespace>,
        reading: &Reading,
    ) -> Option<Settled> {
        let file = inode.file().ok()?;
        let meta = inode.meta.lock();
        let has_name = meta.nlink > 0;
        has_name.then(|| file.content.write().settle(namespace, reading))
    }

    /// Merges extents of a file in a region (see [`Content::merge`]). `None` where the file has no name any more, and is
    /// about to go. As for [`Change::settle`], the inode need not be kept.
    pub(in crate::fs) fn merge(
        &self,
        inode: &Inode,
        namespace: &Arc<Namespace>,
        region: ByteRange,
    ) -> Option<Merged> {
        let file = inode.file().ok()?;
        let meta = inode.meta.lock();
        let has_name = meta.nlink > 0;
        has_name.then(|| file.content.write().merge(namespace, region))
    }

    /// Lets pages of a file share the memory of equal ones (see [`Content::share_pages`]); of a file without a name, which
    /// is about to go, none. As for [`Change::settle`], the inode need not be kept.
    pub(in crate::fs) fn share_pages(
        &self,
        inode: &Inode,
        namespace: &Arc<Namespace>,
        other: &Content,
        offset: u64,
    ) -> Result<Shared> {
        let file = inode.file()?;
        let meta = inode.meta.lock();
        match meta.nlink {
            0 => Ok(Shared {
                end: FILE_SIZE_MAX,
                bytes: 0,
            }),
            _ => file.content.write().share_pages(namespace, other, offset),
        }
    }

    /// The snapshots that there are while the change runs.
    pub(in crate::fs) fn snapshots(&self) -> &Snapshots {
        match &self.gate {
            Gate::Shared(snapshots) => snapshots,
            Gate::Exclusive(snapshots) => snapshots,
        }
    }

    /// Runs `charge` with the structure lock held, as all that charges metadata asks for.
    pub(in crate::fs) fn charging<T>(&self, charge: impl FnOnce() -> T) -> T {
        let _structure = (!self.structure.is_held).then(|| self.structure.lock.read());
        charge()
    }

    fn writable(&self, inode: Arc<Inode>) -> Writable<'_> {
        Writable {
            inode,
            history: self.books.history,
            backlog: self.books.backlog,
            _change: PhantomData,
        }
    }
}

/// An inode that may be changed while its change runs: no snapshot needs it as it is, or one has kept it.
pub(in crate::fs) struct Writable<'c> {
    inode: Arc<Inode>,
    history: &'c History,
    backlog: Option<&'c Backlog>,
    _change: PhantomData<&'c Change<'c>>,
}

impl Deref for Writable<'_> {
    type Target = Arc<Inode>;

    fn deref(&self) -> &Arc<Inode> {
        &self.inode
    }
}

impl Writable<'_> {
    /// The attributes.
    pub(in crate::fs) fn meta_mut(&self) -> MutexGuard<'_, Meta> {
        self.inode.meta.lock()
    }

    /// The bytes of a regular file; `IsDirectory` or `InvalidArgument` for anything else.
    pub(in crate::fs) fn content_mut(&self) -> Result<RwLockWriteGuard<'_, Content>> {
        let file = self.inode.file()?;
        if let Some(backlog) = self.backlog {
            backlog.note(self.inode.ino, &self.inode.mark);
        }
        Ok(file.content.write())
    }

    /// The entries of a directory, or `NotDirectory`.
    pub(in crate::fs) fn names(&self) -> Result<Names<'_>> {
        let entries = self.inode.directory()?.entries.write();
        Ok(Names {
            entries,
            record: self.history.newest(self.inode.ino),
            namespace: self.history.namespace(),
        })
    }

    /// Hangs a directory elsewhere; the caller holds the exclusive structure lock.
    pub(in crate::fs) fn set_parent(&self, parent: Ino) {
        if let Ok(directory) = self.inode.directory() {
            directory.parent.store(parent.0, Ordering::Relaxed);
        }
    }
}

/// The entries of a directory, locked for changes. What a snapshot still has is moved to the directory's newest record,
/// and its charge with it.
pub(in crate::fs) struct Names<'a> {
    entries: RwLockWriteGuard<'a, Entries>,
    record: Option<Arc<Record>>,
    namespace: &'a Namespace,
}

impl Deref for Names<'_> {
    type Target = Entries;

    fn deref(&self) -> &Entries {
        &self.entries
    }
}

impl Names<'_> {
    /// Charges for an entry and adds it.
    ///
    /// # Errors
    /// `NoSpace`, `QuotaExceeded`.
    pub(in crate::fs) fn insert(&mut self, name: &[u8], target: Target) -> Result<()> {
        self.namespace.charge(entry_cost(name))?;
        self.insert_charged(name, target)
            .inspect_err(|_| self.namespace.release(entry_cost(name)))
    }

    /// Adds an entry that is charged for already.
    ///
    /// # Errors
    /// `NoSpace` where the directory is full.
    pub(in crate::fs) fn insert_charged(&mut self, name: &[u8], target: Target) -> Result<()> {
        self.entries.insert(name, target)
    }

    /// Removes an entry.
    pub(in crate::fs) fn remove(&mut self, name: &[u8]) {
        let Some((entry, target)) = self.entries.remove(name) else {
            return;
        };
        if self.keep_version(entry.cookie, name, target) {
            return;
        }
        self.namespace.release(entry_cost(name));
    }

    /// Keeps what a name stands for now, where a snapshot needs it: to be called before [`Names::replace`], while the
    /// operation can still fail.
    ///
    /// # Errors
    /// `NoSpace`, `QuotaExceeded`.
    pub(in crate::fs) fn keep(&mut self, name: &[u8]) -> Result<()> {
        let Some((cookie, target)) = self.find(name).map(|(entry, target)| (entry.cookie, target)) else {
            return Ok(());
        };
        self.namespace.charge(entry_cost(name))?;
        if !self.keep_version(cookie, name, target) {
            self.namespace.release(entry_cost(name));
        }
        Ok(())
    }

    /// Points a name to another inode; [`Names::keep`] was called for it.
    pub(in crate::fs) fn replace(&mut self, name: &[u8], target: Target) {
        self.entries.replace(name, target);
    }

    /// Marks an empty directory as removed, so that nothing is added to it any more; or as not removed.
    pub(in crate::fs) fn set_removed(&mut self, removed: bool) {
        self.entries.removed = removed;
    }

    /// Puts a version of an entry into the newest record; `false` where that has one already, or no use for it.
    fn keep_version(&self, cookie: u64, name: &[u8], target: Target) -> bool {
        let directory = self.record.as_ref().and_then(|record| record.directory());
        let Some(directory) = directory.filter(|directory| cookie < directory.next_cookie) else {
            return false;
        };
        let mut lost = directory.lost.lock();
        let needed = !lost.has(cookie);
        lost.insert(cookie, name, target);
        needed
    }
}
