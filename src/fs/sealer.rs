//! Deduplication: contents that were left alone are sealed, so that equal blocks are held once.
//!
//! Then the blocks are compressed, where the volume does so. A thread of the lowest priority does it block by block;
//! between two of its short looks at a content no lock is held. What snapshots have kept is not sealed by itself: it
//! shares the blocks that the living content had, and those were sealed unless they were changed at once.

use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::backlog::Backlog;
use super::dedup::Dedup;
use super::inode::Inode;
use super::volume::Volume;
use crate::extent::{Packed, Reading, SealWalk, Settled};
use crate::grid::Press;
use crate::limits::{FILE_SIZE_MAX, SEAL_IDLE_MS};
use crate::range::ByteRange;
use crate::vfs::{Ino, Outdated};
use crate::{Error, ErrorKind, Result};

/// A file as a whole, with what is allocated behind its end.
const WHOLE: ByteRange = ByteRange {
    start: 0,
    end: FILE_SIZE_MAX,
};

/// What sealing has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SealReport {
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Blocks that are sealed now.
    pub sealed_blocks: u64,
    /// Blocks in whose place an equal one is held now.
    pub shared_blocks: u64,
    /// Memory that this gave back.
    pub shared_bytes: u64,
    /// Memory of zeros that became holes.
    pub zero_bytes: u64,
    /// Memory that compression gave back, on a volume that compresses.
    pub compressed_bytes: u64,
}

impl SealReport {
    fn add(&mut self, settled: Settled) {
        match settled {
            Settled::Kept => {}
            Settled::Sealed => self.sealed_blocks += 1,
            Settled::Shared(freed) => {
                self.shared_blocks += 1;
                self.shared_bytes += u64::from(freed);
            }
            Settled::Emptied(freed) => self.zero_bytes += freed,
        }
    }

    fn merge(&mut self, other: &Self) {
        self.read_bytes += other.read_bytes;
        self.sealed_blocks += other.sealed_blocks;
        self.shared_blocks += other.shared_blocks;
        self.shared_bytes += other.shared_bytes;
        self.zero_bytes += other.zero_bytes;
        self.compressed_bytes += other.compressed_bytes;
    }
}

/// The thread that seals what was left alone; ends when this is dropped, or soon after the volume.
pub struct Sealer {
    backlog: Arc<Backlog>,
    thread: Option<JoinHandle<()>>,
}

impl Sealer {
    /// Starts the thread, which sleeps until something changes.
    ///
    /// # Errors
    /// `NoMemory` where the host refuses a thread.
    pub fn start(volume: &Arc<Volume>) -> Result<Self> {
        let (volume, backlog) = (Arc::downgrade(volume), Arc::clone(&volume.backlog));
        let rounds = Rounds {
            volume,
            backlog: Arc::clone(&backlog),
        };
        let thread = thread::Builder::new()
            .name("okapi-sealer".to_owned())
            .spawn(move || rounds.run())
            .map_err(|cause| {
                Error::new(ErrorKind::NoMemory, "the host refuses a thread that seals blocks")
                    .with_source(cause)
            })?;
        Ok(Self {
            backlog,
            thread: Some(thread),
        })
    }
}

impl Drop for Sealer {
    fn drop(&mut self) {
        self.backlog.stop();
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been reported by it; there is nothing to clean up.
            let _ = thread.join();
        }
    }
}

struct Rounds {
    volume: Weak<Volume>,
    backlog: Arc<Backlog>,
}

impl Rounds {
    fn run(&self) {
        give_way();
        let mut press = self.volume.upgrade().and_then(|volume| volume.press());
        while self
            .backlog
            .rest(Duration::from_millis(SEAL_IDLE_MS))
            .is_continue()
        {
            let Some(volume) = self.volume.upgrade() else {
                return;
            };
            for ino in volume.ripe() {
                if let Ok(inode) = volume.table.get(ino) {
                    volume.settle_file(&inode, press.as_mut(), || !self.backlog.is_stopped());
                }
                self.backlog.note_done();
            }
        }
    }
}

/// Puts the calling thread behind all others.
fn give_way() {
    #[cfg(target_os = "linux")]
    // Where the system refuses, the thread competes like others.
    let _ = rustix::process::setpriority_process(None, 19);
}

