//! Plays the model's operations on a filesystem through [`Vfs`], and dumps what it holds.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use nix::errno::Errno;
use okapi::clock::Timestamp;
use okapi::range::ByteRange;
use okapi::vfs::{
    Attr, Caller, CopyRange, Fallocate, FileKind, Ino, NewName, NewNode, RenameMode, SeekTo, SetAttr,
    TimeOrNow, Vfs, WriteAt, XattrMode,
};
use okapi::{Error, ErrorKind};

use crate::model::{
    Answer, AttrAnswer, Fallocation, NodeDump, NodeKind, Op, Outcome, Place, SLOTS, Segment, Span, Target,
    TreeDump, XattrFlag, pattern,
};

const ROOT_USER: Caller = Caller { uid: 0, gid: 0 };

/// A filesystem, and the slots that a run holds open: each is one look-up that is not given back yet.
pub struct VfsDriver<'v> {
    vfs: &'v dyn Vfs,
    root: Ino,
    slots: [Option<Ino>; SLOTS],
}

/// An inode with the look-up that keeps it, given back on drop.
struct Held<'v> {
    vfs: &'v dyn Vfs,
    ino: Ino,
    kind: FileKind,
    owed: bool,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.owed {
            self.vfs.forget(self.ino, 1);
        }
    }
}

/// What was found; `Ok(None)`: it begins at a slot that is not open.
type Found<T> = Result<Option<T>, Errno>;

/// Unwraps what was found, or skips the operation.
macro_rules! found {
    ($found:expr) => {
        match $found? {
            Some(found) => found,
            None => return Ok(Answer::Skipped),
        }
    };
}

impl<'v> VfsDriver<'v> {
    /// A driver with no open slot.
    pub fn new(vfs: &'v dyn Vfs) -> Self {
        Self::below(vfs, Ino::ROOT)
    }

    /// A driver for the tree below a directory, which it takes for the root.
    pub fn below(vfs: &'v dyn Vfs, root: Ino) -> Self {
        Self {
            vfs,
            root,
            slots: [None; SLOTS],
        }
    }

