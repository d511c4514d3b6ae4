//! What the model holds: inodes, names, open slots; and how a path leads to an inode.

use std::collections::BTreeMap;

use nix::errno::Errno;

use super::op::{AttrAnswer, Name, Place, SLOTS, Target};
use super::pages::Pages;

/// Longest name in bytes.
const NAME_MAX: usize = 255;

/// Number of an inode in the model.
pub(super) type Id = u64;

pub(super) const ROOT: Id = 1;

/// What is known of a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Seconds and nanoseconds, set by the program.
    At(i64, u32),
    /// Taken from the clock by the operation of this number: later than the marks of all operations before it.
    Tick(u64),
    /// POSIX leaves it open.
    Open,
}

#[derive(Clone, Debug)]
pub(super) struct Dir {
    pub(super) entries: BTreeMap<Name, Id>,
    pub(super) parent: Id,
    /// Taken out of its parent, and still open somewhere.
    pub(super) removed: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    File(Pages),
    Dir(Dir),
    Symlink(Vec<u8>),
    Fifo,
    Socket,
    Char(u32),
    Block(u32),
}

#[derive(Clone, Debug)]
pub(super) struct Inode {
    pub(super) body: Body,
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Names; for a directory only 0 or 1.
    pub(super) names: u32,
    /// Open slots.
    pub(super) pins: u32,
    pub(super) xattrs: BTreeMap<Name, Vec<u8>>,
    pub(super) mtime: Mark,
    pub(super) ctime: Mark,
}

/// The whole filesystem.
#[derive(Clone, Debug)]
pub struct Model {
    pub(super) inodes: BTreeMap<Id, Inode>,
    pub(super) slots: [Option<Id>; SLOTS],
    pub(super) next: Id,
    /// Number of the operation at hand.
    pub(super) tick: u64,
    /// Whether what was punched may stay data: a full filesystem may have no memory to divide a block.
    pub punches_may_keep_memory: bool,
}

/// Where a name is or will be: its directory, the name, and the inode behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) dir: Id,
    pub(super) name: Name,
    pub(super) id: Option<Id>,
}

impl Default for Model {
    fn default() -> Self {
        let root = Inode {
            body: Body::Dir(Dir {
                entries: BTreeMap::new(),
                parent: ROOT,
                removed: false,
            }),
            mode: 0o755,
            uid: 0,
            gid: 0,
            names: 1,
            pins: 0,
            xattrs: BTreeMap::new(),
            mtime: Mark::Open,
            ctime: Mark::Open,
        };
        Self {
            inodes: BTreeMap::from([(ROOT, root)]),
            slots: [None; SLOTS],
            next: ROOT + 1,
            tick: 0,
            punches_may_keep_memory: false,
        }
    }
}

impl Model {
    /// Inodes, with those that have no name but are open.
    pub fn inode_count(&self) -> usize {
        self.inodes.len()
    }

    /// Pages of all files that are no holes.
    pub fn page_count(&self) -> usize {
        self.inodes
            .values()
            .map(|inode| match &inode.body {
                Body::File(pages) => pages.present(),
                _ => 0,
            })
            .sum()
    }

    /// Whether the slot is open.
    pub fn is_open(&self, slot: usize) -> bool {
        self.slots[slot].is_some()
    }

    /// S_IFMT bits of what a target leads to; `None` where it leads nowhere.
    pub fn format_of(&self, target: &Target) -> Option<u32> {
        let id = self.target(target).ok()??;
        Some(self.inode(id).format())
    }

    pub(super) fn inode(&self, id: Id) -> &Inode {
        &self.inodes[&id]
    }

    pub(super) fn inode_mut(&mut self, id: Id) -> &mut Inode {
        self.inodes.get_mut(&id).expect("a named or open inode exists")
    }

    pub(super) fn dir(&self, id: Id) -> &Dir {
        self.inode(id)
            .dir()
            .expect("the inode was found to be a directory")
    }

    pub(super) fn dir_mut(&mut self, id: Id) -> &mut Dir {
        match &mut self.inode_mut(id).body {
            Body::Dir(dir) => dir,
            _ => unreachable!("the inode was found to be a directory"),
        }
    }

    /// The inode at the end of a path, symlinks not followed. `Ok(None)`: the slot it begins at is not open.
    pub(super) fn place(&self, place: &Place) -> Result<Option<Id>, Errno> {
        let Some(mut at) = self.base(place.base) else {
            return Ok(None);
        };
        for name in &place.path {
            at = self.step(at, *name)?.ok_or(Errno::ENOENT)?;
        }
        Ok(Some(at))
    }