impl Volume {
    /// Seals all files, and compresses them if the volume does so, now; returns when it is done. Others work meanwhile.
    pub fn seal_all(&self) -> SealReport {
        self.backlog.clear();
        let (mut report, mut press) = (SealReport::default(), self.press());
        for ino in self.table.numbers(|inode| inode.require_file().is_ok()) {
            if let Ok(inode) = self.table.get(ino) {
                inode.mark.clear();
                let mut sealed = self.seal_file(&inode, WHOLE, || true);
                sealed.compressed_bytes = self.compress_file(&inode, press.as_mut(), || true);
                report.merge(&sealed);
            }
        }
        report
    }

    /// Does what is to be done with a file that was left alone. Blocks are sealed as merging has left them: what was
    /// whole elsewhere is then found whole.
    fn settle_file(&self, inode: &Arc<Inode>, press: Option<&mut Press>, go_on: impl Fn() -> bool) {
        self.merge_file(inode, 0, |_| go_on());
        if self.dedup != Dedup::Off {
            self.seal_file(inode, WHOLE, &go_on);
        }
        self.compress_file(inode, press, go_on);
    }

    /// What compresses blocks, if the volume does so.
    fn press(&self) -> Option<Press> {
        self.compress.codec().map(Press::new)
    }

    /// Compresses the blocks of a file for which it pays, one by one, as long as `go_on` says so; returns the bytes of
    /// memory that this saves. Blocks that turned out to be equal are held once by now.
    ///
    /// It changes nothing that anybody sees, so no inode is kept for it: what snapshots have kept shares the blocks. It
    /// passes the gate with each block all the same, because a check compares sums of memory and goes through blocks twice
    /// for that.
    pub(super) fn compress_file(
        &self,
        inode: &Inode,
        press: Option<&mut Press>,
        go_on: impl Fn() -> bool,
    ) -> u64 {
        let (mut rest, mut saved) = (WHOLE, 0);
        let Some(press) = press else { return 0 };
        while go_on()
            && let Some(packed) = pack_next(inode, &mut rest, press)
        {
            let _change = self.change();
            let Ok(content) = inode.content() else { break };
            let compressed = packed.and_then(|packed| content.compress(packed, press));
            saved += compressed.unwrap_or(0);
        }
        saved
    }

    /// Seals the whole blocks that a write has left in a range.
    pub(super) fn seal_inline(&self, inode: &Inode, written: ByteRange) {
        let block_size = u64::from(self.namespace.block_size());
        let whole = ByteRange {
            start: written.start.next_multiple_of(block_size),
            end: written.end - written.end % block_size,
        };
        if !whole.is_empty() {
            self.seal_file(inode, whole, || true);
        }
    }

    /// The inodes that wait to be sealed and have not changed since this was asked last.
    fn ripe(&self) -> Vec<Ino> {
        let marked = || self.table.numbers(|inode| inode.mark.is_set());
        let pass = |ino| self.table.get(ino).ok()?.mark.pass();
        self.backlog.take_ripe(marked, pass)
    }

    /// Seals the blocks of a file in a range, one by one, as long as the file has a name and `go_on` says so.
    fn seal_file(&self, inode: &Inode, range: ByteRange, go_on: impl Fn() -> bool) -> SealReport {
        let mut report = SealReport::default();
        let mut walk = SealWalk::over(range);
        while go_on() {
            let Some((reading, len)) = read_next(inode, &walk) else {
                break;
            };
            report.read_bytes += u64::from(len);
            let Some(settled) = self.change().settle(inode, &self.namespace, &reading) else {
                break;
            };
            report.add(settled);
            walk.pass(&reading);
        }
        if report.zero_bytes > 0 {
            self.tell_outdated(&[Outdated::Attributes(inode.ino)]);
        }
        report
    }
}

/// Reads the next block that is not sealed; with its length. A writer without memory to copy it waits for that.
fn read_next(inode: &Inode, walk: &SealWalk) -> Option<(Reading, u32)> {
    let content = inode.content().ok()?;
    let _reading = inode.readers.read();
    let unsealed = content.next_unsealed(walk)?;
    drop(content);
    let len = unsealed.block_len();
    Some((unsealed.read(), len))
}

/// Packs the first block in the range that may be worth it, and cuts the range behind it; `None` where there is no such
/// block. A writer without memory to copy the block waits for that.
fn pack_next(inode: &Inode, range: &mut ByteRange, press: &mut Press) -> Option<Option<Packed>> {
    let content = inode.content().ok()?;
    let _reading = inode.readers.read();
    let block = content.next_compressible(*range)?;
    drop(content);
    range.start = block.end();
    Some(block.pack(press))
}
