//! The volume: how it is made, its totals, and the `Vfs` trait, whose methods live in the files beside this one.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::{Mutex, RwLock};

use super::check::{self, CheckReport};
use super::inode::{Body, Directory, Inode, MODE_MASK, Meta};
use super::table::Table;
use super::{attributes, file, names, rename, xattr};
use crate::clock::{Clock, Timestamp};
use crate::grid::{Grid, Namespace, Usage};
use crate::limits::{DENTRY_COST, INODE_COST};
use crate::range::ByteRange;
use crate::vfs::{
    Attr, Caller, CopyRange, DirEntry, Fallocate, FileKind, Ino, NewName, NewNode, RenameMode, SeekTo,
    SetAttr, StatFs, Vfs, WriteAt, Written, XattrMode,
};
use crate::{ErrorKind, Result};

/// How a volume is made.
#[derive(Clone, Copy, Debug)]
pub struct VolumeConfig {
    /// Most inodes that it may have; `None` leaves the bound to the memory budget.
    pub inodes_max: Option<u64>,
    /// Permission bits of the root directory.
    pub root_mode: u16,
    /// Owner of the root directory.
    pub uid: u32,
    /// Group of the root directory.
    pub gid: u32,
}

/// Totals of a volume for `okapi stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeStat {
    /// The volume's blocks and metadata.
    pub usage: Usage,
    /// Memory that the files would take without sharing: extents in full, however often shared.
    pub logical_bytes: u64,
    /// Inodes.
    pub inodes: u64,
    /// Inodes that there can be.
    pub inodes_max: u64,
}

/// One filesystem in one namespace; implements [`Vfs`].
pub struct Volume {
    pub(super) grid: Arc<Grid>,
    pub(super) namespace: Arc<Namespace>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) table: Table,
    /// First in the lock order (see [`super`]).
    pub(super) structure: RwLock<()>,
}

impl Volume {
    /// A new, empty volume in `namespace`.
    ///
    /// # Errors
    /// `NoSpace` where not even the root directory fits.
    pub fn new(
        grid: &Arc<Grid>,
        namespace: Arc<Namespace>,
        clock: Arc<dyn Clock>,
        config: VolumeConfig,
    ) -> Result<Arc<Self>> {
        let table = Table::new(Arc::clone(&namespace), config.inodes_max);
        let reservation = table.reserve(0)?;
        let ino = reservation.number();
        debug_assert_eq!(ino, Ino::ROOT, "the first number is the root's");
        reservation.insert(Inode {
            ino,
            kind: FileKind::Directory,
            lookups: AtomicU64::new(1),
            meta: Mutex::new(Meta::new(
                config.root_mode & MODE_MASK,
                (config.uid, config.gid),
                2,
                clock.now(),
            )),
            body: Body::Directory(Directory::new(Ino::ROOT)),
        });
        let structure = RwLock::new(());
        Ok(Arc::new(Self {
            grid: Arc::clone(grid),
            namespace,
            clock,
            table,
            structure,
        }))
    }

    /// Totals; walks all inodes.
    pub fn stat(&self) -> VolumeStat {
        let held = |inode: &Arc<Inode>| inode.content().map_or(0, |content| content.read().held_bytes());
        VolumeStat {
            usage: self.namespace.usage(),
            logical_bytes: self.table.snapshot().iter().map(held).sum(),
            inodes: self.table.len(),
            inodes_max: self.statfs().inodes_max,
        }
    }

    /// Verifies every structure of the volume: names, link counts, extents, accounting. Operations that change
    /// names wait meanwhile.
    ///
    /// # Errors
    /// `Corrupt`, naming the first rule that does not hold and where.
    pub fn check(&self) -> Result<CheckReport> {
        check::check(self)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Bytes that can still be taken: the grid's budget and the namespace's quota both bound it.
    fn free_bytes(&self) -> u64 {
        let free = |usage: Usage| {
            usage
                .limit_bytes
                .saturating_sub(usage.held_bytes + usage.metadata_bytes)
        };
        free(self.grid.usage()).min(free(self.namespace.usage()))
    }
}

impl Meta {
    /// Attributes of a node made at `now`.
    pub(super) fn new(mode: u16, (uid, gid): (u32, u32), nlink: u32, now: Timestamp) -> Self {
        Self {
            mode,
            nlink,
            uid,
            gid,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            xattrs: None,
        }
    }
}

impl Vfs for Volume {
    fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Attr> {
        names::lookup(self, parent, name)
    }

