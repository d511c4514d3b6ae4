//! Plays the model's operations as system calls on a mounted directory, and dumps what it holds.

use std::cell::{Cell, RefCell};
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{
    AT_FDCWD, AtFlags, FallocateFlags, OFlag, RenameFlags, copy_file_range, fallocate, open, readlink,
};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmodat, fstat, lstat, mknod, stat, utimensat,
};
use nix::sys::statvfs::statvfs;
use nix::sys::time::TimeSpec;
use nix::sys::uio::{pread, pwrite};
use nix::unistd::{Gid, Uid, Whence, fchownat, ftruncate, linkat, lseek64, mkdir, symlinkat, syncfs, unlink};

use crate::model::{
    Answer, AttrAnswer, Fallocation, NodeDump, NodeKind, Op, Outcome, Place, SLOTS, Segment, Span, Target,
    TreeDump, XattrFlag, pattern,
};
use crate::rng::Rng;
use crate::sys::{self, Mapping};

/// Files whose makers are kept open at once.
const MAKERS: usize = 4;

/// A mounted directory, and the files that a run holds open.
pub struct MountDriver {
    root: PathBuf,
    slots: [Option<OwnedFd>; SLOTS],
    /// Handles that made their files, for writing alone: a filesystem may treat them as it treats no others. Some of
    /// the changes of these files go by them, while all else goes by other handles.
    makers: RefCell<Makers>,
    /// Whether the filesystem has FALLOC_FL_ZERO_RANGE; else it is done by punching and allocating.
    zero_range: bool,
    /// Whether pages may be in the kernel that the filesystem has not heard of.
    dirty: Cell<bool>,
}

struct Makers {
    /// The handles, by inode number.
    open: Vec<(u64, Rc<OwnedFd>)>,
    rng: Rng,
}

impl Makers {
    /// Keeps one more, in the place of another where there are enough.
    fn keep(&mut self, maker: OwnedFd) -> Result<(), Errno> {
        let ino = fstat(&maker)?.st_ino;
        if self.open.len() == MAKERS {
            let other = self.rng.index(MAKERS);
            self.open.swap_remove(other);
        }
        self.open.push((ino, Rc::new(maker)));
        Ok(())
    }

    /// The handle for a change of this inode, if it is kept and the dice want it.
    fn choose(&mut self, ino: u64) -> Option<Rc<OwnedFd>> {
        let (_, maker) = self.open.iter().find(|(of, _)| *of == ino)?;
        let maker = Rc::clone(maker);
        self.rng.percent(70).then_some(maker)
    }
}

/// Where an object is, and whether a symlink there is followed: those of /proc that stand for open files are.
struct Object {
    path: PathBuf,
    follow: bool,
}

/// A file opened for one operation, or one that was open already.
enum Handle<'s> {
    Own(OwnedFd),
    Slot(BorrowedFd<'s>),
    Maker(Rc<OwnedFd>),
}

impl AsFd for Handle<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Own(fd) => fd.as_fd(),
            Self::Slot(fd) => *fd,
            Self::Maker(fd) => fd.as_fd(),
        }
    }
}

/// What was found; `Ok(None)`: it begins at a slot that is not open.
type Found<T> = Result<Option<T>, Errno>;

/// Unwraps what was found, or skips the operation.
macro_rules! found {
    ($found:expr) => {
        match $found {
            Some(found) => found,
            None => return Ok(Answer::Skipped),
        }
    };
}

impl MountDriver {
    /// A driver of the directory `root`, with no open slot. `seed` decides which handles changes go by.
    pub fn new(root: &Path, zero_range: bool, seed: u64) -> Self {
        Self {
            root: root.to_path_buf(),
            slots: [const { None }; SLOTS],
            makers: RefCell::new(Makers {
                open: Vec::new(),
                rng: Rng::new(seed),
            }),
            zero_range,
            dirty: Cell::new(false),
        }
    }

