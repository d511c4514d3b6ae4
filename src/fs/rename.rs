//! Rename: within one directory under its lock, between two under the exclusive structure lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock, RwLockWriteGuard};

use super::directory::{Entries, Target};
use super::inode::{Body, Inode, Meta};
use super::names::{add_entry, check_name, close_directory, drop_link, entries_changed, remove_entry};
use super::volume::Volume;
use crate::clock::Timestamp;
use crate::limits::LINK_MAX;
use crate::vfs::{Caller, FileKind, Ino, RenameMode};
use crate::{Error, ErrorKind, Result};

/// Where a name is: its directory and itself.
struct Place<'a> {
    directory: Arc<Inode>,
    name: &'a [u8],
}

/// The locked entries of both directories, which may be one.
struct Tables<'a> {
    from: RwLockWriteGuard<'a, Entries>,
    /// `None` where both names are in one directory.
    to: Option<RwLockWriteGuard<'a, Entries>>,
}

impl Tables<'_> {
    fn to(&mut self) -> &mut Entries {
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
    check_name(from.1)?;
    check_name(to.1)?;
    let crossing = from.0 != to.0;
    let exclusive = crossing.then(|| volume.structure.write());
    let shared = (!crossing).then(|| volume.structure.read());
    let from = Place {
        directory: volume.table.get(from.0)?,
        name: from.1,
    };
    let to = Place {
        directory: volume.table.get(to.0)?,
        name: to.1,
    };
    let mut tables = lock_tables(volume, &from, &to)?;
    let job = Job {
        volume,
        caller,
        from: &from,
        to: &to,
        now: volume.now(),
    };
    let replaced = job.run(&mut tables, mode)?;
    drop(tables);
    let dead = replaced.and_then(|inode| volume.table.take_dead_locked(&inode));
    drop((exclusive, shared));
    // Its content ends without a lock.
    drop(dead);
    Ok(())
}

/// Locks the entries of both directories, an ancestor before what is below it.
fn lock_tables<'a>(volume: &Volume, from: &'a Place<'_>, to: &'a Place<'_>) -> Result<Tables<'a>> {
    let (source, target) = (from.directory.directory()?, to.directory.directory()?);
    if from.directory.ino == to.directory.ino {
        return Ok(Tables {
            from: source.entries.write(),
            to: None,
        });
    }
    if is_within(volume, &from.directory, to.directory.ino) {
        let to = target.entries.write();
        return Ok(Tables {
            from: source.entries.write(),
            to: Some(to),
        });
    }
    let from = source.entries.write();
    Ok(Tables {
        from,
        to: Some(target.entries.write()),
    })
}

/// Whether `directory` is `ancestor` or below it. Stable only while no directory moves to another.
fn is_within(volume: &Volume, directory: &Arc<Inode>, ancestor: Ino) -> bool {
    let mut at = Arc::clone(directory);
    while at.ino != ancestor {
        let Body::Directory(directory) = &at.body else {
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
    caller: Caller,
    from: &'a Place<'a>,
    to: &'a Place<'a>,
    now: Timestamp,
}

impl Job<'_> {
    /// Returns the inode that lost its name, to be taken out if it is dead.
    fn run(&self, tables: &mut Tables<'_>, mode: RenameMode) -> Result<Option<Arc<Inode>>> {
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
    ) -> Result<Option<Arc<Inode>>> {
        self.refuse_full_directory(source, target)?;
        let whiteout = if whiteout {
            Some(self.volume.table.reserve(0)?)
        } else {
            None
        };
        let replaced = match target {
            Some(target) => Some(self.evict(source, target)?),
            None => {
                add_entry(self.volume, tables.to(), self.to.name, source)?;
                None
            }
        };
        if replaced.is_some() {
            tables.to().replace(self.to.name, source);
        }
        match whiteout {
            Some(reservation) => {
                let whiteout = self.whiteout(reservation.number());
                let inode = reservation.insert(whiteout);
                tables.from.replace(
                    self.from.name,
                    Target {
                        ino: inode.ino,
                        kind: inode.kind,
                    },
                );
            }
            None => remove_entry(self.volume, &mut tables.from, self.from.name),
        }
        let gone = replaced
            .as_ref()
            .is_some_and(|inode| inode.kind == FileKind::Directory);
        let moved = i32::from(source.kind == FileKind::Directory);
        entries_changed(&self.from.directory, -moved, self.now);
        entries_changed(&self.to.directory, moved - i32::from(gone), self.now);
        self.moved(source, &self.to.directory)?;
        Ok(replaced)
    }

    /// Takes its name off the inode that is in the way.
    fn evict(&self, source: Target, target: Target) -> Result<Arc<Inode>> {
        let inode = self.volume.table.get(target.ino)?;
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
            (true, true) => close_directory(&inode)?,
            (false, false) => {}
        }
        drop_link(self.volume, &inode, self.now);
        Ok(inode)
    }

    fn exchange(&self, tables: &mut Tables<'_>, source: Target, target: Target) -> Result<()> {
        tables.from.replace(self.from.name, target);
        tables.to().replace(self.to.name, source);
        let change =
            i32::from(source.kind == FileKind::Directory) - i32::from(target.kind == FileKind::Directory);
        entries_changed(&self.from.directory, -change, self.now);
        entries_changed(&self.to.directory, change, self.now);
        self.moved(source, &self.to.directory)?;
        self.moved(target, &self.from.directory)
    }

    /// Notes on an inode that it has a new name, and on a directory that it hangs elsewhere.
    fn moved(&self, target: Target, parent: &Inode) -> Result<()> {
        let inode = self.volume.table.get(target.ino)?;
        if let Body::Directory(directory) = &inode.body {
            directory.parent.store(parent.ino.0, Ordering::Relaxed);
        }
        inode.meta.lock().ctime = self.now;
        Ok(())
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
            && self.to.directory.meta.lock().nlink >= LINK_MAX
        {
            return Err(ErrorKind::TooManyLinks.into());
        }
        Ok(())
    }

    /// What an overlay takes for "deleted here": a character device 0:0.
    fn whiteout(&self, ino: Ino) -> Inode {
        let group = self.from.directory.meta.lock().group_of_new();
        let owner = (self.caller.uid, group.unwrap_or(self.caller.gid));
        Inode {
            ino,
            kind: FileKind::CharDevice,
            lookups: AtomicU64::new(0),
            readers: RwLock::new(()),
            meta: Mutex::new(Meta::new(0, owner, 1, self.now)),
            body: Body::Special(0),
        }
    }
}
