//! From the numbers of system calls, as requests carry them, to the types of [`crate::vfs`].

use crate::vfs::{Fallocate, NewNode, RenameMode, SeekTo, XattrMode};

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

/// The flags of renameat2(2).
pub(super) fn rename_mode(flags: u32) -> Option<RenameMode> {
    const KNOWN: u32 = libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE | libc::RENAME_WHITEOUT;
    (flags & !KNOWN == 0).then_some(RenameMode {
        no_replace: flags & libc::RENAME_NOREPLACE != 0,
        exchange: flags & libc::RENAME_EXCHANGE != 0,
        whiteout: flags & libc::RENAME_WHITEOUT != 0,
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

/// The flags of setxattr(2).
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

    #[test]
    fn unknown_flags_are_refused() {
        assert_eq!(rename_mode(8), None);
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
