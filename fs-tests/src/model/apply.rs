//! What each operation on names and attributes does to the model, and what it answers.

use std::collections::BTreeMap;

use nix::errno::Errno;

use super::op::{Answer, Expected, Name, NodeKind, Op, Outcome, Place, Target, XattrFlag, pattern};
use super::pages::Pages;
use super::state::{Body, Dir, Id, Inode, Mark, Model};

/// Unwraps what a look-up found: an error is the answer, and a slot that is not open skips the operation.
macro_rules! found {
    ($found:expr) => {
        match $found {
            Ok(Some(found)) => found,
            Ok(None) => return Expected::from(Ok(Answer::Skipped)),
            Err(errno) => return Expected::from(Err(errno)),
        }
    };
}
pub(super) use found;

pub(super) fn fail(errno: Errno) -> Expected {
    Expected::from(Err(errno))
}

pub(super) fn done() -> Expected {
    Expected::from(Ok(Answer::Done))
}

/// A name too long to be made: below the kernel, which looks it up first, it is just not there.
fn never_made() -> Expected {
    fail(Errno::ENAMETOOLONG).or([Err(Errno::ENOENT)])
}

/// The arguments of [`Op::Make`] beside the path.
struct NewInode {
    node: NodeKind,
    mode: u16,
    uid: u32,
    gid: u32,
}

impl Model {
    /// Plays one operation and says what is right for a filesystem to answer.
    pub fn apply(&mut self, op: &Op) -> Expected {
        self.tick += 1;
        match op {
            Op::Open { slot, at } => self.open(*slot, at),
            Op::Close { slot } => self.close(*slot),
            Op::Make {
                at,
                node,
                mode,
                umask,
                uid,
                gid,
            } => {
                let mode = match node {
                    NodeKind::Symlink(_) => 0o777,
                    _ => mode & !umask,
                };
                let new = NewInode {
                    node: *node,
                    mode,
                    uid: *uid,
                    gid: *gid,
                };
                self.make(at, &new)
            }
            Op::Link { from, to } => self.link(from, to),
            Op::Unlink { at } => self.unlink(at),
            Op::Rmdir { at } => self.rmdir(at),
            Op::Rename { from, to, flags } => self.rename(from, to, *flags),
            Op::Chmod { on, mode } => self.chmod(on, *mode),
            Op::Chown { on, uid, gid } => self.chown(on, *uid, *gid),
            Op::Utimens { on, mtime, .. } => self.utimens(on, *mtime),
            Op::SetXattr {
                on,
                name,
                len,
                fill,
                flag,
            } => self.set_xattr(on, *name, pattern(*fill, u64::from(*len)), *flag),
            Op::GetXattr { on, name } => self.get_xattr(on, *name),
            Op::ListXattr { on } => self.list_xattr(on),
            Op::RemoveXattr { on, name } => self.remove_xattr(on, *name),
            Op::ReadDir { on, .. } => self.read_dir(on),
            Op::ReadLink { at } => self.read_link(at),
            Op::Stat { on } => {
                let id = found!(self.target(on));
                Expected::from(Ok(Answer::Attr(self.attr(id))))
            }
            Op::StatFs => done(),
            _ => self.apply_data(op),
        }
    }

    fn open(&mut self, slot: usize, at: &Place) -> Expected {
        let id = found!(self.place(at));
        match self.inode(id).body {
            Body::File(_) | Body::Dir(_) => (),
            Body::Symlink(_) => return fail(Errno::ELOOP),
            _ => return Expected::from(Ok(Answer::Skipped)),
        }
        self.inode_mut(id).pins += 1;
        if let Some(old) = self.slots[slot].replace(id) {
            self.unpin(old);
        }
        done()
    }

    fn close(&mut self, slot: usize) -> Expected {
        match self.slots[slot].take() {
            Some(id) => {
                self.unpin(id);
                done()
            }
            None => Expected::from(Ok(Answer::Skipped)),
        }
    }

    fn unpin(&mut self, id: Id) {
        self.inode_mut(id).pins -= 1;
        self.release(id);
    }