    /// Plays one operation.
    ///
    /// # Errors
    /// As the system call.
    ///
    /// # Panics
    /// Where an answer contradicts itself.
    pub fn play(&mut self, op: &Op) -> Outcome {
        // the filesystem finds data by what it has, and a write that comes late sets times
        if matches!(op, Op::Seek { .. } | Op::Utimens { .. }) {
            self.sync()?;
        }
        match op {
            Op::Open { slot, at } => self.open_slot(*slot, at),
            Op::Close { slot } => Ok(match self.slots[*slot].take() {
                Some(_) => Answer::Done,
                None => Answer::Skipped,
            }),
            Op::Make { .. } | Op::Link { .. } | Op::Unlink { .. } | Op::Rmdir { .. } | Op::Rename { .. } => {
                self.play_names(op)
            }
            Op::Chmod { .. } | Op::Chown { .. } | Op::Utimens { .. } => self.play_attributes(op),
            Op::SetXattr { .. } | Op::GetXattr { .. } | Op::ListXattr { .. } | Op::RemoveXattr { .. } => {
                self.play_xattrs(op)
            }
            Op::ReadDir { on, step } => {
                let object = found!(self.object(on));
                read_dir(&object, *step)
            }
            Op::ReadLink { at } => {
                let path = found!(self.path(at));
                Ok(Answer::Bytes(readlink(&path)?.as_bytes().to_vec()))
            }
            Op::Stat { on } => {
                let object = found!(self.object(on));
                Ok(Answer::Attr(answer(&object.stat()?)))
            }
            Op::StatFs => {
                let totals = statvfs(&self.root)?;
                assert!(
                    totals.blocks_free() <= totals.blocks(),
                    "no more is free than there is"
                );
                assert!(
                    totals.files_free() <= totals.files(),
                    "no more inodes are free than there are"
                );
                Ok(Answer::Done)
            }
            _ => self.play_data(op),
        }
    }

    /// Has the kernel write back what was changed through mappings.
    fn sync(&self) -> Result<(), Errno> {
        if self.dirty.replace(false) {
            syncfs(open(&self.root, OFlag::O_RDONLY, Mode::empty())?)?;
        }
        Ok(())
    }

