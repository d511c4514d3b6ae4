//! How often the kernel has asked for what.

use std::sync::atomic::{AtomicU64, Ordering};

/// One counter for each operation.
#[derive(Debug)]
pub struct Counters([AtomicU64; Operation::NAMES.len()]);

impl Counters {
    pub(super) fn new() -> Self {
        Self([const { AtomicU64::new(0) }; Operation::NAMES.len()])
    }

    pub(super) fn count(&self, operation: Operation) {
        self.0[operation as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Names of the operations that were asked for at least once, with their numbers of requests.
    pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        Operation::NAMES
            .into_iter()
            .zip(counts)
            .filter(|&(_, count)| count > 0)
            .collect()
    }
}

macro_rules! operations {
    ($($variant:ident $name:literal),* $(,)?) => {
        /// An operation of the FUSE protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Operation { $($variant),* }

        impl Operation {
            const NAMES: [&'static str; [$($name),*].len()] = [$($name),*];

            /// The operation's name in reports.
            pub(super) fn name(self) -> &'static str {
                Self::NAMES[self as usize]
            }
        }
    };
}

operations! {
    Lookup "lookup",
    Forget "forget",
    GetAttr "getattr",
    SetAttr "setattr",
    ReadLink "readlink",
    SymLink "symlink",
    MkNod "mknod",
    MkDir "mkdir",
    Unlink "unlink",
    RmDir "rmdir",
    Rename "rename",
    Link "link",
    Open "open",
    Create "create",
    Read "read",
    Write "write",
    Flush "flush",
    Release "release",
    Fsync "fsync",
    OpenDir "opendir",
    ReadDir "readdir",
    ReadDirPlus "readdirplus",
    ReleaseDir "releasedir",
    FsyncDir "fsyncdir",
    StatFs "statfs",
    SetXattr "setxattr",
    GetXattr "getxattr",
    ListXattr "listxattr",
    RemoveXattr "removexattr",
    Access "access",
    Fallocate "fallocate",
    Lseek "lseek",
    CopyFileRange "copy_file_range",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_names_only_what_was_asked_for() {
        let counters = Counters::new();
        counters.count(Operation::Lookup);
        counters.count(Operation::CopyFileRange);
        counters.count(Operation::CopyFileRange);
        assert_eq!(counters.snapshot(), [("lookup", 1), ("copy_file_range", 2)]);
    }
}