    fn make(&mut self, at: &Place, new: &NewInode) -> Expected {
        let entry = found!(self.entry(at));
        if entry.id.is_some() {
            return fail(Errno::EEXIST);
        }
        let id = self.next;
        self.next += 1;
        let parent = self.inode(entry.dir);
        // a set-group-ID directory hands down its group, and to directories the bit
        let inherits = parent.mode & 0o2000 != 0;
        let body = new_body(new.node, entry.dir);
        let bit = if inherits && matches!(body, Body::Dir(_)) {
            0o2000
        } else {
            0
        };
        let inode = Inode {
            body,
            mode: new.mode | bit,
            uid: new.uid,
            gid: if inherits { parent.gid } else { new.gid },
            names: 1,
            pins: 0,
            xattrs: BTreeMap::new(),
            mtime: Mark::Tick(self.tick),
            ctime: Mark::Tick(self.tick),
        };
        self.inodes.insert(id, inode);
        self.dir_mut(entry.dir).entries.insert(entry.name, id);
        self.touch_dir(entry.dir);
        Expected::from(Ok(Answer::Attr(self.attr(id))))
    }

    fn link(&mut self, from: &Target, to: &Place) -> Expected {
        let id = found!(self.target(from));
        let is_dir = self.inode(id).dir().is_some();
        let nameless = self.inode(id).names == 0;
        let entry = match self.entry(to) {
            Ok(Some(entry)) => entry,
            Ok(None) => return Expected::from(Ok(Answer::Skipped)),
            Err(errno) => {
                let also = [
                    is_dir.then_some(Err(Errno::EPERM)),
                    nameless.then_some(Err(Errno::ENOENT)),
                ];
                return fail(errno).or(also.into_iter().flatten());
            }
        };
        let mut wrong: Vec<Outcome> = Vec::new();
        let mut when = |holds, errno| {
            if holds {
                wrong.push(Err(errno))
            }
        };
        when(entry.id.is_some(), Errno::EEXIST);
        when(is_dir, Errno::EPERM);
        when(nameless, Errno::ENOENT);
        if let Some(first) = wrong.first().cloned() {
            return Expected::from(first).or(wrong);
        }
        self.inode_mut(id).names += 1;
        self.touch_ctime(id);
        self.dir_mut(entry.dir).entries.insert(entry.name, id);
        self.touch_dir(entry.dir);
        Expected::from(Ok(Answer::Attr(self.attr(id))))
    }

    fn unlink(&mut self, at: &Place) -> Expected {
        let entry = match self.entry(at) {
            Err(Errno::ENAMETOOLONG) => return never_made(),
            found => found!(found),
        };
        let Some(id) = entry.id else {
            return fail(Errno::ENOENT);
        };
        if self.inode(id).dir().is_some() {
            return fail(Errno::EISDIR);
        }
        self.dir_mut(entry.dir).entries.remove(&entry.name);
        self.touch_dir(entry.dir);
        self.touch_ctime(id);
        self.inode_mut(id).names -= 1;
        self.release(id);
        done()
    }

    fn rmdir(&mut self, at: &Place) -> Expected {
        let entry = match self.entry(at) {
            Err(Errno::ENAMETOOLONG) => return never_made(),
            found => found!(found),
        };
        let Some(id) = entry.id else {
            return fail(Errno::ENOENT);
        };
        match self.inode(id).dir() {
            None => return fail(Errno::ENOTDIR),
            Some(dir) if !dir.entries.is_empty() => return fail(Errno::ENOTEMPTY),
            Some(_) => (),
        }
        self.dir_mut(entry.dir).entries.remove(&entry.name);
        self.touch_dir(entry.dir);
        self.drop_dir(id);
        done()
    }

    /// Takes the last name from an empty directory.
    pub(super) fn drop_dir(&mut self, id: Id) {
        self.dir_mut(id).removed = true;
        let inode = self.inode_mut(id);
        inode.names = 0;
        inode.mtime = Mark::Open;
        inode.ctime = Mark::Open;
        self.release(id);
    }

    fn chmod(&mut self, on: &Target, mode: u16) -> Expected {
        let id = found!(self.target(on));
        if matches!(self.inode(id).body, Body::Symlink(_)) {
            return fail(Errno::ENOENT); // chmod(2) follows it, to nowhere
        }
        self.inode_mut(id).mode = mode;
        self.touch_ctime(id);
        done()
    }

    fn chown(&mut self, on: &Target, uid: Option<u32>, gid: Option<u32>) -> Expected {
        let id = found!(self.target(on));
        let inode = self.inode_mut(id);
        inode.uid = uid.unwrap_or(inode.uid);
        inode.gid = gid.unwrap_or(inode.gid);
        if inode.dir().is_none() {
            inode.clear_privileges();
        }
        self.touch_ctime(id);
        done()
    }

