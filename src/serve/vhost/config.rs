//! What a guest learns of the disk: features, and the configuration space.

use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_TOPOLOGY, VIRTIO_BLK_F_WRITE_ZEROES,
};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{Immutable, IntoBytes};

use crate::limits::{PAGE_SIZE, VHOST_SEGMENTS_MAX, VHOST_ZERO_MAX, VHOST_ZERO_RANGES_MAX};

/// Unit of offsets and lengths.
pub(super) const SECTOR: u64 = 512;
/// Configuration spaces end here at the latest (vhost-user: VHOST_USER_MAX_CONFIG_SIZE).
const SPACE: usize = 256;
const SECTORS_PER_PAGE: u64 = PAGE_SIZE / SECTOR;

/// Bits that are offered to the guest's driver, and to the VMM.
pub(super) fn features(read_only: bool) -> u64 {
    let bit = |feature: u32| 1_u64 << feature;
    let always = bit(VIRTIO_F_VERSION_1)
        | bit(VIRTIO_RING_F_EVENT_IDX)
        | bit(VIRTIO_RING_F_INDIRECT_DESC)
        | bit(VIRTIO_BLK_F_SEG_MAX)
        | bit(VIRTIO_BLK_F_BLK_SIZE)
        | bit(VIRTIO_BLK_F_TOPOLOGY)
        | bit(VIRTIO_BLK_F_FLUSH)
        | bit(VIRTIO_BLK_F_MQ)
        | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
    match read_only {
        true => always | bit(VIRTIO_BLK_F_RO),
        false => always | bit(VIRTIO_BLK_F_DISCARD) | bit(VIRTIO_BLK_F_WRITE_ZEROES),
    }
}

/// Parts of vhost-user itself. Requests are done in the order of their queue, so a VMM that connects again finds in the
/// guest's memory which of them are not: it needs no record of requests under way.
pub(super) fn protocol_features() -> VhostUserProtocolFeatures {
    VhostUserProtocolFeatures::CONFIG | VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::REPLY_ACK
}

/// `struct virtio_blk_config` (virtio 1.2, 5.2.4), as far as features that are offered reach.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Config {
    /// In sectors.
    capacity: U64,
    size_max: U32,
    seg_max: U32,
    geometry: U32,
    /// Bytes that a request can begin and end at.
    blk_size: U32,
    /// Blocks in a page, as a power of two: smaller writes cost a copy where the page is shared.
    physical_block_exp: u8,
    alignment_offset: u8,
    /// Blocks.
    min_io_size: U16,
    opt_io_size: U32,
    writeback: u8,
    unused: u8,
    num_queues: U16,
    /// Sectors.
    max_discard_sectors: U32,
    max_discard_seg: U32,
    /// Sectors: memory goes back in whole pages.
    discard_sector_alignment: U32,
    max_write_zeroes_sectors: U32,
    max_write_zeroes_seg: U32,
    write_zeroes_may_unmap: u8,
    unused_end: [u8; 3],
}

/// `size` bytes of the configuration space of a disk of that many sectors; none where they do not lie in it.
pub(super) fn read(capacity: u64, queues: u16, offset: u32, size: u32) -> Vec<u8> {
    let zero_sectors = U32::new((VHOST_ZERO_MAX / SECTOR) as u32);
    let zero_ranges = U32::new(VHOST_ZERO_RANGES_MAX as u32);
    let config = Config {
        capacity: U64::new(capacity),
        size_max: U32::ZERO,
        seg_max: U32::new(VHOST_SEGMENTS_MAX),
        geometry: U32::ZERO,
        blk_size: U32::new(SECTOR as u32),
        physical_block_exp: SECTORS_PER_PAGE.trailing_zeros() as u8,
        alignment_offset: 0,
        min_io_size: U16::new(SECTORS_PER_PAGE as u16),
        opt_io_size: U32::ZERO,
        writeback: 0,
        unused: 0,
        num_queues: U16::new(queues),
        max_discard_sectors: zero_sectors,
        max_discard_seg: zero_ranges,
        discard_sector_alignment: U32::new(SECTORS_PER_PAGE as u32),
        max_write_zeroes_sectors: zero_sectors,
        max_write_zeroes_seg: zero_ranges,
        write_zeroes_may_unmap: 1,
        unused_end: [0; 3],
    };
    let mut space = [0; SPACE];
    let known = config.as_bytes();
    space[..known.len()].copy_from_slice(known);
    let start = offset as usize;
    let end = start.saturating_add(size as usize);
    space.get(start..end).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_that_of_the_specification() {
        assert_eq!(size_of::<Config>(), 60);
        let whole = read(0x1122_3344_5566, 7, 0, 256);
        assert_eq!(whole[..8], 0x1122_3344_5566_u64.to_le_bytes());
        assert_eq!(whole[12..16], VHOST_SEGMENTS_MAX.to_le_bytes());
        assert_eq!((&whole[20..24], whole[24]), (&512_u32.to_le_bytes()[..], 3));
        assert_eq!((&whole[34..36], whole[56]), (&7_u16.to_le_bytes()[..], 1));
        assert!(whole[60..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn nothing_is_told_of_what_lies_outside_of_it() {
        assert_eq!(read(1, 1, 200, 56).len(), 56);
        for (offset, size) in [(200, 57), (256, 1), (u32::MAX, u32::MAX), (0, 257)] {
            assert!(read(1, 1, offset, size).is_empty(), "{size} at {offset}");
        }
    }

    #[test]
    fn a_disk_that_refuses_changes_offers_none() {
        let changing = 1 << VIRTIO_BLK_F_DISCARD | 1 << VIRTIO_BLK_F_WRITE_ZEROES;
        assert_eq!(features(true) & changing, 0);
        assert_eq!(features(false) & changing, changing);
        assert_ne!(features(true) & 1 << VIRTIO_BLK_F_RO, 0);
        assert_eq!(features(false) & 1 << VIRTIO_BLK_F_RO, 0);
    }
}
