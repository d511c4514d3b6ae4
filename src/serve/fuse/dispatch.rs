//! A request in a transport's buffer: decoded, answered from [`Operations`], encoded in place.

use std::ops::ControlFlow;

use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::abi::{
    BatchForgetIn, CopyFileRangeIn, CopyFileRangeOut, FallocateIn, ForgetOne, GetxattrIn, GetxattrOut,
    InHeader, LinkIn, LseekIn, LseekOut, MkdirIn, MknodIn, OpenOut, ReadIn, Rename2In, RenameIn, SetattrIn,
    SetxattrIn, WriteIn, WriteOut, opcode, open_flag, valid, write_flag,
};
use super::counters::Operation;
use super::decode::permissions;
use super::encode::{Listing, entry_out, getattr_out, no_entry, put, put_bytes, statfs_out};
use super::errno::{Answer, Refusal};
use super::operations::{COPY_MAX_32, Operations, Sized, WriteMode, is_direct};
use crate::clock::Timestamp;
use crate::vfs::{Attr, Caller, CopyRange, Ino, NewName, SetAttr, TimeOrNow};

/// A request, in the buffers that the kernel has filled.
pub(super) struct Request<'a> {
    pub(super) header: InHeader,
    /// The operation's fixed arguments; over io_uring with what earlier requests left behind them.
    pub(super) arguments: &'a [u8],
    /// Names and data that came, `len` bytes; the answer takes their place.
    pub(super) payload: &'a mut [u8],
    pub(super) len: usize,
}

impl Request<'_> {
    fn ino(&self) -> Ino {
        Ino(self.header.nodeid)
    }

    fn caller(&self) -> Caller {
        Caller {
            uid: self.header.uid,
            gid: self.header.gid,
        }
    }

    /// The operation's fixed arguments.
    ///
    /// # Errors
    /// EIO where they did not come whole.
    fn arguments<T: FromBytes + KnownLayout + Immutable>(&self) -> Answer<T> {
        T::read_from_prefix(self.arguments)
            .map(|(arguments, _rest)| arguments)
            .map_err(|_too_short| Refusal(libc::EIO))
    }

    fn incoming(&self) -> &[u8] {
        &self.payload[..self.len]
    }

    /// The name that came, which ends at a NUL.
    fn name(&self) -> Answer<&[u8]> {
        Ok(split_name(self.incoming())?.0)
    }

    /// Two names, one behind the other.
    fn names(&self) -> Answer<(&[u8], &[u8])> {
        let (first, rest) = split_name(self.incoming())?;
        Ok((first, split_name(rest)?.0))
    }

    fn new_name(&self, mode: u32, umask: u32) -> Answer<NewName<'_>> {
        Ok(NewName {
            parent: self.ino(),
            name: self.name()?,
            mode: permissions(mode),
            umask: permissions(umask),
        })
    }
}

fn split_name(bytes: &[u8]) -> Answer<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| byte == 0);
    let end = end.ok_or(Refusal::INVALID)?;
    Ok((&bytes[..end], &bytes[end + 1..]))
}

