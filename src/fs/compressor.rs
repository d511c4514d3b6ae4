//! Compression: blocks of files that were left alone are held compressed.

use std::str::FromStr;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use super::inode::Inode;
use super::snapshot::list::Snapshots;
use crate::extent::Packed;
use crate::grid::Press;
use crate::limits::FILE_SIZE_MAX;
use crate::range::ByteRange;

/// How blocks are held that were left alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compress {
    /// As they were written.
    #[default]
    Off,
    /// Compressed, where that saves a quarter of the memory or more.
    Lz4,
}

impl FromStr for Compress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "lz4" => Ok(Self::Lz4),
            _ => Err("compression is off or lz4".into()),
        }
    }
}

/// Compresses the blocks of a file for which it pays, one by one, as long as `go_on` says so; returns the bytes of
/// memory that this saves.
///
/// It changes nothing that anybody sees, so no inode is kept for it: what snapshots have kept shares the blocks. It passes
/// the gate with each block all the same, because a check compares sums of memory and goes through blocks twice for that.
pub(super) fn compress_file(
    gate: &RwLock<Snapshots>,
    inode: &Inode,
    press: &mut Press,
    go_on: impl Fn() -> bool,
) -> u64 {
    let mut rest = ByteRange {
        start: 0,
        end: FILE_SIZE_MAX,
    };
    let mut saved = 0;
    while go_on()
        && let Some(packed) = pack_next(inode, &mut rest, press)
    {
        let _gate = gate.read();
        let Ok(content) = inode.content() else { break };
        let compressed = packed.and_then(|packed| content.compress(packed, press));
        saved += compressed.unwrap_or(0);
    }
    saved
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