    /// Plays one operation.
    ///
    /// # Errors
    /// What the filesystem answered, as errno.
    ///
    /// # Panics
    /// Where the answer contradicts itself.
    pub fn play(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Open { slot, at } => self.open(*slot, at),
            Op::Close { slot } => Ok(self.close(*slot)),
            Op::Make { .. } | Op::Link { .. } | Op::Unlink { .. } | Op::Rmdir { .. } | Op::Rename { .. } => {
                self.play_names(op)
            }
            Op::Chmod { .. } | Op::Chown { .. } | Op::Utimens { .. } => self.play_attributes(op),
            Op::SetXattr { .. } | Op::GetXattr { .. } | Op::ListXattr { .. } | Op::RemoveXattr { .. } => {
                self.play_xattrs(op)
            }
            Op::ReadDir { on, step } => {
                let dir = found!(self.target(on));
                self.read_dir(dir.ino, *step)
            }
            Op::ReadLink { at } => {
                let link = found!(self.place(at));
                Ok(Answer::Bytes(errno_of(self.vfs.readlink(link.ino))?.into_vec()))
            }
            Op::Stat { on } => {
                let node = found!(self.target(on));
                Ok(Answer::Attr(answer(&errno_of(self.vfs.getattr(node.ino))?)))
            }
            Op::StatFs => {
                let stat = self.vfs.statfs();
                assert!(
                    stat.free_bytes <= stat.size_bytes && stat.inodes_free <= stat.inodes_max,
                    "{stat:?}"
                );
                assert!(stat.block_size.is_power_of_two(), "{stat:?}");
                Ok(Answer::Done)
            }
            _ => self.play_data(op),
        }
    }

    /// The directory and the name in it that a place stands for, if there is that directory.
    pub fn name_at<'o>(&self, at: &'o Place) -> Option<(Ino, &'o [u8])> {
        let (parent, name) = self.parent(at).ok()??;
        Some((parent.ino, name))
    }

    /// Gives every slot back.
    pub fn close_all(&mut self) {
        for slot in 0..SLOTS {
            self.close(slot);
        }
    }

    /// Removes the extended attributes of the one inode that cannot be removed itself.
    ///
    /// # Errors
    /// What the filesystem answered.
    pub fn remove_xattrs_of_root(&self) -> Result<(), Errno> {
        for name in self.xattr_names(Ino::ROOT)? {
            errno_of(self.vfs.removexattr(Ino::ROOT, &name))?;
        }
        Ok(())
    }

    fn open(&mut self, slot: usize, at: &Place) -> Outcome {
        let mut node = found!(self.place(at));
        match node.kind {
            FileKind::Regular | FileKind::Directory => (),
            FileKind::Symlink => return Err(Errno::ELOOP),
            _ => return Ok(Answer::Skipped),
        }
        if !node.owed {
            // the path was a slot or the root: take a look-up of our own
            let itself = errno_of(self.vfs.lookup(node.ino, b"."))?;
            assert_eq!(itself.ino, node.ino, "a directory is its own `.`");
        }
        node.owed = false;
        let ino = node.ino;
        drop(node);
        self.close(slot);
        self.slots[slot] = Some(ino);
        Ok(Answer::Done)
    }

    fn close(&mut self, slot: usize) -> Answer {
        match self.slots[slot].take() {
            Some(ino) => {
                self.vfs.forget(ino, 1);
                Answer::Done
            }
            None => Answer::Skipped,
        }
    }

    fn play_names(&self, op: &Op) -> Outcome {
        match op {
            Op::Make {
                at,
                node,
                mode,
                umask,
                uid,
                gid,
            } => {
                let (parent, name) = found!(self.parent(at));
                // symlinks have all bits: a kernel asks so
                let (mode, umask) = match node {
                    NodeKind::Symlink(_) => (0o777, 0),
                    _ => (*mode, *umask),
                };
                let at = NewName {
                    parent: parent.ino,
                    name,
                    mode,
                    umask,
                };
                let caller = Caller { uid: *uid, gid: *gid };
                let attr = self.make(caller, at, *node)?;
                self.vfs.forget(attr.ino, 1);
                Ok(Answer::Attr(answer(&attr)))
            }
            Op::Link { from, to } => {
                let node = found!(self.target(from));
                let (parent, name) = found!(self.parent(to));
                let attr = errno_of(self.vfs.link(node.ino, parent.ino, name))?;
                self.vfs.forget(attr.ino, 1);
                Ok(Answer::Attr(answer(&attr)))
            }
            Op::Unlink { at } => {
                let (parent, name) = found!(self.parent(at));
                errno_of(self.vfs.unlink(parent.ino, name))?;
                Ok(Answer::Done)
            }
            Op::Rmdir { at } => {
                let (parent, name) = found!(self.parent(at));
                errno_of(self.vfs.rmdir(parent.ino, name))?;
                Ok(Answer::Done)
            }
            Op::Rename { from, to, flags } => {
                if flags.exchange && (flags.no_replace || flags.whiteout) {
                    return Err(Errno::EINVAL); // Linux looks at the flags before the paths
                }
                let (from, old) = found!(self.parent(from));
                let (to, new) = found!(self.parent(to));
                let mode = RenameMode {
                    no_replace: flags.no_replace,
                    exchange: flags.exchange,
                    whiteout: flags.whiteout,
                };
                errno_of(self.vfs.rename(ROOT_USER, (from.ino, old), (to.ino, new), mode))?;
                Ok(Answer::Done)
            }
            _ => unreachable!("{op:?} makes no name"),
        }
    }

    fn make(&self, caller: Caller, at: NewName<'_>, node: NodeKind) -> Result<Attr, Errno> {
        let target;
        let node = match node {
            NodeKind::Regular => NewNode::Regular,
            NodeKind::Directory => NewNode::Directory,
            NodeKind::Symlink(len) => {
                target = NodeKind::symlink_target(len);
                NewNode::Symlink(&target)
            }
            NodeKind::Fifo => NewNode::Fifo,
            NodeKind::Socket => NewNode::Socket,
            NodeKind::Char(number) => NewNode::CharDevice(number),
            NodeKind::Block(number) => NewNode::BlockDevice(number),
        };
        errno_of(self.vfs.create(caller, at, node))
    }

    fn play_data(&self, op: &Op) -> Outcome {
        match op {
            Op::Read { file, span } => {
                let file = found!(self.file(file));
                Ok(Answer::Bytes(self.read(file.ino, *span)?))
            }
            Op::Write {
                file,
                span,
                fill,
                clear,
            } => {
                let file = found!(self.file(file));
                let bytes = pattern(*fill, span.len);
                let written =
                    errno_of(
                        self.vfs
                            .write(file.ino, WriteAt::Offset(span.offset), &bytes, *clear),
                    )?;
                assert_eq!(written.offset, span.offset, "a write goes where it was asked to");
                Ok(Answer::Count(written.len as u64))
            }
            Op::Append { file, len, fill } => {
                let file = found!(self.file(file));
                let size = errno_of(self.vfs.getattr(file.ino))?.size;
                let written = errno_of(
                    self.vfs
                        .write(file.ino, WriteAt::End, &pattern(*fill, *len), false),
                )?;
                assert!(written.offset == size || *len == 0, "an append goes to the end");
                Ok(Answer::Count(written.len as u64))
            }
            Op::Truncate { file, size } => {
                let file = found!(self.file(file));
                let changes = SetAttr {
                    size: Some(*size),
                    ..SetAttr::default()
                };
                let attr = errno_of(self.vfs.setattr(ROOT_USER, file.ino, &changes))?;
                assert_eq!(attr.size, *size, "the new size is answered");
                Ok(Answer::Done)
            }
            Op::Fallocate { file, span, mode } => {
                let file = found!(self.file(file));
                let range = errno_of(ByteRange::at(span.offset, span.len))?;
                errno_of(self.vfs.fallocate(file.ino, range, fallocate_mode(*mode)))?;
                Ok(Answer::Done)
            }
            Op::Seek { file, offset, hole } => {
                let file = found!(self.target(file));
                if file.kind != FileKind::Regular {
                    return Ok(Answer::Skipped);
                }
                let to = if *hole { SeekTo::Hole } else { SeekTo::Data };
                Ok(Answer::Offset(errno_of(self.vfs.seek(file.ino, *offset, to))?))
            }
            Op::CopyRange {
                from,
                span,
                to,
                offset,
            } => {
                let source = found!(self.file(from));
                let target = found!(self.file(to));
                self.copy(&source, *span, &target, *offset)
            }
            _ => unreachable!("{op:?} is not for Vfs"),
        }
    }

    fn copy(&self, source: &Held<'_>, span: Span, target: &Held<'_>, offset: u64) -> Outcome {
        let range = CopyRange {
            source: source.ino,
            source_offset: span.offset,
            target: target.ino,
            target_offset: offset,
            len: span.len,
        };
        // as a kernel does, ask only for what the source has
        let size = match source.kind {
            FileKind::Regular => errno_of(self.vfs.getattr(source.ino))?.size,
            _ => u64::MAX,
        };
        let len = span.len.min(size.saturating_sub(span.offset));
        Ok(Answer::Count(errno_of(
            self.vfs.copy_range(&CopyRange { len, ..range }, false),
        )?))
    }

    fn read(&self, ino: Ino, span: Span) -> Result<Vec<u8>, Errno> {
        let len = usize::try_from(span.len).expect("a read fits memory");
        let mut bytes = vec![0xee; len];
        let read = errno_of(self.vfs.read(ino, span.offset, &mut bytes))?;
        assert!(
            bytes[read..].iter().all(|byte| *byte == 0xee),
            "what lies behind the bytes stays as it is"
        );
        bytes.truncate(read);
        Ok(bytes)
    }

    fn play_attributes(&self, op: &Op) -> Outcome {
        let mut changes = SetAttr::default();
        let on = match op {
            Op::Chmod { on, mode } => {
                changes.mode = Some(*mode);
                on
            }
            Op::Chown { on, uid, gid } => {
                changes.uid = *uid;
                changes.gid = *gid;
                on
            }
            Op::Utimens { on, atime, mtime } => {
                let at = |(secs, nanos)| Some(TimeOrNow::At(Timestamp { secs, nanos }));
                changes.atime = at(*atime);
                changes.mtime = at(*mtime);
                on
            }
            _ => unreachable!("{op:?} changes no attributes"),
        };
        let node = found!(self.target(on));
        if node.kind == FileKind::Symlink && changes.mode.is_some() {
            return Err(Errno::ENOENT); // chmod(2) follows it, to nowhere
        }
        let attr = errno_of(self.vfs.setattr(ROOT_USER, node.ino, &changes))?;
        if let Op::Utimens { atime, .. } = op {
            assert_eq!(
                (attr.atime.secs, attr.atime.nanos),
                *atime,
                "the new atime is answered"
            );
        }
        Ok(Answer::Done)
    }

    fn play_xattrs(&self, op: &Op) -> Outcome {
        match op {
            Op::SetXattr {
                on,
                name,
                len,
                fill,
                flag,
            } => {
                let node = found!(self.target(on));
                let value = pattern(*fill, u64::from(*len));
                let mode = match flag {
                    XattrFlag::Set => XattrMode::Set,
                    XattrFlag::Create => XattrMode::Create,
                    XattrFlag::Replace => XattrMode::Replace,
                };
                errno_of(self.vfs.setxattr(ROOT_USER, node.ino, name.0, &value, mode))?;
                Ok(Answer::Done)
            }
            Op::GetXattr { on, name } => {
                let node = found!(self.target(on));
                Ok(Answer::Bytes(
                    errno_of(self.vfs.getxattr(node.ino, name.0))?.into_vec(),
                ))
            }
            Op::ListXattr { on } => {
                let node = found!(self.target(on));
                let names = self.xattr_names(node.ino)?;
                Ok(Answer::Names(names.into_iter().map(|name| (name, 0)).collect()))
            }
            Op::RemoveXattr { on, name } => {
                let node = found!(self.target(on));
                errno_of(self.vfs.removexattr(node.ino, name.0))?;
                Ok(Answer::Done)
            }
            _ => unreachable!("{op:?} is on no attribute"),
        }
    }

    fn xattr_names(&self, ino: Ino) -> Result<Vec<Vec<u8>>, Errno> {
        let list = errno_of(self.vfs.listxattr(ROOT_USER, ino))?;
        let mut names: Vec<_> = list.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
        assert_eq!(names.pop(), Some(Vec::new()), "each name ends with a NUL");
        names.sort();
        Ok(names)
    }

    /// All entries but `.` and `..`, taken `step` at a time; with attributes where `step` is even.
    fn read_dir(&self, dir: Ino, step: usize) -> Outcome {
        let entries = self.entries(dir, step, step.is_multiple_of(2))?;
        let mut names: Vec<_> = entries
            .into_iter()
            .map(|(name, kind)| (name, format_bits(kind)))
            .collect();
        names.sort();
        Ok(Answer::Names(names))
    }

    fn entries(&self, dir: Ino, step: usize, plus: bool) -> Result<Vec<(Vec<u8>, FileKind)>, Errno> {
        let mut all: Vec<(Vec<u8>, FileKind)> = Vec::new();
        let mut looked_up = Vec::new();
        let mut cookie = 0;
        loop {
            let mut taken = 0;
            let scan = self.vfs.readdir(dir, cookie, plus, &mut |entry| {
                if taken == step {
                    return ControlFlow::Break(());
                }
                taken += 1;
                cookie = entry.cookie;
                if let Some(attr) = entry.attr {
                    assert_eq!(
                        (attr.ino, attr.kind),
                        (entry.ino, entry.kind),
                        "attributes are the entry's"
                    );
                    looked_up.push(attr.ino);
                }
                let dots = entry.name == b"." || entry.name == b"..";
                assert_eq!(
                    entry.attr.is_some(),
                    plus && !dots,
                    "attributes come where asked for"
                );
                all.push((entry.name.to_vec(), entry.kind));
                ControlFlow::Continue(())
            });
            errno_of(scan)?;
            if taken == 0 {
                break;
            }
        }
        for ino in looked_up {
            self.vfs.forget(ino, 1);
        }
        let distinct: BTreeSet<_> = all.iter().map(|(name, _)| name).collect();
        assert_eq!(distinct.len(), all.len(), "each entry comes once");
        let before = all.len();
        all.retain(|(name, _)| name != b"." && name != b"..");
        assert!(before == all.len() + 2 || before == 0, "`.` and `..` come once");
        Ok(all)
    }

    fn file(&self, target: &Target) -> Found<Held<'v>> {
        match self.target(target)? {
            Some(node) if node.kind == FileKind::Symlink => Err(Errno::ELOOP),
            node => Ok(node),
        }
    }

    fn target(&self, target: &Target) -> Found<Held<'v>> {
        match target {
            Target::Path(place) => self.place(place),
            Target::Slot(slot) => self.base(Some(*slot)),
        }
    }

    fn place(&self, place: &Place) -> Found<Held<'v>> {
        let Some(mut at) = self.base(place.base)? else {
            return Ok(None);
        };
        for name in &place.path {
            at = self.step(&at, name.0)?;
        }
        Ok(Some(at))
    }

    fn parent<'p>(&self, place: &'p Place) -> Found<(Held<'v>, &'p [u8])> {
        let (name, before) = place.path.split_last().expect("a path to a name has a component");
        let Some(mut at) = self.base(place.base)? else {
            return Ok(None);
        };
        for step in before {
            at = self.step(&at, step.0)?;
        }
        match at.kind {
            FileKind::Symlink => Err(Errno::ENOENT), // it is followed, to nowhere
            _ => Ok(Some((at, name.0))),
        }
    }

    fn step(&self, dir: &Held<'v>, name: &[u8]) -> Result<Held<'v>, Errno> {
        if dir.kind == FileKind::Symlink {
            return Err(Errno::ENOENT);
        }
        let attr = errno_of(self.vfs.lookup(dir.ino, name))?;
        Ok(Held {
            vfs: self.vfs,
            ino: attr.ino,
            kind: attr.kind,
            owed: true,
        })
    }

    fn base(&self, slot: Option<usize>) -> Found<Held<'v>> {
        let Some(ino) = slot.map_or(Some(self.root), |slot| self.slots[slot]) else {
            return Ok(None);
        };
        Ok(Some(Held {
            vfs: self.vfs,
            ino,
            kind: errno_of(self.vfs.getattr(ino))?.kind,
            owed: false,
        }))
    }

    /// Everything that can be seen.
    ///
    /// # Errors
    /// What the filesystem answered where it should have answered.
    pub fn dump(&self) -> Result<TreeDump, Errno> {
        let mut dump = TreeDump::default();
        let root = self.base(None)?.expect("the root is always open");
        let mut todo = vec![(Vec::new(), root)];
        while let Some((path, node)) = todo.pop() {
            self.dump_node(&mut dump, node.ino)?;
            dump.names.insert(path.clone(), node.ino.0);
            if node.kind != FileKind::Directory {
                continue;
            }
            for (name, kind) in self.entries(node.ino, 1000, false)? {
                let below = self.step(&node, &name)?;
                assert_eq!(below.kind, kind, "readdir and lookup agree");
                todo.push(([&path[..], b"/", &name].concat(), below));
            }
        }
        for (slot, ino) in (0..).zip(self.slots) {
            if let Some(ino) = ino {
                dump.slots.insert(slot, ino.0);
                self.dump_node(&mut dump, ino)?;
            }
        }
        Ok(dump)
    }

    fn dump_node(&self, dump: &mut TreeDump, ino: Ino) -> Result<(), Errno> {
        if dump.nodes.contains_key(&ino.0) {
            return Ok(());
        }
        let attr = errno_of(self.vfs.getattr(ino))?;
        let mut xattrs = Vec::new();
        for name in self.xattr_names(ino)? {
            let value = errno_of(self.vfs.getxattr(ino, &name))?.into_vec();
            xattrs.push((name, value));
        }
        let node = NodeDump {
            attr: answer(&attr),
            target: match attr.kind {
                FileKind::Symlink => errno_of(self.vfs.readlink(ino))?.into_vec(),
                _ => Vec::new(),
            },
            xattrs,
            segments: match attr.kind {
                FileKind::Regular => self.segments(ino, attr.size)?,
                _ => Vec::new(),
            },
            mtime: (attr.mtime.secs, attr.mtime.nanos),
            ctime: (attr.ctime.secs, attr.ctime.nanos),
        };
        dump.nodes.insert(ino.0, node);
        Ok(())
    }

    fn segments(&self, ino: Ino, size: u64) -> Result<Vec<Segment>, Errno> {
        let mut segments = Vec::new();
        let mut at = 0;
        while at < size {
            let offset = match self.vfs.seek(ino, at, SeekTo::Data) {
                Ok(offset) => offset,
                Err(error) if error.kind() == ErrorKind::BeyondEnd => break,
                Err(error) => return Err(errno(&error)),
            };
            at = errno_of(self.vfs.seek(ino, offset, SeekTo::Hole))?;
            assert!(
                at > offset,
                "data at {offset} ends at a hole behind it, not at {at}"
            );
            let span = Span {
                offset,
                len: at - offset,
            };
            let bytes = self.read(ino, span)?;
            segments.push(Segment { offset, bytes });
        }
        Ok(segments)
    }
}

