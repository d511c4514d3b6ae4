//! Packed clusters: deflate without a wrapper, or zstd.

use std::io::Read;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use ruzstd::decoding::StreamingDecoder;

use super::super::fields::damaged;
use super::super::source::Source;
use crate::error::Result;
use crate::limits::QCOW2_ZSTD_WINDOW_MAX;

/// How the packed clusters of a file are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Deflate,
    Zstd,
}

/// Where a packed cluster is: `len` bytes at most, of which it may need fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packed {
    pub(super) offset: u64,
    pub(super) len: u64,
}

impl Packed {
    /// What an L2 entry says.
    pub(super) fn of_entry(entry: u64, cluster_bits: u32) -> Self {
        let offset_bits = 70 - cluster_bits;
        let offset = entry & ((1 << offset_bits) - 1);
        let sectors = (entry & ((1 << 62) - 1)) >> offset_bits;
        Self {
            offset,
            len: (sectors + 1) * 512 - offset % 512,
        }
    }
}

/// The cluster that was unpacked last.
pub(super) struct Unpacked {
    packing: Packing,
    at: Option<Packed>,
    bytes: Vec<u8>,
    decompressor: Box<DecompressorOxide>,
}

impl Unpacked {
    pub(super) fn new(packing: Packing) -> Self {
        Self {
            packing,
            at: None,
            bytes: Vec::new(),
            decompressor: Box::default(),
        }
    }

    /// The bytes of a cluster.
    pub(super) fn cluster(&mut self, source: &dyn Source, at: Packed, cluster_len: usize) -> Result<&[u8]> {
        if self.at != Some(at) {
            self.at = None;
            let packed = read_packed(source, at)?;
            self.bytes.resize(cluster_len, 0);
            if !self.unpack(&packed) {
                return Err(damaged(format!("the packed cluster at {} is damaged", at.offset)));
            }
            self.at = Some(at);
        }
        Ok(&self.bytes)
    }

    /// Whether the bytes make a whole cluster.
    fn unpack(&mut self, packed: &[u8]) -> bool {
        match self.packing {
            Packing::Deflate => {
                self.decompressor.init();
                let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
                let (status, _, len) = decompress(&mut self.decompressor, packed, &mut self.bytes, 0, flags);
                // What is behind the cluster's bytes is another one's.
                matches!(status, TINFLStatus::Done | TINFLStatus::HasMoreOutput) && len == self.bytes.len()
            }
            Packing::Zstd => {
                let mut decoder = ruzstd::decoding::FrameDecoder::new();
                decoder.set_max_window_size(QCOW2_ZSTD_WINDOW_MAX);
                StreamingDecoder::new_with_decoder(packed, decoder)
                    .is_ok_and(|mut stream| stream.read_exact(&mut self.bytes).is_ok())
            }
        }
    }
}

/// The bytes may be cut by the end of the file, as they are counted in sectors.
fn read_packed(source: &dyn Source, at: Packed) -> Result<Vec<u8>> {
    let left = source.size().saturating_sub(at.offset);
    if left == 0 {
        return Err(damaged(format!(
            "the packed cluster at {} lies behind the end of the file: was it cut short?",
            at.offset
        )));
    }
    let mut packed = vec![0; at.len.min(left) as usize];
    source.read(at.offset, &mut packed)?;
    Ok(packed)
}
