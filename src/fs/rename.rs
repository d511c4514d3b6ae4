//! Rename: within one directory under its lock, between two under the exclusive structure lock.

use std::sync::Arc;

use super::directory::Target;
use super::inode::change::{Change, Names, Writable};
use super::inode::{Body, Inode, Meta, NewInode};
use super::names::{check_name, close_directory, drop_link, entries_changed};
use super::volume::Volume;
use crate::clock::Timestamp;
use crate::limits::LINK_MAX;
use crate::vfs::{Caller, FileKind, Ino, RenameMode};
use crate::{Error, ErrorKind, Result};

/// Where a name is: its directory and itself.
struct Place<'a> {
    directory: Writable<'a>,
    name: &'a [u8],
}

/// The locked entries of both directories, which may be one.
struct Tables<'a> {
    from: Names<'a>,
    /// `None` where both names are in one directory.
    to: Option<Names<'a>>,
}

impl<'a> Tables<'a> {
    fn to(&mut self) -> &mut Names<'a> {
        self.to.as_mut().unwrap_or(&mut self.from)
    }
}

pub(super) fn rename(
    volume: &Volume,
    caller: Caller,
    from: (Ino, &[u8]),
    to: (Ino, &[u8]),
    mode: RenameMode,
) -> Result<()> {
    if mode.exchange && (mode.no_replace || mode.whiteout) {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            "an exchange replaces by nature and leaves no whiteout",
        ));
    }
    check_name(from.0, from.1)?;
    check_name(to.0, to.1)?;
    let change = match from.0 == to.0 {
        true => volume.change_names(),
        false => volume.change_names_alone(),
    };
    let dead = rename_locked(volume, &change, caller, [from, to], mode)?;
    drop(change);
    // Its content ends without a lock.
    drop(dead);
    Ok(())
}

/// Returns the inode that died of it.
fn rename_locked(
    volume: &Volume,
    change: &Change<'_>,
    caller: Caller,
    [from, to]: [(Ino, &[u8]); 2],
    mode: RenameMode,
) -> Result<Option<Arc<Inode>>> {
    let from = Place {
        directory: change.inode(from.0)?,
        name: from.1,
    };
    let to = Place {
        directory: change.inode(to.0)?,
        name: to.1,
    };
    let mut tables = lock_tables(volume, &from, &to)?;
    let job = Job {
        volume,
        change,
        caller,
        from: &from,
        to: &to,
        now: volume.now(),
    };
    let replaced = job.run(&mut tables, mode)?;
    drop(tables);
    Ok(replaced.and_then(|inode| volume.table.take_dead_locked(&inode)))
}

/// Locks the entries of both directories, an ancestor before what is below it.
fn lock_tables<'a>(volume: &Volume, from: &'a Place<'_>, to: &'a Place<'_>) -> Result<Tables<'a>> {
    let (source, target) = (&from.directory, &to.directory);
    if source.ino == target.ino {
        return Ok(Tables {
            from: source.names()?,
            to: None,
        });
    }
    if is_within(volume, source, target.ino) {
        let to = target.names()?;
        return Ok(Tables {
            from: source.names()?,
            to: Some(to),
        });
    }
    let from = source.names()?;
    Ok(Tables {
        from,
        to: Some(target.names()?),
    })
}

/// Whether `directory` is `ancestor` or below it. Stable only while no directory moves to another.
fn is_within(volume: &Volume, directory: &Arc<Inode>, ancestor: Ino) -> bool {
    let mut at = Arc::clone(directory);
    while at.ino != ancestor {
        let Body::Directory(directory) = at.body() else {
            return false;
        };
        let parent = directory.parent();
        match volume.table.get(parent) {
            Ok(above) if parent != at.ino => at = above,
            // The root, or a removed directory whose parent is gone.
            Ok(_) | Err(_) => return false,
        }
    }
    true
}

/// One rename, with both directories locked.
struct Job<'a> {
    volume: &'a Volume,
    change: &'a Change<'a>,
    caller: Caller,
    from: &'a Place<'a>,
    to: &'a Place<'a>,
    now: Timestamp,
}

