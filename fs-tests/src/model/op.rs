//! The operations that the model, the `Vfs` driver and the mount driver all play, and what they answer.

use std::fmt;

use nix::errno::Errno;

/// Files and directories that a run may hold open at once.
pub const SLOTS: usize = 6;

/// A file name from the generator's pool.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(pub &'static [u8]);

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            0..=16 => write!(f, "{}", self.0.escape_ascii()),
            len => write!(f, "<{len} bytes>"),
        }
    }
}

/// A path: from the root, or from an open directory.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    /// The open slot that the path begins at; `None` is the root.
    pub base: Option<usize>,
    /// The components. None of them: the base itself.
    pub path: Vec<Name>,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.base {
            Some(slot) => write!(f, "slot{slot}")?,
            None => f.write_str("root")?,
        }
        self.path.iter().try_for_each(|name| write!(f, "/{name:?}"))
    }
}

/// An object that an operation works on: by path, or through an open slot.
#[derive(Clone, PartialEq, Eq)]
pub enum Target {
    /// By path; a symlink at its end is not followed.
    Path(Place),
    /// Through an open file or directory, which may have no name any more.
    Slot(usize),
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(place) => place.fmt(f),
            Self::Slot(slot) => write!(f, "slot{slot}"),
        }
    }
}

/// What an inode is; for a node to make with what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symlink; the target has this many bytes and leads nowhere.
    Symlink(u32),
    /// A FIFO.
    Fifo,
    /// A socket's name.
    Socket,
    /// A character device.
    Char(u32),
    /// A block device.
    Block(u32),
}

impl NodeKind {
    /// The target of a symlink of that length: it names nothing that exists.
    pub fn symlink_target(len: u32) -> Vec<u8> {
        b"nowhere/at/all/"
            .iter()
            .copied()
            .cycle()
            .take(len as usize)
            .collect()
    }
}

/// A range of a file, and what to fill it with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

/// Flags of renameat2(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RenameFlags {
    /// RENAME_NOREPLACE
    pub no_replace: bool,
    /// RENAME_EXCHANGE
    pub exchange: bool,
    /// RENAME_WHITEOUT
    pub whiteout: bool,
}

/// Modes of fallocate(2) that a FUSE filesystem can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallocation {
    /// Mode 0
    Allocate,
    /// FALLOC_FL_KEEP_SIZE
    AllocateKeep,
    /// FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
    Punch,
    /// FALLOC_FL_ZERO_RANGE
    Zero,
    /// FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE
    ZeroKeep,
}

/// How setxattr(2) treats an existing attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrFlag {
    /// Make or replace.
    Set,
    /// XATTR_CREATE
    Create,
    /// XATTR_REPLACE
    Replace,
}

/// One operation. `fill` names a [`pattern`]; 0 is zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the variants are named after the system calls, the fields after their arguments
pub enum Op {
    Open {
        slot: usize,
        at: Place,
    },
    Close {
        slot: usize,
    },
    Make {
        at: Place,
        node: NodeKind,
        mode: u16,
        umask: u16,
        uid: u32,
        gid: u32,
    },
    Link {
        from: Target,
        to: Place,
    },
    Unlink {
        at: Place,
    },
    Rmdir {
        at: Place,
    },
    Rename {
        from: Place,
        to: Place,
        flags: RenameFlags,
    },
    Read {
        file: Target,
        span: Span,
    },
    /// `clear`: the writer may not keep set-user-ID.
    Write {
        file: Target,
        span: Span,
        fill: u32,
        clear: bool,
    },
    Append {
        file: Target,
        len: u64,
        fill: u32,
    },
    Truncate {
        file: Target,
        size: u64,
    },
    Fallocate {
        file: Target,
        span: Span,
        mode: Fallocation,
    },
    /// Looks for data, or for a hole.
    Seek {
        file: Target,
        offset: u64,
        hole: bool,
    },
    CopyRange {
        from: Target,
        span: Span,
        to: Target,
        offset: u64,
    },
    MmapRead {
        file: Target,
        span: Span,
    },
    /// `sync`: what was written goes to the filesystem at once, else when the kernel likes.
    MmapWrite {
        file: Target,
        span: Span,
        fill: u32,
        sync: bool,
    },
    Chmod {
        on: Target,
        mode: u16,
    },
    Chown {
        on: Target,
        uid: Option<u32>,
        gid: Option<u32>,
    },
    Utimens {
        on: Target,
        atime: (i64, u32),
        mtime: (i64, u32),
    },
    SetXattr {
        on: Target,
        name: Name,
        len: u32,
        fill: u32,
        flag: XattrFlag,
    },
    GetXattr {
        on: Target,
        name: Name,
    },
    ListXattr {
        on: Target,
    },
    RemoveXattr {
        on: Target,
        name: Name,
    },
    /// `step`: entries taken before the scan is taken up again from a cookie.
    ReadDir {
        on: Target,
        step: usize,
    },
    ReadLink {
        at: Place,
    },
    Stat {
        on: Target,
    },
    StatFs,
}