    fn open_slot(&mut self, slot: usize, at: &Place) -> Outcome {
        let path = found!(self.path(at));
        let format = format_of(&lstat(&path)?);
        let flags = match format {
            libc::S_IFREG | libc::S_IFLNK => OFlag::O_RDWR,
            libc::S_IFDIR => OFlag::O_RDONLY,
            _ => return Ok(Answer::Skipped),
        };
        let fd = open(&path, flags | OFlag::O_NOFOLLOW, Mode::empty())?;
        self.slots[slot] = Some(fd);
        Ok(Answer::Done)
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
                assert_eq!((*uid, *gid), (0, 0), "a mounted filesystem is used as root");
                let path = found!(self.path(at));
                let mode = mode & !umask;
                if let Some(maker) = make(&path, *node, mode)? {
                    self.makers.borrow_mut().keep(maker)?;
                }
                if !matches!(node, NodeKind::Symlink(_)) {
                    // the process has a umask of its own, shared by all threads
                    let masked =
                        Mode::from_bits_truncate(u32::from(lstat(&path)?.st_mode as u16 & 0o2000 | mode));
                    fchmodat(AT_FDCWD, &path, masked, FchmodatFlags::FollowSymlink)?;
                }
                Ok(Answer::Attr(answer(&lstat(&path)?)))
            }
            Op::Link { from, to } => {
                let from = found!(self.object(from));
                let to = found!(self.path(to));
                let follow = if from.follow {
                    AtFlags::AT_SYMLINK_FOLLOW
                } else {
                    AtFlags::empty()
                };
                linkat(AT_FDCWD, &from.path, AT_FDCWD, &to, follow)?;
                Ok(Answer::Attr(answer(&lstat(&to)?)))
            }
            Op::Unlink { at } => {
                let path = found!(self.path(at));
                unlink(&path)?;
                Ok(Answer::Done)
            }
            Op::Rmdir { at } => {
                let path = found!(self.path(at));
                nix::unistd::unlinkat(AT_FDCWD, &path, nix::unistd::UnlinkatFlags::RemoveDir)?;
                Ok(Answer::Done)
            }
            Op::Rename { from, to, flags } => {
                let from = found!(self.path(from));
                let to = found!(self.path(to));
                let mut bits = RenameFlags::empty();
                bits.set(RenameFlags::RENAME_NOREPLACE, flags.no_replace);
                bits.set(RenameFlags::RENAME_EXCHANGE, flags.exchange);
                bits.set(RenameFlags::RENAME_WHITEOUT, flags.whiteout);
                nix::fcntl::renameat2(AT_FDCWD, &from, AT_FDCWD, &to, bits)?;
                Ok(Answer::Done)
            }
            _ => unreachable!("{op:?} makes no name"),
        }
    }

    fn play_data(&self, op: &Op) -> Outcome {
        match op {
            Op::Read { file, span } => {
                let file = found!(self.file(file, OFlag::O_RDONLY)?);
                Ok(Answer::Bytes(read(&file, *span)?))
            }
            Op::Write { file, span, fill, .. } => {
                let file = found!(self.file(file, OFlag::O_WRONLY)?);
                let bytes = pattern(*fill, span.len);
                Ok(Answer::Count(
                    pwrite(&file, &bytes, span.offset.cast_signed())? as u64
                ))
            }
            Op::Append { file, len, fill } => {
                let file = found!(self.file(file, OFlag::O_WRONLY)?);
                Ok(Answer::Count(sys::append(&file, &pattern(*fill, *len))? as u64))
            }
            Op::Truncate { file, size } => {
                let file = found!(self.file(file, OFlag::O_WRONLY)?);
                ftruncate(&file, size.cast_signed())?;
                Ok(Answer::Done)
            }
            Op::Fallocate { file, span, mode } => {
                let file = found!(self.file(file, OFlag::O_WRONLY)?);
                self.fallocate(&file, *span, *mode)?;
                Ok(Answer::Done)
            }
            Op::Seek { file, offset, hole } => {
                let object = found!(self.object(file));
                if format_of(&object.stat()?) != libc::S_IFREG {
                    return Ok(Answer::Skipped);
                }
                let file = found!(self.file(file, OFlag::O_RDONLY)?);
                let whence = if *hole { Whence::SeekHole } else { Whence::SeekData };
                Ok(Answer::Offset(
                    lseek64(&file, offset.cast_signed(), whence)?.cast_unsigned(),
                ))
            }
            Op::CopyRange {
                from,
                span,
                to,
                offset,
            } => {
                let source = found!(self.file(from, OFlag::O_RDONLY)?);
                let target = found!(self.file(to, OFlag::O_WRONLY)?);
                copy(&source, *span, &target, *offset)
            }
            Op::MmapRead { file, span } => {
                let (file, span) = found!(self.mappable(file, *span)?);
                if span.len == 0 {
                    return Ok(Answer::Bytes(Vec::new()));
                }
                let map = Mapping::new(&file, span.offset, span.len as usize, false)?;
                Ok(Answer::Bytes(map.read()))
            }
            Op::MmapWrite {
                file,
                span,
                fill,
                sync,
            } => {
                let (file, span) = found!(self.mappable(file, *span)?);
                if span.len > 0 {
                    let bytes = pattern(*fill, span.len);
                    let mut map = Mapping::new(&file, span.offset, bytes.len(), true)?;
                    map.write(0, &bytes);
                    match sync {
                        true => map.sync()?,
                        false => self.dirty.set(true),
                    }
                }
                Ok(Answer::Count(span.len))
            }
            _ => unreachable!("{op:?} works on no bytes"),
        }
    }

    fn fallocate(&self, file: &Handle<'_>, span: Span, mode: Fallocation) -> Result<(), Errno> {
        let (offset, len) = (span.offset.cast_signed(), span.len.cast_signed());
        let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | keep;
        let zero = FallocateFlags::FALLOC_FL_ZERO_RANGE;
        match mode {
            Fallocation::Allocate => fallocate(file, FallocateFlags::empty(), offset, len),
            Fallocation::AllocateKeep => fallocate(file, keep, offset, len),
            Fallocation::Punch => fallocate(file, punch, offset, len),
            Fallocation::Zero if self.zero_range => fallocate(file, zero, offset, len),
            Fallocation::ZeroKeep if self.zero_range => fallocate(file, zero | keep, offset, len),
            Fallocation::Zero => fallocate(file, punch, offset, len)
                .and_then(|()| fallocate(file, FallocateFlags::empty(), offset, len)),
            Fallocation::ZeroKeep => {
                fallocate(file, punch, offset, len).and_then(|()| fallocate(file, keep, offset, len))
            }
        }
    }

    /// A regular file for a mapping, and the part of the range that lies in it.
    fn mappable(&self, target: &Target, span: Span) -> Found<(Handle<'_>, Span)> {
        let Some(file) = self.file(target, OFlag::O_RDWR)? else {
            return Ok(None);
        };
        let size = fstat(&file)?.st_size.cast_unsigned();
        let span = Span {
            offset: span.offset.min(size),
            len: span.len.min(size.saturating_sub(span.offset)),
        };
        Ok(Some((file, span)))
    }

    fn play_attributes(&self, op: &Op) -> Outcome {
        match op {
            Op::Chmod { on, mode } => {
                let object = found!(self.object(on));
                let mode = Mode::from_bits_truncate(u32::from(*mode));
                fchmodat(AT_FDCWD, &object.path, mode, FchmodatFlags::FollowSymlink)?;
            }
            Op::Chown { on, uid, gid } => {
                let object = found!(self.object(on));
                let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
                fchownat(AT_FDCWD, &object.path, uid, gid, object.at_flags())?;
            }
            Op::Utimens { on, atime, mtime } => {
                let object = found!(self.object(on));
                let time = |(secs, nanos): (i64, u32)| TimeSpec::new(secs, i64::from(nanos));
                let follow = match object.follow {
                    true => UtimensatFlags::FollowSymlink,
                    false => UtimensatFlags::NoFollowSymlink,
                };
                utimensat(AT_FDCWD, &object.path, &time(*atime), &time(*mtime), follow)?;
                let stat = object.stat()?;
                assert_eq!(
                    (stat.st_atime, stat.st_atime_nsec),
                    (atime.0, i64::from(atime.1)),
                    "atime is set"
                );
            }
            _ => unreachable!("{op:?} changes no attributes"),
        }
        Ok(Answer::Done)
    }

    fn play_xattrs(&self, op: &Op) -> Outcome {
        let c_name = |name: &[u8]| CString::new(name).expect("an attribute's name holds no NUL");
        match op {
            Op::SetXattr {
                on,
                name,
                len,
                fill,
                flag,
            } => {
                let object = found!(self.object(on));
                let value = pattern(*fill, u64::from(*len));
                let flags = match flag {
                    XattrFlag::Set => 0,
                    XattrFlag::Create => libc::XATTR_CREATE,
                    XattrFlag::Replace => libc::XATTR_REPLACE,
                };
                sys::set_xattr(&object.path, object.follow, &c_name(name.0), &value, flags)?;
                Ok(Answer::Done)
            }
            Op::GetXattr { on, name } => {
                let object = found!(self.object(on));
                let value = sys::get_xattr(&object.path, object.follow, &c_name(name.0))?;
                Ok(Answer::Bytes(value))
            }
            Op::ListXattr { on } => {
                let object = found!(self.object(on));
                let names = sys::list_xattrs(&object.path, object.follow)?;
                Ok(Answer::Names(names.into_iter().map(|name| (name, 0)).collect()))
            }
            Op::RemoveXattr { on, name } => {
                let object = found!(self.object(on));
                sys::remove_xattr(&object.path, object.follow, &c_name(name.0))?;
                Ok(Answer::Done)
            }
            _ => unreachable!("{op:?} is on no attribute"),
        }
    }

    /// The path of a place; `None` where it begins at a slot that is not open.
    fn path(&self, place: &Place) -> Option<PathBuf> {
        let mut path = match place.base {
            None => self.root.clone(),
            Some(slot) => proc_path(self.slots[slot].as_ref()?),
        };
        path.extend(place.path.iter().map(|name| OsStr::from_bytes(name.0)));
        Some(path)
    }

    fn object(&self, target: &Target) -> Option<Object> {
        match target {
            Target::Path(place) => Some(Object {
                path: self.path(place)?,
                follow: false,
            }),
            Target::Slot(slot) => Some(Object {
                path: proc_path(self.slots[*slot].as_ref()?),
                follow: true,
            }),
        }
    }

    /// A file to work on. What is neither file, directory nor symlink is not opened: that would wait for a peer.
    fn file(&self, target: &Target, flags: OFlag) -> Found<Handle<'_>> {
        let Some(object) = self.object(target) else {
            return Ok(None);
        };
        let stat = object.stat()?;
        if flags == OFlag::O_WRONLY
            && let Some(maker) = self.makers.borrow_mut().choose(stat.st_ino)
        {
            return Ok(Some(Handle::Maker(maker)));
        }
        match (format_of(&stat), target) {
            (libc::S_IFREG, Target::Slot(slot)) => {
                let fd = self.slots[*slot].as_ref().map(AsFd::as_fd);
                return Ok(fd.map(Handle::Slot));
            }
            (libc::S_IFREG | libc::S_IFDIR | libc::S_IFLNK, _) => (),
            _ => return Err(Errno::EINVAL),
        }
        let follow = if object.follow {
            OFlag::empty()
        } else {
            OFlag::O_NOFOLLOW
        };
        let fd = open(&object.path, flags | follow, Mode::empty())?;
        Ok(Some(Handle::Own(fd)))
    }

    /// Everything that can be seen.
    ///
    /// # Errors
    /// As a system call that should have succeeded.
    pub fn dump(&self) -> Result<TreeDump, Errno> {
        self.sync()?;
        let mut dump = TreeDump::default();
        let mut todo = vec![(Vec::new(), self.root.clone())];
        while let Some((below, path)) = todo.pop() {
            let object = Object { path, follow: false };
            let (ino, format) = dump_node(&mut dump, &object)?;
            dump.names.insert(below.clone(), ino);
            if format != libc::S_IFDIR {
                continue;
            }
            for (name, _) in names(&object, usize::MAX)? {
                let path = object.path.join(OsStr::from_bytes(&name));
                todo.push(([&below[..], b"/", &name].concat(), path));
            }
        }
        for (slot, fd) in (0..).zip(&self.slots) {
            if let Some(fd) = fd {
                let object = Object {
                    path: proc_path(fd),
                    follow: true,
                };
                let (ino, _) = dump_node(&mut dump, &object)?;
                dump.slots.insert(slot, ino);
            }
        }
        Ok(dump)
    }
}