    fn forget(&self, ino: Ino, count: u64) {
        self.table.forget(ino, count);
    }

    fn getattr(&self, ino: Ino) -> Result<Attr> {
        Ok(self.table.get(ino)?.attr())
    }

    fn setattr(&self, _caller: Caller, ino: Ino, changes: &SetAttr) -> Result<Attr> {
        attributes::setattr(self, ino, changes)
    }

    fn readlink(&self, ino: Ino) -> Result<Box<[u8]>> {
        let inode = self.table.get(ino)?;
        let Body::Symlink(target) = &inode.body else {
            return Err(ErrorKind::InvalidArgument.into());
        };
        attributes::touch_atime(self, &inode);
        Ok(target.clone())
    }

    fn create(&self, caller: Caller, at: NewName<'_>, node: NewNode<'_>) -> Result<Attr> {
        names::create(self, caller, at, node)
    }

    fn unlink(&self, parent: Ino, name: &[u8]) -> Result<()> {
        names::unlink(self, parent, name)
    }

    fn rmdir(&self, parent: Ino, name: &[u8]) -> Result<()> {
        names::rmdir(self, parent, name)
    }

    fn rename(&self, caller: Caller, from: (Ino, &[u8]), to: (Ino, &[u8]), mode: RenameMode) -> Result<()> {
        rename::rename(self, caller, from, to, mode)
    }

    fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attr> {
        names::link(self, ino, parent, name)
    }

    fn read(&self, ino: Ino, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<()> {
        file::read(self, ino, (offset, len), out)
    }

    fn write(&self, ino: Ino, at: WriteAt, bytes: &[u8], clear_privileges: bool) -> Result<Written> {
        file::write(self, ino, at, bytes, clear_privileges)
    }

    fn fallocate(&self, ino: Ino, range: ByteRange, mode: Fallocate) -> Result<()> {
        file::fallocate(self, ino, range, mode)
    }

    fn seek(&self, ino: Ino, offset: u64, to: SeekTo) -> Result<u64> {
        file::seek(self, ino, offset, to)
    }

    fn copy_range(&self, range: &CopyRange, clear_privileges: bool) -> Result<u64> {
        file::copy_range(self, range, clear_privileges)
    }

    fn readdir(
        &self,
        dir: Ino,
        cookie: u64,
        plus: bool,
        visit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        names::readdir(self, dir, cookie, plus, visit)
    }

    fn statfs(&self) -> StatFs {
        let free_bytes = self.free_bytes();
        let usage = self.namespace.usage();
        let inodes = self.table.len();
        let fitting = free_bytes / (INODE_COST + DENTRY_COST);
        let inodes_free = self
            .table
            .max()
            .map_or(fitting, |max| max.saturating_sub(inodes).min(fitting));
        StatFs {
            size_bytes: free_bytes + usage.held_bytes + usage.metadata_bytes,
            free_bytes,
            inodes_max: self.table.max().unwrap_or(inodes + inodes_free),
            inodes_free,
            block_size: self.namespace.block_size(),
        }
    }

    fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Box<[u8]>> {
        xattr::get(self, ino, name)
    }

    fn setxattr(&self, _caller: Caller, ino: Ino, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        xattr::set(self, ino, name, value, mode)
    }

    fn listxattr(&self, caller: Caller, ino: Ino) -> Result<Vec<u8>> {
        xattr::list(self, caller, ino)
    }

    fn removexattr(&self, ino: Ino, name: &[u8]) -> Result<()> {
        xattr::remove(self, ino, name)
    }
}
