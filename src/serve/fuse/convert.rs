//! Between the types of [`crate::vfs`] and those of the FUSE protocol.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo};

use crate::clock::Timestamp;
use crate::vfs::{Attr, FileKind, Ino, TimeOrNow};

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
}