fn answer(attr: &Attr) -> AttrAnswer {
    AttrAnswer {
        format: format_bits(attr.kind),
        mode: attr.mode,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: match attr.kind {
            FileKind::CharDevice | FileKind::BlockDevice => attr.rdev,
            _ => 0,
        },
        size: match attr.kind {
            FileKind::Regular | FileKind::Symlink => attr.size,
            _ => 0,
        },
    }
}

fn format_bits(kind: FileKind) -> u32 {
    match kind {
        FileKind::Regular => libc::S_IFREG,
        FileKind::Directory => libc::S_IFDIR,
        FileKind::Symlink => libc::S_IFLNK,
        FileKind::Fifo => libc::S_IFIFO,
        FileKind::Socket => libc::S_IFSOCK,
        FileKind::CharDevice => libc::S_IFCHR,
        FileKind::BlockDevice => libc::S_IFBLK,
    }
}

fn fallocate_mode(mode: Fallocation) -> Fallocate {
    match mode {
        Fallocation::Allocate => Fallocate::Allocate { keep_size: false },
        Fallocation::AllocateKeep => Fallocate::Allocate { keep_size: true },
        Fallocation::Punch => Fallocate::Punch,
        Fallocation::Zero => Fallocate::Zero { keep_size: false },
        Fallocation::ZeroKeep => Fallocate::Zero { keep_size: true },
    }
}