/// Attributes that model and filesystem must agree on. A directory's size and what is no device's number are 0.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AttrAnswer {
    /// S_IFMT bits.
    pub format: u32,
    /// Permission bits, 0 to 0o7777.
    pub mode: u16,
    /// Hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number.
    pub rdev: u32,
    /// Size in bytes.
    pub size: u64,
}

impl fmt::Debug for AttrAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            format,
            mode,
            nlink,
            uid,
            gid,
            rdev,
            size,
        } = self;
        let type_and_mode = format | u32::from(*mode);
        write!(
            f,
            "{type_and_mode:o} {nlink} links {uid}:{gid} device {rdev} size {size}"
        )
    }
}

/// What an operation that succeeded answers.
#[derive(Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nothing to say.
    Done,
    /// The operation names a slot that is not open.
    Skipped,
    /// Attributes.
    Attr(AttrAnswer),
    /// Bytes of a file, a symlink or an attribute.
    Bytes(Vec<u8>),
    /// Bytes written or copied.
    Count(u64),
    /// An offset in a file.
    Offset(u64),
    /// Names with S_IFMT bits (0 for attributes), sorted.
    Names(Vec<(Vec<u8>, u32)>),
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Skipped => f.write_str("skipped"),
            Self::Attr(attr) => attr.fmt(f),
            Self::Bytes(bytes) => {
                let head = &bytes[..bytes.len().min(24)];
                write!(f, "{} bytes \"{}\"", bytes.len(), head.escape_ascii())
            }
            Self::Count(count) => write!(f, "count {count}"),
            Self::Offset(offset) => write!(f, "offset {offset}"),
            Self::Names(names) => f
                .debug_list()
                .entries(names.iter().map(|(name, _)| name.escape_ascii().to_string()))
                .finish(),
        }
    }
}

/// What an operation came to.
pub type Outcome = Result<Answer, Errno>;

/// Every outcome that is right.
#[derive(Clone, Debug)]
pub struct Expected {
    /// What Linux answers.
    pub first: Outcome,
    /// What else is right: several errors hold at once, or a choice is open.
    pub others: Vec<Outcome>,
}

impl Expected {
    /// Whether `outcome` is right.
    pub fn allows(&self, outcome: &Outcome) -> bool {
        self.first == *outcome || self.others.contains(outcome)
    }

    /// The same with more outcomes allowed.
    #[must_use]
    pub fn or(mut self, others: impl IntoIterator<Item = Outcome>) -> Self {
        self.others.extend(others);
        self
    }
}

impl From<Outcome> for Expected {
    fn from(first: Outcome) -> Self {
        Self {
            first,
            others: Vec::new(),
        }
    }
}

impl Op {
    /// The same operation with only `count` bytes written or copied, as a full drive may do.
    #[must_use]
    pub fn shortened(&self, count: u64) -> Self {
        let mut op = self.clone();
        match &mut op {
            Self::Write { span, .. } | Self::CopyRange { span, .. } => span.len = count,
            Self::Append { len, .. } => *len = count,
            _ => panic!("{op:?} cannot be done in part"),
        }
        op
    }

    /// How many bytes the operation asks to write at most; `None` for one that writes none.
    pub fn bytes_to_write(&self) -> Option<u64> {
        match self {
            Self::Write { span, .. } | Self::CopyRange { span, .. } => Some(span.len),
            Self::Append { len, .. } => Some(*len),
            _ => None,
        }
    }
}

/// `len` bytes that depend on `fill`: zeros for 0, and long runs of zeros in every fourth. A shorter pattern is the
/// beginning of a longer one.
pub fn pattern(fill: u32, len: u64) -> Vec<u8> {
    let len = usize::try_from(len).expect("a pattern fits memory");
    if fill == 0 {
        return vec![0; len];
    }
    let mut word = u64::from(fill).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        word = word.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.truncate(len);
    if fill.is_multiple_of(4) {
        bytes
            .chunks_mut(6000)
            .skip(1)
            .step_by(2)
            .for_each(|chunk| chunk.fill(0));
    }
    bytes
}