    fn utimens(&mut self, on: &Target, (secs, nanos): (i64, u32)) -> Expected {
        let id = found!(self.target(on));
        self.inode_mut(id).mtime = Mark::At(secs, nanos);
        self.touch_ctime(id);
        done()
    }

    fn set_xattr(&mut self, on: &Target, name: Name, value: Vec<u8>, flag: XattrFlag) -> Expected {
        let id = found!(self.target(on));
        let inode = self.inode_mut(id);
        if let Some(errno) = xattr_refusal(inode, name) {
            return fail(errno);
        }
        match (flag, inode.xattrs.contains_key(&name)) {
            (XattrFlag::Create, true) => return fail(Errno::EEXIST),
            (XattrFlag::Replace, false) => return fail(Errno::ENODATA),
            _ => inode.xattrs.insert(name, value),
        };
        self.touch_ctime(id);
        done()
    }

    fn get_xattr(&mut self, on: &Target, name: Name) -> Expected {
        let id = found!(self.target(on));
        let inode = self.inode(id);
        match xattr_refusal(inode, name) {
            Some(Errno::EOPNOTSUPP) => fail(Errno::EOPNOTSUPP),
            _ => Expected::from(
                inode
                    .xattrs
                    .get(&name)
                    .cloned()
                    .map(Answer::Bytes)
                    .ok_or(Errno::ENODATA),
            ),
        }
    }

    fn list_xattr(&mut self, on: &Target) -> Expected {
        let id = found!(self.target(on));
        let names = self.inode(id).xattrs.keys().map(|name| (name.0.to_vec(), 0));
        Expected::from(Ok(Answer::Names(names.collect())))
    }

    fn remove_xattr(&mut self, on: &Target, name: Name) -> Expected {
        let id = found!(self.target(on));
        let inode = self.inode_mut(id);
        if let Some(errno) = xattr_refusal(inode, name) {
            // below the kernel's own check the attribute is just not there
            return fail(errno).or((errno == Errno::EPERM).then_some(Err(Errno::ENODATA)));
        }
        if inode.xattrs.remove(&name).is_none() {
            return fail(Errno::ENODATA);
        }
        self.touch_ctime(id);
        done()
    }

    fn read_dir(&mut self, on: &Target) -> Expected {
        let id = found!(self.target(on));
        let Some(dir) = self.inode(id).dir() else {
            return match self.inode(id).body {
                Body::Symlink(_) => fail(Errno::ELOOP).or([Err(Errno::ENOTDIR)]),
                _ => fail(Errno::ENOTDIR),
            };
        };
        if dir.removed {
            return fail(Errno::ENOENT).or([Ok(Answer::Names(Vec::new()))]);
        }
        let names = dir
            .entries
            .iter()
            .map(|(name, id)| (name.0.to_vec(), self.inode(*id).format()));
        Expected::from(Ok(Answer::Names(names.collect())))
    }

    fn read_link(&mut self, at: &Place) -> Expected {
        let id = found!(self.place(at));
        match &self.inode(id).body {
            Body::Symlink(target) => Expected::from(Ok(Answer::Bytes(target.clone()))),
            _ => fail(Errno::EINVAL),
        }
    }
}

fn new_body(node: NodeKind, parent: Id) -> Body {
    match node {
        NodeKind::Regular => Body::File(Pages::default()),
        NodeKind::Directory => Body::Dir(Dir {
            entries: BTreeMap::new(),
            parent,
            removed: false,
        }),
        NodeKind::Symlink(len) => Body::Symlink(NodeKind::symlink_target(len)),
        NodeKind::Fifo => Body::Fifo,
        NodeKind::Socket => Body::Socket,
        NodeKind::Char(number) => Body::Char(number),
        NodeKind::Block(number) => Body::Block(number),
    }
}

/// Why an inode cannot carry an attribute of that name.
fn xattr_refusal(inode: &Inode, name: Name) -> Option<Errno> {
    let known = [&b"user."[..], b"trusted.", b"security."];
    if !known.iter().any(|prefix| name.0.starts_with(prefix)) {
        return Some(Errno::EOPNOTSUPP);
    }
    let carries = matches!(inode.body, Body::File(_) | Body::Dir(_));
    (name.0.starts_with(b"user.") && !carries).then_some(Errno::EPERM)
}