impl Object {
    fn stat(&self) -> Result<FileStat, Errno> {
        match self.follow {
            true => stat(&self.path),
            false => lstat(&self.path),
        }
    }

    fn at_flags(&self) -> AtFlags {
        match self.follow {
            true => AtFlags::empty(),
            false => AtFlags::AT_SYMLINK_NOFOLLOW,
        }
    }
}

fn proc_path(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn format_of(stat: &FileStat) -> u32 {
    stat.st_mode & libc::S_IFMT
}

fn answer(stat: &FileStat) -> AttrAnswer {
    let format = format_of(stat);
    let is_device = format == libc::S_IFCHR || format == libc::S_IFBLK;
    let has_size = format == libc::S_IFREG || format == libc::S_IFLNK;
    AttrAnswer {
        format,
        mode: (stat.st_mode & 0o7777) as u16,
        nlink: u32::try_from(stat.st_nlink).expect("a test makes few links"),
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: if is_device { stat.st_rdev as u32 } else { 0 },
        size: if has_size { stat.st_size.cast_unsigned() } else { 0 },
    }
}

/// Makes a node; returns the handle that made it, where it is a file.
fn make(path: &Path, node: NodeKind, mode: u16) -> Result<Option<OwnedFd>, Errno> {
    let bits = Mode::from_bits_truncate(u32::from(mode));
    match node {
        NodeKind::Regular => {
            let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY;
            return open(path, flags, bits).map(Some);
        }
        NodeKind::Directory => mkdir(path, bits),
        NodeKind::Symlink(len) => {
            let target = NodeKind::symlink_target(len);
            symlinkat(OsStr::from_bytes(&target), AT_FDCWD, path)
        }
        NodeKind::Fifo => mknod(path, SFlag::S_IFIFO, bits, 0),
        NodeKind::Socket => mknod(path, SFlag::S_IFSOCK, bits, 0),
        NodeKind::Char(number) => mknod(path, SFlag::S_IFCHR, bits, u64::from(number)),
        NodeKind::Block(number) => mknod(path, SFlag::S_IFBLK, bits, u64::from(number)),
    }
    .map(|()| None)
}

fn read(file: &Handle<'_>, span: Span) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; span.len as usize];
    let mut done = 0;
    while done < bytes.len() {
        let at = (span.offset + done as u64).cast_signed();
        match pread(file, &mut bytes[done..], at)? {
            0 => break,
            len => done += len,
        }
    }
    if bytes.is_empty() {
        pread(file, &mut bytes, span.offset.cast_signed())?;
    }
    bytes.truncate(done);
    Ok(bytes)
}

fn copy(source: &Handle<'_>, span: Span, target: &Handle<'_>, offset: u64) -> Outcome {
    let (mut from, mut to) = (span.offset.cast_signed(), offset.cast_signed());
    // asked again after a short count, a copy within one file would go on with what it has just written
    let size = fstat(source)?.st_size.cast_unsigned();
    let wanted = span.len.min(size.saturating_sub(span.offset)).max(1);
    let mut done = 0;
    loop {
        let left = usize::try_from(wanted.min(span.len) - done).expect("a copy of a test is small");
        let len = copy_file_range(source, Some(&mut from), target, Some(&mut to), left)? as u64;
        done += len;
        if len == 0 || done == wanted {
            return Ok(Answer::Count(done));
        }
    }
}

fn read_dir(object: &Object, step: usize) -> Outcome {
    let mut names = names(object, step)?;
    names.sort();
    Ok(Answer::Names(names))
}

/// Names and types of all entries but `.` and `..`. With few entries per step the scan is taken up again from the
/// offset of each step's last entry.
fn names(object: &Object, step: usize) -> Result<Vec<(Vec<u8>, u32)>, Errno> {
    let follow = if object.follow {
        OFlag::empty()
    } else {
        OFlag::O_NOFOLLOW
    };
    let dir = open(
        &object.path,
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | follow,
        Mode::empty(),
    )?;
    let few = step < 10;
    let buffer = if few { 300 * step } else { 1 << 16 };
    let mut names = Vec::new();
    loop {
        let mut entries = sys::entries(&dir, buffer)?;
        if few {
            entries.truncate(step);
        }
        let Some(last) = entries.last() else { break };
        if few {
            lseek64(&dir, last.next, Whence::SeekSet)?;
        }
        names.extend(
            entries
                .into_iter()
                .map(|entry| (entry.name, u32::from(entry.kind) << 12)),
        );
    }
    let all = names.len();
    names.retain(|(name, _)| name != b"." && name != b"..");
    assert_eq!(all, names.len() + 2, "`.` and `..` come once");
    Ok(names)
}

fn dump_node(dump: &mut TreeDump, object: &Object) -> Result<(u64, u32), Errno> {
    let stat = object.stat()?;
    let format = format_of(&stat);
    if dump.nodes.contains_key(&stat.st_ino) {
        return Ok((stat.st_ino, format));
    }
    let mut xattrs = Vec::new();
    for name in sys::list_xattrs(&object.path, object.follow)? {
        let c_name = CString::new(name.clone()).expect("the list is split at NULs");
        let value = sys::get_xattr(&object.path, object.follow, &c_name)?;
        xattrs.push((name, value));
    }
    let node = NodeDump {
        attr: answer(&stat),
        target: match format {
            libc::S_IFLNK => readlink(&object.path)?.as_bytes().to_vec(),
            _ => Vec::new(),
        },
        xattrs,
        segments: match format {
            libc::S_IFREG => segments(object)?,
            _ => Vec::new(),
        },
        mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
        ctime: (stat.st_ctime, stat.st_ctime_nsec as u32),
    };
    dump.nodes.insert(stat.st_ino, node);
    Ok((stat.st_ino, format))
}

fn segments(object: &Object) -> Result<Vec<Segment>, Errno> {
    let file = Handle::Own(open(&object.path, OFlag::O_RDONLY, Mode::empty())?);
    let mut segments = Vec::new();
    let mut at = 0;
    loop {
        let offset = match lseek64(&file, at, Whence::SeekData) {
            Err(Errno::ENXIO) => return Ok(segments),
            found => found?,
        };
        at = lseek64(&file, offset, Whence::SeekHole)?;
        assert!(
            at > offset,
            "data at {offset} ends at a hole behind it, not at {at}"
        );
        let span = Span {
            offset: offset.cast_unsigned(),
            len: (at - offset).cast_unsigned(),
        };
        let bytes = read(&file, span)?;
        segments.push(Segment {
            offset: span.offset,
            bytes,
        });
    }
}
