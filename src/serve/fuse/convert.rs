//! Between the types of [`crate::vfs`] and those of the FUSE protocol.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, RenameFlags};

use crate::clock::Timestamp;
use crate::vfs::{Attr, Fallocate, FileKind, Ino, NewNode, RenameMode, SeekTo, TimeOrNow, XattrMode};

/// Permission bits of a mode, with set-user-ID, set-group-ID and sticky.
pub(super) fn permissions(mode: u32) -> u16 {
    (mode & 0o7777) as u16
}

/// What mknod(2) is to make; `None` for a type that it does not make.
pub(super) fn new_node(mode: u32, device: u32) -> Option<NewNode<'static>> {
    match mode & libc::S_IFMT {
        0 | libc::S_IFREG => Some(NewNode::Regular),
        libc::S_IFIFO => Some(NewNode::Fifo),
        libc::S_IFSOCK => Some(NewNode::Socket),
        libc::S_IFCHR => Some(NewNode::CharDevice(device)),
        libc::S_IFBLK => Some(NewNode::BlockDevice(device)),
        _ => None,
    }
}

pub(super) fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::Regular => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

/// Attributes for a reply; `io_size` becomes `st_blksize`.
pub(super) fn file_attr(attr: &Attr, io_size: u32) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino.0),
        size: attr.size,
        blocks: attr.blocks,
        atime: system_time(attr.atime),
        mtime: system_time(attr.mtime),
        ctime: system_time(attr.ctime),
        crtime: system_time(attr.btime),
        kind: file_type(attr.kind),
        perm: attr.mode,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: io_size,
        flags: 0,
    }
}

/// Attributes of which the kernel reads only the number and the type: `.` and `..` of a listing, or number 0, which
/// says that a name does not exist.
pub(super) fn bare_attr(ino: u64, kind: FileKind) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: file_type(kind),
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

pub(super) fn ino(number: INodeNo) -> Ino {
    Ino(number.0)
}

fn system_time(time: Timestamp) -> SystemTime {
    let whole = Duration::from_secs(time.secs.unsigned_abs());
    let seconds = if time.secs < 0 {
        UNIX_EPOCH.checked_sub(whole)
    } else {
        UNIX_EPOCH.checked_add(whole)
    };
    seconds
        .and_then(|seconds| seconds.checked_add(Duration::from_nanos(time.nanos.into())))
        .unwrap_or(UNIX_EPOCH)
}

/// A time as fuser 0.18 decodes it from a request.
///
/// fuser reads the kernel's pair (-5 s, 300 ns), which is 4.9999997 s before 1970, as 5.0000003 s before 1970: it
/// subtracts the nanoseconds where it should add them. Taking the distance to 1970 apart again gives the pair back.
/// (It converts the times of replies correctly.)
pub(super) fn timestamp(time: SystemTime) -> Timestamp {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => Timestamp {
            secs: since.as_secs().cast_signed(),
            nanos: since.subsec_nanos(),
        },
        Err(before) => Timestamp {
            secs: before.duration().as_secs().cast_signed().wrapping_neg(),
            nanos: before.duration().subsec_nanos(),
        },
    }
}

pub(super) fn time_or_now(time: fuser::TimeOrNow) -> TimeOrNow {
    match time {
        fuser::TimeOrNow::SpecificTime(time) => TimeOrNow::At(timestamp(time)),
        fuser::TimeOrNow::Now => TimeOrNow::Now,
    }
}

pub(super) fn rename_mode(flags: RenameFlags) -> Option<RenameMode> {
    RenameFlags::all().contains(flags).then(|| RenameMode {
        no_replace: flags.contains(RenameFlags::RENAME_NOREPLACE),
        exchange: flags.contains(RenameFlags::RENAME_EXCHANGE),
        whiteout: flags.contains(RenameFlags::RENAME_WHITEOUT),
    })
}

/// The mode of fallocate(2); `None` for what the protocol does not carry.
pub(super) fn fallocate_mode(mode: i32) -> Option<Fallocate> {
    const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    const ZERO_KEEP: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
    match mode {
        0 => Some(Fallocate::Allocate { keep_size: false }),
        libc::FALLOC_FL_KEEP_SIZE => Some(Fallocate::Allocate { keep_size: true }),
        PUNCH => Some(Fallocate::Punch),
        libc::FALLOC_FL_ZERO_RANGE => Some(Fallocate::Zero { keep_size: false }),
        ZERO_KEEP => Some(Fallocate::Zero { keep_size: true }),
        _ => None,
    }
}

/// What lseek(2) looks for; the kernel answers the other ways to seek itself.
pub(super) fn seek_to(whence: i32) -> Option<SeekTo> {
    match whence {
        libc::SEEK_DATA => Some(SeekTo::Data),
        libc::SEEK_HOLE => Some(SeekTo::Hole),
        _ => None,
    }
}

pub(super) fn xattr_mode(flags: i32) -> Option<XattrMode> {
    match flags {
        0 => Some(XattrMode::Set),
        libc::XATTR_CREATE => Some(XattrMode::Create),
        libc::XATTR_REPLACE => Some(XattrMode::Replace),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What fuser makes of the kernel's pair in a request.
    fn as_fuser_decodes(secs: i64, nanos: u32) -> SystemTime {
        if secs >= 0 {
            UNIX_EPOCH + Duration::new(secs.unsigned_abs(), nanos)
        } else {
            UNIX_EPOCH - Duration::new(secs.unsigned_abs(), nanos)
        }
    }

    #[test]
    fn times_of_requests_survive_on_both_sides_of_1970() {
        for (secs, nanos) in [
            (0, 0),
            (-1, 999_999_999),
            (-5, 300),
            (-86_400, 0),
            (5_000_000_000, 7),
        ] {
            assert_eq!(
                timestamp(as_fuser_decodes(secs, nanos)),
                Timestamp { secs, nanos }
            );
        }
        assert_eq!(timestamp(as_fuser_decodes(i64::MIN, 0)).secs, i64::MIN);
    }

    #[test]
    fn times_of_replies_are_exact() {
        let time = Timestamp {
            secs: -5,
            nanos: 999_999_700,
        };
        let before = UNIX_EPOCH
            .duration_since(system_time(time))
            .expect("the time lies before 1970");
        assert_eq!(before, Duration::new(4, 300));
        assert_eq!(
            system_time(Timestamp { secs: 7, nanos: 8 }),
            UNIX_EPOCH + Duration::new(7, 8)
        );
    }

    #[test]
    fn unknown_flags_are_refused() {
        assert_eq!(rename_mode(RenameFlags::from_bits_retain(8)), None);
        assert_eq!(fallocate_mode(libc::FALLOC_FL_COLLAPSE_RANGE), None);
        assert_eq!(fallocate_mode(libc::FALLOC_FL_PUNCH_HOLE), None);
        assert_eq!(seek_to(libc::SEEK_END), None);
        assert_eq!(xattr_mode(libc::XATTR_CREATE | libc::XATTR_REPLACE), None);
    }

    #[test]
    fn mknod_makes_all_but_directories_and_symlinks() {
        assert_eq!(new_node(libc::S_IFREG | 0o644, 0), Some(NewNode::Regular));
        assert_eq!(new_node(libc::S_IFCHR, 0x103), Some(NewNode::CharDevice(0x103)));
        assert_eq!(new_node(libc::S_IFDIR, 0), None);
        assert_eq!(permissions(libc::S_IFREG | 0o4755), 0o4755);
    }
}
