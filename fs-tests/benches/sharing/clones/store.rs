//! What can be done with clones, wherever they are stored.

/// Bytes of the write into each clone, at the same place in all.
pub(super) const WRITE_BYTES: usize = 4096;

/// Where that is: in the middle, and in the middle of a block or cluster of 64 KiB.
pub(super) fn write_offset(image_bytes: usize) -> u64 {
    (image_bytes / 2 + (32 << 10)) as u64
}

/// How clones are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// Through the kernel's page cache.
    Cached,
    /// Past it (O_DIRECT).
    Direct,
}

/// Bytes taken by an image and its clones.
pub(super) struct Usage {
    /// What the store itself counts.
    pub(super) charged: u64,
    /// Memory that is taken in fact, the image and all around it counted.
    pub(super) in_all: u64,
}

/// An image, and a way to have clones of it.
pub(super) trait Store {
    /// Makes all clones, with a process for each.
    fn clone_by_processes(&self);

    /// What makes all clones in this process; none where no program does.
    fn one_process(&self) -> Option<Box<dyn FnOnce() + '_>>;

    /// Takes all clones away.
    fn remove_clones(&self);

    /// Writes a page into each clone, of its own bytes, and has the filesystem store it.
    fn write_each(&self);

    /// Whether clones can be read so.
    fn can_read(&self, reading: Reading) -> bool;

    /// Reads every clone from its beginning to its end.
    fn read_all(&self, reading: Reading);

    /// What is taken when nothing goes on any more.
    fn usage(&self) -> Usage;

    /// Looks into each clone for what was written, and has the store check itself where it can.
    fn expect_written(&self);
}
