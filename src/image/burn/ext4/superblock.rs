//! The superblock: the filesystem's measures, and the features that a reader must know.

use super::damage::damaged;
use crate::error::{Error, ErrorKind, Result};
use crate::image::burn::disk::{Part, le16, le32};
use crate::image::checksum::CRC32C;

const AT: u64 = 1024;
const LEN: usize = 1024;
const CHECKSUM_AT: usize = 0x3FC;
const MAGIC: u16 = 0xEF53;
/// `s_state`: unmounted, and no error found.
const CLEAN: u16 = 1;
const ERRORS: u16 = 2;

/// Incompatible features that change nothing for who reads files: filetype, extents, 64bit, mmp, flex_bg, ea_inode,
/// metadata_csum_seed, large_dir, inline_data, encrypt, casefold. The last three are looked at file by file.
const KNOWN: u32 =
    0x2 | 0x40 | IS_64BIT | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000 | 0x1_0000 | 0x2_0000;
const NEEDS_RECOVERY: u32 = 0x4;
const IS_64BIT: u32 = 0x80;
/// Features that who does not know them must not write for, and that change nothing for who writes into blocks of files:
/// sparse_super, large_file, btree_dir, huge_file, gdt_csum, dir_nlink, extra_isize, quota, bigalloc, metadata_csum, project,
/// verity. The last one is looked at file by file.
const WRITABLE: u32 =
    0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x100 | 0x200 | METADATA_CSUM | 0x2000 | 0x8000;
const METADATA_CSUM: u32 = 0x400;
const READ_ONLY: u32 = 0x1000;
const SHARED_BLOCKS: u32 = 0x4000;
/// Files that were deleted while they were open are still to be freed.
const ORPHANS: u32 = 0x1_0000;

/// Measures, each checked.
pub(super) struct Superblock {
    pub(super) block_size: u64,
    pub(super) blocks: u64,
    pub(super) inodes: u32,
    pub(super) inodes_per_group: u32,
    pub(super) inode_size: u16,
    /// Offset of the first group descriptor: in the block behind the superblock's.
    pub(super) descriptors_at: u64,
    pub(super) descriptor_size: u16,
}

impl Superblock {
    /// Groups of blocks.
    pub(super) fn groups(&self) -> u32 {
        self.inodes.div_ceil(self.inodes_per_group)
    }

    /// Bytes in the table of inodes of one group.
    pub(super) fn inode_table_len(&self) -> u64 {
        u64::from(self.inodes_per_group) * u64::from(self.inode_size)
    }
}

/// `None` where there is none.
pub(super) fn read(part: Part<'_>) -> Result<Option<Superblock>> {
    if part.part(AT, LEN as u64).is_none() {
        return Ok(None);
    }
    let raw: [u8; LEN] = part.bytes(AT)?;
    if le16(&raw, 0x38) != MAGIC {
        return Ok(None);
    }
    let superblock = measures(&raw, part.len())?;
    // First, for a token may be burned into a filesystem that is not understood, but into none that is in use.
    check_state(&raw, part.start())?;
    check_writable(&raw)?;
    check_features(&raw)?;
    Ok(Some(superblock))
}

fn measures(raw: &[u8; LEN], part_len: u64) -> Result<Superblock> {
    let shift = le32(raw, 0x18);
    if shift > 6 {
        return Err(damaged("blocks longer than 64 KiB"));
    }
    let block_size = 1024 << shift;
    let (old, wide) = (le32(raw, 0x4C) == 0, le32(raw, 0x60) & IS_64BIT != 0);
    let high_blocks = if wide { le32(raw, 0x150) } else { 0 };
    let superblock = Superblock {
        block_size,
        blocks: u64::from(high_blocks) << 32 | u64::from(le32(raw, 0x4)),
        inodes: le32(raw, 0x0),
        inodes_per_group: le32(raw, 0x28),
        inode_size: if old { 128 } else { le16(raw, 0x58) },
        descriptors_at: (AT / block_size + 1) * block_size,
        descriptor_size: if wide { le16(raw, 0xFE) } else { 32 },
    };
    let sizes = superblock.inode_size.is_power_of_two()
        && (128..=block_size).contains(&superblock.inode_size.into())
        && superblock.descriptor_size.is_power_of_two()
        && (32..=1024).contains(&superblock.descriptor_size);
    let counts = superblock.inodes > 0
        && (1..=8 * block_size).contains(&superblock.inodes_per_group.into())
        && u64::from(superblock.groups()) <= superblock.blocks.div_ceil(64);
    if !sizes || !counts {
        return Err(damaged("measures in the superblock contradict each other"));
    }
    match superblock.blocks.checked_mul(block_size) {
        Some(len) if len <= part_len => Ok(superblock),
        _ => Err(damaged("it is longer than the disk or partition")),
    }
}

fn check_features(raw: &[u8; LEN]) -> Result<()> {
    let (incompatible, read_only) = (le32(raw, 0x60), le32(raw, 0x64));
    if read_only & METADATA_CSUM != 0 && CRC32C.remainder(&raw[..CHECKSUM_AT]) != le32(raw, CHECKSUM_AT) {
        return Err(damaged("the superblock's checksum is wrong"));
    }
    match incompatible & !(KNOWN | NEEDS_RECOVERY) {
        0 => Ok(()),
        unknown => Err(Error::new(
            ErrorKind::NotSupported,
            format!(
                "the filesystem has features that okapi does not read ({unknown:#x})\n\
                 hint: put a token into the file and use --patch"
            ),
        )),
    }
}

/// Refuses filesystems in which a block is not its file's alone, or nobody can tell.
fn check_writable(raw: &[u8; LEN]) -> Result<()> {
    let refused = |what: String, cure: &str| {
        let context = format!("the filesystem must not be written: {what}\nhint: {cure}");
        Err(Error::new(ErrorKind::ReadOnly, context))
    };
    match le32(raw, 0x64) & !(WRITABLE | ORPHANS) {
        0 => Ok(()),
        READ_ONLY => refused(
            "it is marked as read-only".to_owned(),
            "run `tune2fs -O ^read-only` on it, or use --seed nocloud",
        ),
        some if some & SHARED_BLOCKS != 0 => refused(
            "files share blocks (shared_blocks)".to_owned(),
            "run `e2fsck -E unshare_blocks` on it, or use --seed nocloud",
        ),
        unknown => refused(
            format!("it has features that okapi does not know ({unknown:#x})"),
            "use --seed nocloud",
        ),
    }
}

/// What is written into a file must not be undone by the journal. `start`: where on the disk the filesystem is.
fn check_state(raw: &[u8; LEN], start: u64) -> Result<()> {
    let state = le16(raw, 0x3A);
    let is_done = le32(raw, 0x60) & NEEDS_RECOVERY == 0 && le32(raw, 0x64) & ORPHANS == 0;
    if is_done && state & CLEAN != 0 && state & ERRORS == 0 {
        return Ok(());
    }
    let place = match start {
        0 => "images/NAME".to_owned(),
        offset => format!("'images/NAME?offset={offset}'"),
    };
    Err(Error::new(
        ErrorKind::Busy,
        format!(
            "the filesystem was not unmounted cleanly: its journal is dirty, or errors were found\n\
             hint: shut down what uses the base, or run `e2fsck -p {place}`"
        ),
    ))
}
