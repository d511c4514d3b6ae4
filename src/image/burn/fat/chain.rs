//! Chains of clusters.

use super::boot::Width;
use super::damage::damaged;
use super::volume::Fat;
use crate::error::Result;
use crate::image::burn::disk::{le16, le32};
use crate::image::burn::place::Place;

impl Fat<'_> {
    /// The first `len` bytes of a chain, or all of it where that is shorter and it is a directory's: from the filesystem's
    /// beginning, one after the other where that is so.
    pub(super) fn chain(&self, first: u32, len: u64) -> Result<Vec<Place>> {
        let cluster_len = self.boot.cluster_len;
        let mut places: Vec<Place> = Vec::new();
        let mut next = (len > 0).then_some(first);
        let mut left = len;
        // A chain without a loop has no more links than there are clusters.
        for _ in 0..=self.boot.clusters {
            let Some(cluster) = next else {
                return Ok(places);
            };
            if cluster < 2 || cluster - 2 >= self.boot.clusters {
                return Err(damaged("a chain of clusters leads outside"));
            }
            let offset = self.boot.clusters_at + u64::from(cluster - 2) * cluster_len;
            let taken = left.min(cluster_len);
            match places.last_mut() {
                Some(last) if last.offset + last.len == offset => last.len += taken,
                _ => places.push(Place { offset, len: taken }),
            }
            left -= taken;
            next = if left == 0 { None } else { self.next(cluster)? };
        }
        Err(damaged("a chain of clusters is a circle"))
    }

    /// What the table says comes behind a cluster; `None` at the end of a chain.
    fn next(&self, cluster: u32) -> Result<Option<u32>> {
        let at = |bytes: u64| self.boot.table_at + bytes;
        let number = u64::from(cluster);
        let (value, end) = match self.boot.width {
            Width::Bits12 => {
                let pair = le16(&self.part.bytes::<2>(at(number + number / 2))?, 0);
                let value = if cluster & 1 == 1 { pair >> 4 } else { pair & 0xFFF };
                (value.into(), 0xFF8)
            }
            Width::Bits16 => (le16(&self.part.bytes::<2>(at(number * 2))?, 0).into(), 0xFFF8),
            Width::Bits32 => (
                le32(&self.part.bytes::<4>(at(number * 4))?, 0) & 0x0FFF_FFFF,
                0x0FFF_FFF8,
            ),
        };
        Ok((value < end).then_some(value))
    }
}