/// Answers a request; returns how many bytes of the payload are the answer.
pub(super) fn dispatch(operations: &Operations, request: Request<'_>) -> Answer<usize> {
    let ino = request.ino();
    match request.header.opcode {
        opcode::LOOKUP => lookup(operations, request),
        opcode::GETATTR => {
            let attr = operations.getattr(ino)?;
            Ok(put(request.payload, &getattr_out(&attr, operations.io_size)))
        }
        opcode::SETATTR => setattr(operations, request),
        opcode::READLINK => Ok(put_bytes(request.payload, &operations.readlink(ino)?)),
        opcode::SYMLINK | opcode::MKNOD | opcode::MKDIR | opcode::LINK => make(operations, request),
        opcode::CREATE => Err(operations.unknown(Operation::Create, ino)),
        opcode::UNLINK => nothing(operations.unlink(ino, request.name()?)),
        opcode::RMDIR => nothing(operations.rmdir(ino, request.name()?)),
        opcode::RENAME | opcode::RENAME2 => rename(operations, &request),
        opcode::READ => read(operations, request),
        opcode::WRITE => write(operations, request),
        opcode::READDIR => readdir(operations, request, false),
        opcode::READDIRPLUS => readdir(operations, request, true),
        opcode::FALLOCATE => {
            let FallocateIn {
                offset, len, mode, ..
            } = request.arguments()?;
            nothing(operations.fallocate(request.caller(), ino, (offset, len), mode))
        }
        opcode::LSEEK => {
            let LseekIn { offset, whence, .. } = request.arguments()?;
            let offset = operations.lseek(ino, offset, whence)?;
            Ok(put(request.payload, &LseekOut { offset }))
        }
        opcode::COPY_FILE_RANGE | opcode::COPY_FILE_RANGE_64 => copy_file_range(operations, request),
        opcode::STATFS => Ok(put(request.payload, &statfs_out(&operations.statfs(ino)))),
        opcode::GETXATTR | opcode::LISTXATTR => xattr(operations, request),
        opcode::SETXATTR => setxattr(operations, &request),
        opcode::REMOVEXATTR => nothing(operations.removexattr(ino, request.name()?)),
        opcode::FORGET => {
            operations.forget(ino, request.arguments()?);
            Ok(0)
        }
        opcode::BATCH_FORGET => forget_all(operations, &request),
        opcode::OPEN => {
            operations.open(ino)?;
            Ok(put(request.payload, &opened(open_flag::KEEP_CACHE)))
        }
        opcode::OPENDIR => {
            operations.opendir(ino)?;
            let flags = open_flag::KEEP_CACHE | open_flag::CACHE_DIR;
            Ok(put(request.payload, &opened(flags)))
        }
        opcode::RELEASE => released(operations, Operation::Release, ino),
        opcode::RELEASEDIR => released(operations, Operation::ReleaseDir, ino),
        opcode::FLUSH => Err(operations.unknown(Operation::Flush, ino)),
        opcode::FSYNC => Err(operations.unknown(Operation::Fsync, ino)),
        opcode::FSYNCDIR => Err(operations.unknown(Operation::FsyncDir, ino)),
        opcode::ACCESS => Err(operations.unknown(Operation::Access, ino)),
        // The transport learns by itself that the filesystem is gone.
        opcode::DESTROY => Ok(0),
        // INTERRUPT too: no operation waits for anything that a signal should end. The kernel then sends no more.
        _ => Err(Refusal::UNKNOWN),
    }
}

/// Whether the kernel waits for an answer.
pub(super) fn is_answered(operation: u32) -> bool {
    !matches!(operation, opcode::FORGET | opcode::BATCH_FORGET)
}

fn nothing(answer: Answer<()>) -> Answer<usize> {
    answer.map(|()| 0)
}

fn released(operations: &Operations, operation: Operation, ino: Ino) -> Answer<usize> {
    operations.release(operation, ino);
    Ok(0)
}

fn opened(open_flags: u32) -> OpenOut {
    OpenOut {
        open_flags,
        ..OpenOut::default()
    }
}

fn forget_all(operations: &Operations, request: &Request<'_>) -> Answer<usize> {
    let BatchForgetIn { count, .. } = request.arguments()?;
    let mut rest = request.incoming();
    for _ in 0..count {
        let (one, behind) = ForgetOne::read_from_prefix(rest).map_err(|_too_short| Refusal(libc::EIO))?;
        operations.forget(Ino(one.nodeid), one.count);
        rest = behind;
    }
    Ok(0)
}

fn lookup(operations: &Operations, request: Request<'_>) -> Answer<usize> {
    let found = operations.lookup(request.ino(), request.name()?)?;
    let entry = match &found {
        Some(attr) => entry_out(attr, operations.io_size),
        None => no_entry(),
    };
    Ok(put(request.payload, &entry))
}

fn make(operations: &Operations, request: Request<'_>) -> Answer<usize> {
    let (ino, caller) = (request.ino(), request.caller());
    let attr: Attr = match request.header.opcode {
        opcode::MKNOD => {
            let MknodIn {
                mode, device, umask, ..
            } = request.arguments()?;
            operations.mknod(caller, request.new_name(mode, umask)?, mode, device)?
        }
        opcode::MKDIR => {
            let MkdirIn { mode, umask } = request.arguments()?;
            operations.mkdir(caller, request.new_name(mode, umask)?)?
        }
        opcode::LINK => {
            let LinkIn { old } = request.arguments()?;
            operations.link(Ino(old), ino, request.name()?)?
        }
        _ => {
            let (name, target) = request.names()?;
            operations.symlink(caller, ino, name, target)?
        }
    };
    Ok(put(request.payload, &entry_out(&attr, operations.io_size)))
}

fn rename(operations: &Operations, request: &Request<'_>) -> Answer<usize> {
    let (to, flags) = match request.header.opcode {
        opcode::RENAME => (request.arguments::<RenameIn>()?.new_dir, 0),
        _ => {
            let Rename2In { new_dir, flags, .. } = request.arguments()?;
            (new_dir, flags)
        }
    };
    let (old, new) = request.names()?;
    nothing(operations.rename(request.caller(), (request.ino(), old), (Ino(to), new), flags))
}

