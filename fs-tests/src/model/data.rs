//! What each operation on the bytes of files does to the model, and what it answers.

use nix::errno::Errno;

use super::apply::{done, fail, found};
use super::op::{Answer, Expected, Fallocation, Op, Span, Target, pattern};
use super::pages::{FILE_END_MAX, Pages};
use super::state::{Body, Id, Mark, Model};

impl Model {
    pub(super) fn apply_data(&mut self, op: &Op) -> Expected {
        match op {
            Op::Read { file, span } => {
                let id = found!(self.file(file));
                Expected::from(Ok(Answer::Bytes(self.pages(id).read(span.offset, span.len))))
            }
            Op::Write {
                file,
                span,
                fill,
                clear,
            } => {
                let id = found!(self.file(file));
                self.write(id, *span, *fill, *clear)
            }
            Op::Append { file, len, fill } => {
                let id = found!(self.file(file));
                let offset = self.pages(id).len();
                self.write(id, Span { offset, len: *len }, *fill, false)
            }
            Op::Truncate { file, size } => self.truncate(file, *size),
            Op::Fallocate { file, span, mode } => self.fallocate(file, *span, *mode),
            Op::Seek { file, offset, hole } => self.seek(file, *offset, *hole),
            Op::CopyRange {
                from,
                span,
                to,
                offset,
            } => self.copy_range(from, *span, to, *offset),
            Op::MmapRead { file, span } => {
                let id = found!(self.file(file));
                let span = self.mapped(id, *span);
                self.pages_mut(id).allocate(span.offset, span.len);
                Expected::from(Ok(Answer::Bytes(self.pages(id).read(span.offset, span.len))))
            }
            Op::MmapWrite { file, span, fill, .. } => {
                let id = found!(self.file(file));
                let span = self.mapped(id, *span);
                self.pages_mut(id).write(span.offset, &pattern(*fill, span.len));
                self.leave_times_open(id);
                Expected::from(Ok(Answer::Count(span.len)))
            }
            _ => unreachable!("{op:?} works on no bytes"),
        }
    }

    /// A regular file.
    fn file(&self, target: &Target) -> Result<Option<Id>, Errno> {
        let Some(id) = self.target(target)? else {
            return Ok(None);
        };
        match self.inode(id).body {
            Body::File(_) => Ok(Some(id)),
            Body::Dir(_) => Err(Errno::EISDIR),
            Body::Symlink(_) => Err(Errno::ELOOP),
            _ => Err(Errno::EINVAL),
        }
    }

    fn pages(&self, id: Id) -> &Pages {
        match &self.inode(id).body {
            Body::File(pages) => pages,
            _ => unreachable!("the inode was found to be a file"),
        }
    }

    fn pages_mut(&mut self, id: Id) -> &mut Pages {
        match &mut self.inode_mut(id).body {
            Body::File(pages) => pages,
            _ => unreachable!("the inode was found to be a file"),
        }
    }

    /// Puts the clock's time on a file whose bytes changed.
    fn touch_file(&mut self, id: Id) {
        let now = Mark::Tick(self.tick);
        let inode = self.inode_mut(id);
        inode.mtime = now;
        inode.ctime = now;
    }

    fn leave_times_open(&mut self, id: Id) {
        let inode = self.inode_mut(id);
        inode.mtime = Mark::Open;
        inode.ctime = Mark::Open;
    }

    fn write(&mut self, id: Id, span: Span, fill: u32, clear: bool) -> Expected {
        if span.len == 0 {
            return Expected::from(Ok(Answer::Count(0)));
        }
        if span.offset >= FILE_END_MAX {
            return fail(Errno::EFBIG);
        }
        self.pages_mut(id).write(span.offset, &pattern(fill, span.len));
        self.touch_file(id);
        if clear {
            self.inode_mut(id).clear_privileges();
        }
        Expected::from(Ok(Answer::Count(span.len)))
    }

