//! Snapshots of the model: copies of it, and going back to one.

use std::collections::BTreeMap;

use super::state::{Body, Mark, Model};

impl Model {
    /// What a snapshot shows: all that has a name, nothing open.
    #[must_use]
    pub fn frozen(&self) -> Self {
        let mut frozen = self.clone();
        frozen.slots = Default::default();
        frozen.inodes.retain(|_, inode| inode.names > 0);
        frozen.inodes.values_mut().for_each(|inode| inode.pins = 0);
        frozen
    }

    /// Goes back to what [`Model::frozen`] returned. What is open stays open: without a name if the snapshot does not
    /// have it.
    pub fn roll_back(&mut self, to: &Self) {
        let now = std::mem::replace(&mut self.inodes, to.inodes.clone());
        for (id, mut open) in now.into_iter().filter(|(_, inode)| inode.pins > 0) {
            if let Some(inode) = self.inodes.get_mut(&id) {
                inode.pins = open.pins;
                continue;
            }
            if let Body::Dir(dir) = &mut open.body {
                dir.entries = BTreeMap::new();
                dir.removed = true;
            }
            open.names = 0;
            open.mtime = Mark::Open;
            open.ctime = Mark::Open;
            self.inodes.insert(id, open);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Name, NodeKind, Op, Place};

    fn make(name: &'static [u8]) -> Op {
        Op::Make {
            at: place(name),
            node: NodeKind::Regular,
            mode: 0o644,
            umask: 0,
            uid: 0,
            gid: 0,
        }
    }

    fn place(name: &'static [u8]) -> Place {
        Place {
            base: None,
            path: vec![Name(name)],
        }
    }

    #[test]
    fn going_back_brings_names_back_and_keeps_open_files() {
        let mut model = Model::default();
        model.apply(&make(b"old"));
        let frozen = model.frozen();
        model.apply(&Op::Unlink { at: place(b"old") });
        model.apply(&make(b"new"));
        model.apply(&Op::Open {
            slot: 0,
            at: place(b"new"),
        });
        model.roll_back(&frozen);
        assert!(model.place(&place(b"old")).unwrap().is_some());
        assert!(model.place(&place(b"new")).is_err());
        assert!(model.is_open(0));
        assert_eq!(model.inode_count(), 3, "the root, the old file, the open one");
    }
}