    pub(super) fn target(&self, target: &Target) -> Result<Option<Id>, Errno> {
        match target {
            Target::Path(place) => self.place(place),
            Target::Slot(slot) => Ok(self.slots[*slot]),
        }
    }

    /// The last name of a path with its directory. `Ok(None)`: the slot it begins at is not open.
    pub(super) fn entry(&self, place: &Place) -> Result<Option<Entry>, Errno> {
        let Some((dir, name)) = self.parent(place)? else {
            return Ok(None);
        };
        let id = self.step(dir, name)?;
        Ok(Some(Entry { dir, name, id }))
    }

    /// The directory that a path's last name is or will be in. `Ok(None)`: the slot it begins at is not open.
    pub(super) fn parent(&self, place: &Place) -> Result<Option<(Id, Name)>, Errno> {
        let (name, before) = place.path.split_last().expect("a path to a name has a component");
        let Some(mut dir) = self.base(place.base) else {
            return Ok(None);
        };
        for step in before {
            dir = self.step(dir, *step)?.ok_or(Errno::ENOENT)?;
        }
        match self.inode(dir).body {
            Body::Dir(_) => Ok(Some((dir, *name))),
            Body::Symlink(_) => Err(Errno::ENOENT),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// Looks a name up. A symlink on the way leads nowhere.
    pub(super) fn step(&self, dir: Id, name: Name) -> Result<Option<Id>, Errno> {
        match &self.inode(dir).body {
            Body::Dir(dir) if dir.removed => Err(Errno::ENOENT),
            Body::Dir(_) if name.0.len() > NAME_MAX => Err(Errno::ENAMETOOLONG),
            Body::Dir(dir) => Ok(dir.entries.get(&name).copied()),
            Body::Symlink(_) => Err(Errno::ENOENT),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn base(&self, slot: Option<usize>) -> Option<Id> {
        slot.map_or(Some(ROOT), |slot| self.slots[slot])
    }

    /// Whether `dir` is `ancestor` or lies below it.
    pub(super) fn lies_below(&self, mut dir: Id, ancestor: Id) -> bool {
        while dir != ancestor {
            if dir == ROOT {
                return false;
            }
            dir = self.dir(dir).parent;
        }
        true
    }

    pub(super) fn attr(&self, id: Id) -> AttrAnswer {
        let inode = self.inode(id);
        AttrAnswer {
            format: inode.format(),
            mode: inode.mode,
            nlink: self.nlink(id),
            uid: inode.uid,
            gid: inode.gid,
            rdev: match inode.body {
                Body::Char(number) | Body::Block(number) => number,
                _ => 0,
            },
            size: match &inode.body {
                Body::File(pages) => pages.len(),
                Body::Symlink(target) => target.len() as u64,
                _ => 0,
            },
        }
    }

    fn nlink(&self, id: Id) -> u32 {
        match &self.inode(id).body {
            Body::Dir(dir) if dir.removed => 0,
            Body::Dir(dir) => {
                let below = dir.entries.values().filter(|id| self.inode(**id).dir().is_some());
                2 + u32::try_from(below.count()).expect("a test makes few directories")
            }
            _ => self.inode(id).names,
        }
    }

    /// Forgets an inode that has neither a name nor an open slot.
    pub(super) fn release(&mut self, id: Id) {
        let inode = self.inode(id);
        if inode.names == 0 && inode.pins == 0 {
            self.inodes.remove(&id);
        }
    }

    /// Puts the clock's time on a directory whose entries changed.
    pub(super) fn touch_dir(&mut self, dir: Id) {
        let now = Mark::Tick(self.tick);
        let inode = self.inode_mut(dir);
        inode.mtime = now;
        inode.ctime = now;
    }

    pub(super) fn touch_ctime(&mut self, id: Id) {
        let now = Mark::Tick(self.tick);
        self.inode_mut(id).ctime = now;
    }
}

impl Inode {
    pub(super) fn dir(&self) -> Option<&Dir> {
        match &self.body {
            Body::Dir(dir) => Some(dir),
            _ => None,
        }
    }

    /// S_IFMT bits.
    pub(super) fn format(&self) -> u32 {
        match self.body {
            Body::File(_) => libc::S_IFREG,
            Body::Dir(_) => libc::S_IFDIR,
            Body::Symlink(_) => libc::S_IFLNK,
            Body::Fifo => libc::S_IFIFO,
            Body::Socket => libc::S_IFSOCK,
            Body::Char(_) => libc::S_IFCHR,
            Body::Block(_) => libc::S_IFBLK,
        }
    }

    /// Clears set-user-ID, and set-group-ID where the group may execute.
    pub(super) fn clear_privileges(&mut self) {
        self.mode &= !0o4000;
        if self.mode & 0o010 != 0 {
            self.mode &= !0o2000;
        }
    }
}
