//! The algorithms by which the bytes of blocks are packed.

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};
use zstd_safe::{CCtx, DCtx, compress_bound};

/// An algorithm that packs bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// LZ4 blocks: unpacked two to three times as fast.
    Lz4,
    /// Zstandard frames (RFC 8878): a third smaller.
    Zstd,
}

/// Level of Zstandard: the next ones save a hundredth more and take twice as long.
const ZSTD_LEVEL: i32 = 1;

impl Codec {
    /// The number that stands for it in memory.
    pub(super) fn tag(self) -> u8 {
        match self {
            Self::Lz4 => 1,
            Self::Zstd => 2,
        }
    }

    pub(super) fn of_tag(tag: u8) -> Option<Self> {
        [Self::Lz4, Self::Zstd]
            .into_iter()
            .find(|codec| codec.tag() == tag)
    }
}

/// Packs by one algorithm, with the memory that this needs.
pub(super) enum Packer {
    Lz4(CompressTable),
    Zstd(CCtx<'static>),
}

impl Packer {
    pub(super) fn new(codec: Codec) -> Self {
        match codec {
            Codec::Lz4 => Self::Lz4(CompressTable::large()),
            Codec::Zstd => Self::Zstd(CCtx::create()),
        }
    }

    pub(super) fn codec(&self) -> Codec {
        match self {
            Self::Lz4(_) => Codec::Lz4,
            Self::Zstd(_) => Codec::Zstd,
        }
    }

    /// Room for so many bytes, packed, whatever they are.
    pub(super) fn room(&self, len: usize) -> usize {
        match self {
            Self::Lz4(_) => get_maximum_output_size(len),
            Self::Zstd(_) => compress_bound(len),
        }
    }

    /// Packs bytes into the front of `out`, which has room for them; how long they are then. `None` where that fails, for
    /// want of the host's memory.
    pub(super) fn pack(&mut self, plain: &[u8], out: &mut [u8]) -> Option<usize> {
        match self {
            Self::Lz4(table) => compress_into_with_table(plain, out, table).ok(),
            Self::Zstd(context) => context.compress(out, plain, ZSTD_LEVEL).ok(),
        }
    }
}

/// Unpacks what any of the algorithms has packed.
#[derive(Default)]
pub(super) struct Unpacker {
    /// Made when it is needed first.
    zstd: Option<DCtx<'static>>,
}

impl Unpacker {
    /// Unpacks into the front of `out`; how many bytes there are. `None` where the packed bytes are damaged, or more than
    /// `out` holds.
    pub(super) fn unpack(&mut self, codec: Codec, packed: &[u8], out: &mut [u8]) -> Option<usize> {
        match codec {
            Codec::Lz4 => decompress_into(packed, out).ok(),
            Codec::Zstd => {
                let context = self.zstd.get_or_insert_with(DCtx::create);
                context.decompress(out, packed).ok()
            }
        }
    }
}
