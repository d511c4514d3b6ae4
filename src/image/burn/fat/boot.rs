//! The boot sector: where the tables, the root directory and the clusters are.

use super::damage::damaged;
use crate::error::{Error, ErrorKind, Result};
use crate::image::burn::disk::{Part, le16, le32};
use crate::image::burn::place::Place;

const LEN: usize = 512;
/// Clusters from which on a filesystem is FAT16, and FAT32.
const FAT16_MIN: u64 = 4085;
const FAT32_MIN: u64 = 65525;
/// The most clusters that FAT32 can number.
const CLUSTERS_MAX: u64 = 0x0FFF_FFF5;

/// Bits of an entry in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Bits12,
    Bits16,
    Bits32,
}

/// Where the root directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Root {
    /// Between table and clusters.
    Fixed(Place),
    /// In clusters like any other, from this one on.
    Cluster(u32),
}

/// Measures, each checked; offsets are from the filesystem's beginning.
#[derive(Debug)]
pub(super) struct Boot {
    pub(super) width: Width,
    pub(super) table_at: u64,
    pub(super) root: Root,
    /// Of cluster 2, the first.
    pub(super) clusters_at: u64,
    pub(super) cluster_len: u64,
    pub(super) clusters: u32,
}

/// `None` where there is no such filesystem.
pub(super) fn read(part: Part<'_>) -> Result<Option<Boot>> {
    if part.len() < LEN as u64 {
        return Ok(None);
    }
    let raw: [u8; LEN] = part.bytes(0)?;
    let sector = u64::from(le16(&raw, 11));
    let per_cluster = u64::from(raw[13]);
    let is_fat = le16(&raw, 510) == 0xAA55
        && matches!(raw[0], 0xEB | 0xE9)
        && sector.is_power_of_two()
        && (512..=4096).contains(&sector)
        && per_cluster.is_power_of_two()
        && le16(&raw, 14) > 0
        && (1..=8).contains(&raw[16])
        && raw[21] >= 0xF0;
    match is_fat {
        true => {
            let boot = measures(&raw, part.len())?;
            check_state(&raw, boot.width)?;
            Ok(Some(boot))
        }
        false => Ok(None),
    }
}

/// Linux marks a filesystem as long as it is mounted for writing.
fn check_state(raw: &[u8; LEN], width: Width) -> Result<()> {
    let at = match width {
        Width::Bits32 => 65,
        Width::Bits12 | Width::Bits16 => 37,
    };
    match raw[at] & 1 {
        0 => Ok(()),
        _ => Err(Error::new(
            ErrorKind::Busy,
            "the filesystem was not unmounted cleanly\n\
             hint: shut down what uses the base, or run `fsck.fat -a` on it (a partition: over `losetup -P`)",
        )),
    }
}

fn measures(raw: &[u8; LEN], part_len: u64) -> Result<Boot> {
    let (sector, per_cluster) = (u64::from(le16(raw, 11)), u64::from(raw[13]));
    let (reserved, tables) = (u64::from(le16(raw, 14)), u64::from(raw[16]));
    let either = |short: u16, long| u64::from(if short == 0 { le32(raw, long) } else { short.into() });
    let (sectors, table_len) = (either(le16(raw, 19), 32), either(le16(raw, 22), 36));
    let root_len = u64::from(le16(raw, 17)) * 32;
    // Each is below 2^36.
    let root_at = (reserved + tables * table_len) * sector;
    let clusters_at = root_at + root_len.next_multiple_of(sector);
    if sectors * sector > part_len || clusters_at >= sectors * sector {
        return Err(damaged("it is longer than the disk or partition"));
    }
    let cluster_len = per_cluster * sector;
    let clusters = (sectors * sector - clusters_at) / cluster_len;
    let is_32 = le16(raw, 22) == 0;
    let width = match clusters {
        _ if is_32 => Width::Bits32,
        0..FAT16_MIN => Width::Bits12,
        FAT16_MIN..FAT32_MIN => Width::Bits16,
        _ => return Err(damaged("it has more clusters than its table numbers")),
    };
    let root = match is_32 {
        true => Root::Cluster(le32(raw, 44)),
        false => Root::Fixed(Place {
            offset: root_at,
            len: root_len,
        }),
    };
    if clusters > CLUSTERS_MAX || table_len * sector < table_bytes(width, clusters + 2) {
        return Err(damaged("its table is too short"));
    }
    Ok(Boot {
        width,
        table_at: (reserved + active_table(raw, is_32).min(tables - 1) * table_len) * sector,
        root,
        clusters_at,
        cluster_len,
        clusters: clusters as u32,
    })
}

/// FAT32 can name the only one of its tables that is kept.
fn active_table(raw: &[u8; LEN], is_32: bool) -> u64 {
    match le16(raw, 40) {
        flags if is_32 && flags & 0x80 != 0 => u64::from(flags & 0xF),
        _ => 0,
    }
}

fn table_bytes(width: Width, entries: u64) -> u64 {
    match width {
        Width::Bits12 => (entries * 3).div_ceil(2),
        Width::Bits16 => entries * 2,
        Width::Bits32 => entries * 4,
    }
}