fn setattr(operations: &Operations, request: Request<'_>) -> Answer<usize> {
    let asked: SetattrIn = request.arguments()?;
    let has = |bit| asked.valid & bit != 0;
    let time = |bit, now, secs, nanos| match (has(bit), has(now)) {
        (false, _) => None,
        (true, true) => Some(TimeOrNow::Now),
        (true, false) => Some(TimeOrNow::At(Timestamp { secs, nanos })),
    };
    let changes = SetAttr {
        mode: has(valid::MODE).then(|| permissions(asked.mode)),
        uid: has(valid::UID).then_some(asked.uid),
        gid: has(valid::GID).then_some(asked.gid),
        size: has(valid::SIZE).then_some(asked.size),
        atime: time(valid::ATIME, valid::ATIME_NOW, asked.atime, asked.atime_nanos),
        mtime: time(valid::MTIME, valid::MTIME_NOW, asked.mtime, asked.mtime_nanos),
        ctime: has(valid::CTIME).then_some(Timestamp {
            secs: asked.ctime,
            nanos: asked.ctime_nanos,
        }),
        clear_privileges: has(valid::KILL_SUIDGID),
    };
    let attr = operations.setattr(request.caller(), request.ino(), &changes)?;
    Ok(put(request.payload, &getattr_out(&attr, operations.io_size)))
}

fn read(operations: &Operations, request: Request<'_>) -> Answer<usize> {
    let ReadIn {
        offset, size, flags, ..
    } = request.arguments()?;
    let ino = request.ino();
    let len = request.payload.len().min(size as usize);
    operations.read(ino, offset, &mut request.payload[..len], is_direct(flags))
}

fn write(operations: &Operations, request: Request<'_>) -> Answer<usize> {
    let WriteIn {
        offset,
        size,
        write_flags,
        flags,
        ..
    } = request.arguments()?;
    let bytes = request.incoming().get(..size as usize).ok_or(Refusal::INVALID)?;
    let mode = WriteMode {
        direct: is_direct(flags),
        from_cache: write_flags & write_flag::CACHE != 0,
        clear_privileges: write_flags & write_flag::KILL_SUIDGID != 0,
    };
    let size = operations.write(request.ino(), offset, bytes, mode)?;
    Ok(put(request.payload, &WriteOut { size, padding: 0 }))
}

fn readdir(operations: &Operations, request: Request<'_>, plus: bool) -> Answer<usize> {
    let ReadIn { offset, size, .. } = request.arguments()?;
    let ino = request.ino();
    let len = request.payload.len().min(size as usize);
    let mut listing = Listing::new(&mut request.payload[..len], operations.io_size, plus);
    operations.readdir(ino, offset, plus, &mut |entry| match listing.add(&entry) {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(()),
    })?;
    Ok(listing.len())
}

/// Programs ask again for what is more than the answer can carry.
fn copy_file_range(operations: &Operations, request: Request<'_>) -> Answer<usize> {
    let asked: CopyFileRangeIn = request.arguments()?;
    let range = CopyRange {
        source: request.ino(),
        source_offset: asked.source_offset,
        target: Ino(asked.target),
        target_offset: asked.target_offset,
        len: asked.len,
    };
    let caller = request.caller();
    if request.header.opcode == opcode::COPY_FILE_RANGE_64 {
        let copied = operations.copy_file_range(caller, range, u64::MAX)?;
        return Ok(put(request.payload, &CopyFileRangeOut { copied }));
    }
    let size = operations.copy_file_range(caller, range, COPY_MAX_32)? as u32;
    Ok(put(request.payload, &WriteOut { size, padding: 0 }))
}

fn xattr(operations: &Operations, request: Request<'_>) -> Answer<usize> {
    let GetxattrIn { size, .. } = request.arguments()?;
    let ino = request.ino();
    if request.header.opcode == opcode::LISTXATTR {
        let names = operations.listxattr(request.caller(), ino, size)?;
        return Ok(put_sized(request.payload, &names));
    }
    let value = operations.getxattr(ino, request.name()?, size)?;
    Ok(put_sized(request.payload, &value))
}

fn put_sized(payload: &mut [u8], value: &Sized<impl AsRef<[u8]>>) -> usize {
    match value {
        Sized::Value(value) => put_bytes(payload, value.as_ref()),
        Sized::Length(size) => put(
            payload,
            &GetxattrOut {
                size: *size,
                padding: 0,
            },
        ),
    }
}

fn setxattr(operations: &Operations, request: &Request<'_>) -> Answer<usize> {
    let SetxattrIn { size, flags } = request.arguments()?;
    let (name, rest) = split_name(request.incoming())?;
    let value = rest.get(..size as usize).ok_or(Refusal::INVALID)?;
    nothing(operations.setxattr(request.caller(), request.ino(), (name, value), flags))
}

#[cfg(test)]
mod tests;
