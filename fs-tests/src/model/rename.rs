//! renameat2(2) in the model, with the order in which Linux finds errors.

use std::collections::BTreeMap;

use nix::errno::Errno;

use super::apply::{done, fail, found};
use super::op::{Answer, Expected, Outcome, Place, RenameFlags};
use super::state::{Body, Entry, Id, Inode, Mark, Model};

impl Model {
    pub(super) fn rename(&mut self, from: &Place, to: &Place, flags: RenameFlags) -> Expected {
        if flags.exchange && (flags.no_replace || flags.whiteout) {
            return fail(Errno::EINVAL);
        }
        let (from_parent, to_parent) = (self.parent(from), self.parent(to));
        let unreachable: Vec<_> = [from_parent.err(), to_parent.err()]
            .into_iter()
            .flatten()
            .map(Err)
            .collect();
        if let Some(first) = unreachable.first().cloned() {
            // a name may be too long besides
            return Expected::from(first)
                .or(unreachable)
                .or([Err(Errno::ENAMETOOLONG)]);
        }
        let (from_dir, from_name) = found!(from_parent);
        let (to_dir, to_name) = found!(to_parent);
        let (old, new) = (self.step(from_dir, from_name), self.step(to_dir, to_name));
        let from = Entry {
            dir: from_dir,
            name: from_name,
            id: old.ok().flatten(),
        };
        let to = Entry {
            dir: to_dir,
            name: to_name,
            id: new.ok().flatten(),
        };
        let mut wrong: Vec<Outcome> = Vec::new();
        wrong.extend(old.err().map(Err));
        wrong.extend((old == Ok(None)).then_some(Err(Errno::ENOENT)));
        wrong.extend(new.err().map(Err));
        if old.is_ok() && new.is_ok() {
            self.rename_errors(from, to, flags, &mut wrong);
        }
        if let Some(first) = wrong.first().cloned() {
            return Expected::from(first).or(wrong);
        }
        let old = from.id.expect("a missing source is an error");
        if to.id == Some(old) {
            return done();
        }
        match to.id {
            Some(new) if flags.exchange => self.exchange(from, old, to, new),
            _ => self.rename_over(from, old, to, flags.whiteout),
        }
        done()
    }

    /// Adds every error that holds, the one that Linux finds first in front.
    fn rename_errors(&self, from: Entry, to: Entry, flags: RenameFlags, wrong: &mut Vec<Outcome>) {
        let mut when = |holds: bool, errno| {
            if holds {
                wrong.push(Err(errno))
            }
        };
        let is_dir = |id: Option<Id>| id.is_some_and(|id| self.inode(id).dir().is_some());
        let below_itself = is_dir(from.id) && from.id.is_some_and(|old| self.lies_below(to.dir, old));
        let Some(new) = to.id else {
            when(flags.exchange, Errno::ENOENT);
            when(below_itself, Errno::EINVAL);
            return;
        };
        when(flags.no_replace, Errno::EEXIST);
        when(below_itself, Errno::EINVAL);
        let above = is_dir(to.id) && self.lies_below(from.dir, new);
        if flags.exchange {
            when(above, Errno::EINVAL);
        } else if from.id != to.id && from.id.is_some() {
            when(above, Errno::ENOTEMPTY);
            when(is_dir(from.id) && !is_dir(to.id), Errno::ENOTDIR);
            when(!is_dir(from.id) && is_dir(to.id), Errno::EISDIR);
            let full = self.inode(new).dir().is_some_and(|dir| !dir.entries.is_empty());
            when(full, Errno::ENOTEMPTY);
        }
    }

    fn exchange(&mut self, from: Entry, old: Id, to: Entry, new: Id) {
        self.put(to, old);
        self.put(from, new);
        self.touch_ctime(old);
        self.touch_ctime(new);
    }

    fn rename_over(&mut self, from: Entry, old: Id, to: Entry, whiteout: bool) {
        self.dir_mut(from.dir).entries.remove(&from.name);
        self.touch_dir(from.dir);
        self.put(to, old);
        self.touch_ctime(old);
        match to.id {
            Some(replaced) if self.inode(replaced).dir().is_some() => self.drop_dir(replaced),
            Some(replaced) => {
                self.touch_ctime(replaced);
                self.inode_mut(replaced).names -= 1;
                self.release(replaced);
            }
            None => (),
        }
        if whiteout {
            self.leave_whiteout(from);
        }
    }

    /// Gives an inode the name of an entry.
    fn put(&mut self, at: Entry, id: Id) {
        self.dir_mut(at.dir).entries.insert(at.name, id);
        self.touch_dir(at.dir);
        if let Body::Dir(dir) = &mut self.inode_mut(id).body {
            dir.parent = at.dir;
        }
    }

    fn leave_whiteout(&mut self, at: Entry) {
        let id = self.next;
        self.next += 1;
        let parent = self.inode(at.dir);
        let inode = Inode {
            body: Body::Char(0),
            mode: 0,
            uid: 0,
            gid: if parent.mode & 0o2000 != 0 { parent.gid } else { 0 },
            names: 1,
            pins: 0,
            xattrs: BTreeMap::new(),
            mtime: Mark::Tick(self.tick),
            ctime: Mark::Tick(self.tick),
        };
        self.inodes.insert(id, inode);
        self.put(at, id);
    }
}