fn errno_of<T>(result: okapi::Result<T>) -> Result<T, Errno> {
    result.map_err(|error| errno(&error))
}

/// The errno of an error: written down a second time here, so that the frontend's table is checked against it.
pub fn errno(error: &Error) -> Errno {
    match error.kind() {
        ErrorKind::NotPermitted => Errno::EPERM,
        ErrorKind::NotFound => Errno::ENOENT,
        ErrorKind::Corrupt => Errno::EIO,
        ErrorKind::BeyondEnd => Errno::ENXIO,
        ErrorKind::TooLarge => Errno::E2BIG,
        ErrorKind::AccessDenied => Errno::EACCES,
        ErrorKind::Busy => Errno::EBUSY,
        ErrorKind::Exists => Errno::EEXIST,
        ErrorKind::NotDirectory => Errno::ENOTDIR,
        ErrorKind::IsDirectory => Errno::EISDIR,
        ErrorKind::InvalidArgument => Errno::EINVAL,
        ErrorKind::FileTooBig => Errno::EFBIG,
        ErrorKind::NoSpace => Errno::ENOSPC,
        ErrorKind::QuotaExceeded => Errno::EDQUOT,
        ErrorKind::ReadOnly => Errno::EROFS,
        ErrorKind::TooManyLinks => Errno::EMLINK,
        ErrorKind::OutOfRange => Errno::ERANGE,
        ErrorKind::NameTooLong => Errno::ENAMETOOLONG,
        ErrorKind::NotEmpty => Errno::ENOTEMPTY,
        ErrorKind::NoAttribute => Errno::ENODATA,
        ErrorKind::Stale => Errno::ESTALE,
        ErrorKind::NotSupported => Errno::EOPNOTSUPP,
        ErrorKind::NoMemory => Errno::ENOMEM,
    }
}
