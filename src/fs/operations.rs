//! The `Vfs` trait of the volume: each method lives in the file of its concern.

use std::ops::ControlFlow;

use super::inode::Body;
use super::snapshot::place::{CONTROL_NAME, is_shown};
use super::snapshot::view::View;
use super::volume::Volume;
use super::{attributes, compare, file, names, rename, xattr};
use crate::range::ByteRange;
use crate::vfs::{
    Attr, Caller, CopyRange, Differences, DirEntry, Fallocate, Ino, NewName, NewNode, RenameMode, SeekTo,
    SetAttr, Shared, StatFs, Vfs, WriteAt, Written, XattrMode,
};
use crate::{ErrorKind, Result};

impl Vfs for Volume {
    fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Attr> {
        if is_shown(parent) || (parent == Ino::ROOT && name == CONTROL_NAME) {
            return self.view(|view| view.lookup(parent, name));
        }
        names::lookup(self, parent, name)
    }

    fn forget(&self, ino: Ino, count: u64) -> bool {
        is_shown(ino) || self.drop_lookups(ino, count)
    }

    fn getattr(&self, ino: Ino) -> Result<Attr> {
        if is_shown(ino) {
            return self.view(|view| view.attr(ino));
        }
        Ok(self.table.get(ino)?.attr())
    }

    fn setattr(&self, _caller: Caller, ino: Ino, changes: &SetAttr) -> Result<Attr> {
        attributes::setattr(self, ino, changes)
    }

    fn readlink(&self, ino: Ino) -> Result<Box<[u8]>> {
        if is_shown(ino) {
            return self.view(|view| view.target(ino));
        }
        let inode = self.table.get(ino)?;
        let Body::Symlink(target) = inode.body() else {
            return Err(ErrorKind::InvalidArgument.into());
        };
        attributes::touch_atime(self, &inode);
        Ok(target.clone())
    }

    fn create(&self, caller: Caller, at: NewName<'_>, node: NewNode<'_>) -> Result<Attr> {
        self.with_room(|| names::create(self, caller, at, node))
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

    fn read(&self, ino: Ino, offset: u64, out: &mut [u8]) -> Result<usize> {
        file::read(self, ino, offset, out)
    }

    fn write(&self, ino: Ino, at: WriteAt, bytes: &[u8], clear_privileges: bool) -> Result<Written> {
        self.with_room(|| file::write(self, ino, at, bytes, clear_privileges))
    }

    fn fallocate(&self, ino: Ino, range: ByteRange, mode: Fallocate) -> Result<()> {
        self.with_room(|| file::fallocate(self, ino, range, mode))
    }

    fn seek(&self, ino: Ino, offset: u64, to: SeekTo) -> Result<u64> {
        file::seek(self, ino, offset, to)
    }

    fn copy_range(&self, range: &CopyRange, clear_privileges: bool) -> Result<u64> {
        self.with_room(|| file::copy_range(self, range, clear_privileges))
    }

    fn differences(&self, files: [Ino; 2], range: ByteRange, most: usize) -> Result<Differences> {
        compare::differences(self, files, range, most)
    }

    fn share_pages(&self, source: Ino, target: Ino, range: ByteRange) -> Result<Shared> {
        compare::share_pages(self, source, target, range)
    }

    fn readdir(
        &self,
        dir: Ino,
        cookie: u64,
        plus: bool,
        visit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        if is_shown(dir) {
            return self.view(|view| view.readdir(dir, cookie, plus, visit));
        }
        names::readdir(self, dir, cookie, plus, visit)
    }

    fn statfs(&self) -> StatFs {
        self.totals()
    }

    fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Box<[u8]>> {
        if is_shown(ino) {
            return self.view(|view| view.meta(ino, |kind, meta| xattr::value_of(kind, meta, name))?);
        }
        xattr::get(self, ino, name)
    }

    fn setxattr(&self, caller: Caller, ino: Ino, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        xattr::set(self, caller, ino, (name, value), mode)
    }

    fn listxattr(&self, caller: Caller, ino: Ino) -> Result<Vec<u8>> {
        if is_shown(ino) {
            return self.view(|view| view.meta(ino, |_, meta| xattr::names_of(meta, caller)));
        }
        xattr::list(self, caller, ino)
    }

    fn removexattr(&self, ino: Ino, name: &[u8]) -> Result<()> {
        xattr::remove(self, ino, name)
    }
}

impl Volume {
    /// Runs `read` on what the snapshots show; none comes or goes meanwhile.
    pub(super) fn view<T>(&self, read: impl FnOnce(&View<'_>) -> Result<T>) -> Result<T> {
        read(&View::new(self, &self.snapshots.read()))
    }
}
