//! What a drive shall be, with every default filled in.

use std::fs;
use std::path::Path;

use nix::unistd::{getegid, geteuid};
use serde::{Deserialize, Serialize};

use super::options::Options;
use super::outcome::Failure;
use super::size::{Size, human};
use crate::error::ErrorKind;
use crate::fs::{Compress, Dedup, VolumeConfig};
use crate::grid::GridConfig;
use crate::limits::{BLOCK_SIZE_DEFAULT, GRID_SIZE_MIN};
use crate::serve::fuse::{MountConfig, Transport};

/// A drive to be made and mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    size_bytes: u64,
    block_size: u32,
    inodes_max: Option<u64>,
    root_mode: u16,
    uid: u32,
    gid: u32,
    source: String,
    read_only: bool,
    allow_other: bool,
    suid: bool,
    dev: bool,
    exec: bool,
    transport: Transport,
    dedup: Dedup,
    compress: Compress,
}

impl Plan {
    pub(super) fn new(options: &Options, source: String) -> Result<Self, Failure> {
        let root = geteuid().is_root();
        for (set, name) in [(options.suid, "suid"), (options.dev, "dev")] {
            if set == Some(true) && !root {
                return Err(Failure::failed(
                    ErrorKind::NotPermitted,
                    format!("the mount option `{name}` is for root alone"),
                ));
            }
        }
        Ok(Self {
            size_bytes: size_within_memory(options.size.unwrap_or(Size::PercentOfMemory(50)))?,
            block_size: options.block_size.unwrap_or(BLOCK_SIZE_DEFAULT),
            inodes_max: options.inodes,
            root_mode: options.mode.unwrap_or(if root { 0o1777 } else { 0o700 }),
            uid: options.uid.unwrap_or_else(|| geteuid().as_raw()),
            gid: options.gid.unwrap_or_else(|| getegid().as_raw()),
            source,
            read_only: options.read_only.unwrap_or(false),
            allow_other: options.allow_other.unwrap_or(root),
            suid: options.suid.unwrap_or(false),
            dev: options.dev.unwrap_or(false),
            exec: options.exec.unwrap_or(true),
            transport: options.transport.unwrap_or_default(),
            dedup: options.dedup.unwrap_or(Dedup::Idle),
            compress: options.compress.unwrap_or_default(),
        })
    }

    pub(super) fn grid(&self) -> GridConfig {
        GridConfig {
            size_bytes: self.size_bytes,
            block_size: self.block_size,
        }
    }

    pub(super) fn volume(&self) -> VolumeConfig {
        VolumeConfig {
            inodes_max: self.inodes_max,
            root_mode: self.root_mode,
            uid: self.uid,
            gid: self.gid,
            dedup: self.dedup,
            compress: self.compress,
        }
    }

    pub(super) fn mount(&self, mountpoint: &Path) -> MountConfig {
        MountConfig {
            mountpoint: mountpoint.to_owned(),
            source: self.source.clone(),
            read_only: self.read_only,
            allow_other: self.allow_other,
            suid: self.suid,
            dev: self.dev,
            exec: self.exec,
            transport: self.transport,
        }
    }

    /// When equal blocks are looked for.
    pub(super) fn dedup(&self) -> Dedup {
        self.dedup
    }

    /// How blocks are held that were left alone.
    pub(super) fn compress(&self) -> Compress {
        self.compress
    }

    /// Whether every change is refused.
    pub(super) fn read_only(&self) -> bool {
        self.read_only
    }

    /// The drive in a few words.
    pub(super) fn summary(&self) -> String {
        let block_size = human(self.block_size.into());
        format!("{}, blocks of {block_size}", human(self.size_bytes))
    }
}

fn size_within_memory(size: Size) -> Result<u64, Failure> {
    let memory_bytes = memory_bytes()?;
    let bytes = size.resolve(memory_bytes);
    if bytes < GRID_SIZE_MIN {
        let least = human(GRID_SIZE_MIN);
        return Err(Failure::Usage(format!(
            "a drive of {} is too small\nhint: give it a size of {least} or more",
            human(bytes)
        )));
    }
    if bytes > memory_bytes {
        return Err(Failure::failed(
            ErrorKind::NoMemory,
            format!(
                "a drive of {} does not fit in the memory of this machine, {}\nhint: give it a size like 50%",
                human(bytes),
                human(memory_bytes)
            ),
        ));
    }
    Ok(bytes)
}

/// Memory of this machine in bytes.
fn memory_bytes() -> Result<u64, Failure> {
    let table = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    table
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemTotal:")?
                .trim()
                .strip_suffix(" kB")?
                .parse()
                .ok()
        })
        .and_then(|kib: u64| kib.checked_mul(1 << 10))
        .ok_or_else(|| {
            Failure::failed(
                ErrorKind::NotFound,
                "/proc/meminfo does not tell how much memory there is\nhint: is /proc mounted?",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_filled_in() {
        let Ok(plan) = Plan::new(&Options::default(), "okapi".into()) else {
            panic!("the defaults are sound");
        };
        assert_eq!(plan.block_size, BLOCK_SIZE_DEFAULT);
        assert!(!plan.suid && !plan.dev && plan.exec && !plan.read_only);
        let memory = memory_bytes().ok().expect("/proc tells");
        assert!(plan.size_bytes <= memory / 2 && plan.size_bytes > memory / 2 - 100);
    }

    #[test]
    fn sizes_that_no_machine_has_are_refused() {
        assert!(matches!(
            size_within_memory(Size::Bytes(1 << 60)),
            Err(Failure::Failed(_))
        ));
        assert!(matches!(
            size_within_memory(Size::Bytes(4096)),
            Err(Failure::Usage(_))
        ));
        assert!(size_within_memory(Size::Bytes(GRID_SIZE_MIN)).is_ok());
    }
}