    fn truncate(&mut self, file: &Target, size: u64) -> Expected {
        let id = match self.file(file) {
            Err(errno @ (Errno::EISDIR | Errno::EINVAL)) => {
                return fail(errno).or([Err(Errno::EINVAL), Err(Errno::EFBIG)]);
            }
            Err(Errno::ELOOP) => return fail(Errno::ELOOP).or([Err(Errno::ENOENT)]),
            found => found!(found),
        };
        if size > FILE_END_MAX {
            return fail(Errno::EFBIG);
        }
        let same = self.pages(id).len() == size;
        self.pages_mut(id).set_len(size);
        if same {
            self.leave_times_open(id);
        } else {
            self.touch_file(id);
        }
        done()
    }

    fn fallocate(&mut self, file: &Target, span: Span, mode: Fallocation) -> Expected {
        let id = found!(self.file(file));
        let end = span.offset + span.len;
        let punches_fail = self.punches_may_keep_memory;
        let pages = self.pages_mut(id);
        match mode {
            Fallocation::Punch if punches_fail => pages.wipe(span.offset, span.len),
            Fallocation::Allocate | Fallocation::AllocateKeep => pages.allocate(span.offset, span.len),
            Fallocation::Punch => pages.punch(span.offset, span.len),
            Fallocation::Zero | Fallocation::ZeroKeep => pages.zero(span.offset, span.len),
        }
        let grows = matches!(mode, Fallocation::Allocate | Fallocation::Zero) && end > pages.len();
        if grows {
            pages.set_len(end);
        }
        if grows || mode != Fallocation::Allocate && mode != Fallocation::AllocateKeep {
            self.touch_file(id);
        } else {
            self.leave_times_open(id);
        }
        done()
    }

    fn seek(&mut self, file: &Target, offset: u64, hole: bool) -> Expected {
        let id = found!(self.target(file));
        let Body::File(pages) = &self.inode(id).body else {
            return Expected::from(Ok(Answer::Skipped));
        };
        if offset >= pages.len() {
            return fail(Errno::ENXIO);
        }
        let (right, end) = match hole {
            true => (pages.hole_from(offset), false),
            false => pages.data_from(offset),
        };
        let offsets = right.into_iter().map(|offset| Ok(Answer::Offset(offset)));
        let mut right: Vec<_> = offsets.chain(end.then_some(Err(Errno::ENXIO))).collect();
        let first = right.pop().expect("the end is an answer where nothing else is");
        Expected::from(first).or(right)
    }

    fn copy_range(&mut self, from: &Target, span: Span, to: &Target, offset: u64) -> Expected {
        let source = match self.file(from) {
            // a directory opens for reading, so what is wrong with the target is found first
            Err(errno @ (Errno::EISDIR | Errno::EINVAL)) => {
                let first = self.file(to).err().unwrap_or(errno);
                return fail(first).or([Err(errno), Err(Errno::EINVAL)]);
            }
            found => found!(found),
        };
        let target = found!(self.file(to));
        // Linux cuts the length at the end of the source before it looks for an overlap
        let len = self.pages(source).len().saturating_sub(span.offset).min(span.len);
        if source == target && span.offset < offset + len && offset < span.offset + len {
            return fail(Errno::EINVAL);
        }
        self.copy(source, span, target, offset)
    }

    fn copy(&mut self, source: Id, span: Span, target: Id, offset: u64) -> Expected {
        let bytes = self.pages(source).read(span.offset, span.len);
        if !bytes.is_empty() {
            self.pages_mut(target).write(offset, &bytes);
            self.touch_file(target);
        }
        Expected::from(Ok(Answer::Count(bytes.len() as u64)))
    }

    /// The part of a range that a mapping can show: up to the end of the file.
    fn mapped(&self, id: Id, span: Span) -> Span {
        let len = self.pages(id).len();
        Span {
            offset: span.offset.min(len),
            len: span.len.min(len.saturating_sub(span.offset)),
        }
    }
}