impl<'a> Job<'a> {
    /// Returns the inode that lost its name, to be taken out if it is dead. What can fail comes before the first
    /// change.
    fn run(&self, tables: &mut Tables<'_>, mode: RenameMode) -> Result<Option<Writable<'a>>> {
        let source = tables.from.get(self.from.name).ok_or(ErrorKind::NotFound)?;
        let target = tables.to().get(self.to.name);
        if tables.to().removed {
            return Err(ErrorKind::NotFound.into());
        }
        self.refuse_loop(source, self.to)?;
        if target == Some(source) && !mode.no_replace {
            return Ok(None);
        }
        if mode.exchange {
            let target = target.ok_or(ErrorKind::NotFound)?;
            self.refuse_loop(target, self.from)?;
            self.exchange(tables, source, target)?;
            return Ok(None);
        }
        if target.is_some() && mode.no_replace {
            return Err(ErrorKind::Exists.into());
        }
        self.replace(tables, source, target, mode.whiteout)
    }

    /// Moves `source` over `target` or to a free name.
    fn replace(
        &self,
        tables: &mut Tables<'_>,
        source: Target,
        target: Option<Target>,
        whiteout: bool,
    ) -> Result<Option<Writable<'a>>> {
        self.refuse_full_directory(source, target)?;
        let moving = self.change.inode(source.ino)?;
        let whiteout = if whiteout {
            tables.from.keep(self.from.name)?;
            Some(self.volume.table.reserve(0)?)
        } else {
            None
        };
        let replaced = match target {
            Some(target) => {
                tables.to().keep(self.to.name)?;
                Some(self.evict(source, target)?)
            }
            None => {
                tables.to().insert(self.to.name, source)?;
                None
            }
        };
        if replaced.is_some() {
            tables.to().replace(self.to.name, source);
        }
        match whiteout {
            Some(reservation) => {
                let whiteout = self.whiteout(reservation.number());
                let inode = self.change.insert(reservation, whiteout);
                tables.from.replace(
                    self.from.name,
                    Target {
                        ino: inode.ino,
                        kind: inode.kind,
                    },
                );
            }
            None => tables.from.remove(self.from.name),
        }
        let gone = replaced
            .as_ref()
            .is_some_and(|inode| inode.kind == FileKind::Directory);
        let moved = i32::from(source.kind == FileKind::Directory);
        entries_changed(&self.from.directory, -moved, self.now);
        entries_changed(&self.to.directory, moved - i32::from(gone), self.now);
        self.moved(&moving, &self.to.directory);
        Ok(replaced)
    }

    /// Takes its name off the inode that is in the way.
    fn evict(&self, source: Target, target: Target) -> Result<Writable<'a>> {
        match (
            source.kind == FileKind::Directory,
            target.kind == FileKind::Directory,
        ) {
            (true, false) => return Err(ErrorKind::NotDirectory.into()),
            (false, true) => return Err(ErrorKind::IsDirectory.into()),
            // What the source is in or below is not empty, and to lock it now would be against the lock order.
            (true, true) if is_within(self.volume, &self.from.directory, target.ino) => {
                return Err(ErrorKind::NotEmpty.into());
            }
            (true, true) | (false, false) => {}
        }
        let inode = self.change.inode(target.ino)?;
        if inode.kind == FileKind::Directory {
            close_directory(&inode)?;
        }
        drop_link(self.volume, &inode, self.now);
        Ok(inode)
    }

    fn exchange(&self, tables: &mut Tables<'_>, source: Target, target: Target) -> Result<()> {
        let first = self.change.inode(source.ino)?;
        let second = self.change.inode(target.ino)?;
        tables.from.keep(self.from.name)?;
        tables.to().keep(self.to.name)?;
        tables.from.replace(self.from.name, target);
        tables.to().replace(self.to.name, source);
        let change =
            i32::from(source.kind == FileKind::Directory) - i32::from(target.kind == FileKind::Directory);
        entries_changed(&self.from.directory, -change, self.now);
        entries_changed(&self.to.directory, change, self.now);
        self.moved(&first, &self.to.directory);
        self.moved(&second, &self.from.directory);
        Ok(())
    }

    /// Notes on an inode that it has a new name, and on a directory that it hangs elsewhere.
    fn moved(&self, inode: &Writable<'_>, parent: &Inode) {
        inode.set_parent(parent.ino);
        inode.meta_mut().ctime = self.now;
    }

    /// A directory may not move below itself.
    fn refuse_loop(&self, moving: Target, to: &Place<'_>) -> Result<()> {
        if moving.kind == FileKind::Directory && is_within(self.volume, &to.directory, moving.ino) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "a directory cannot move below itself",
            ));
        }
        Ok(())
    }

    /// A directory that takes one more subdirectory needs a link to spare.
    fn refuse_full_directory(&self, source: Target, target: Option<Target>) -> Result<()> {
        let adds = source.kind == FileKind::Directory && target.is_none();
        if adds
            && self.from.directory.ino != self.to.directory.ino
            && self.to.directory.meta().nlink >= LINK_MAX
        {
            return Err(ErrorKind::TooManyLinks.into());
        }
        Ok(())
    }

    /// What an overlay takes for "deleted here": a character device 0:0.
    fn whiteout(&self, ino: Ino) -> NewInode {
        let group = self.from.directory.meta().group_of_new();
        let owner = (self.caller.uid, group.unwrap_or(self.caller.gid));
        NewInode {
            ino,
            kind: FileKind::CharDevice,
            lookups: 0,
            meta: Meta::new(0, owner, 1, self.now),
            body: Body::Special(0),
        }
    }
}
