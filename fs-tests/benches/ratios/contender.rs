//! What is measured: tmpfs, okapi, and bindfs over tmpfs as another filesystem in user space.

use fs_tests::harness::{Drive, Place, Scratch, Tmpfs, run};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

/// An empty mount; goes with the value.
pub(crate) enum Contender {
    /// What the others are compared with.
    Tmpfs(Tmpfs),
    Okapi(Drive),
    /// The mountpoint of bindfs and the tmpfs that it shows.
    Bindfs {
        point: Scratch,
        _shown: Tmpfs,
    },
}

impl Contender {
    /// tmpfs first; bindfs only where it is installed.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = vec![
            Self::Tmpfs(Tmpfs::mount("4G")),
            Self::Okapi(Drive::mount(&["--size", "4G"])),
        ];
        all.extend(Self::bindfs());
        all
    }

    fn bindfs() -> Option<Self> {
        let found = Command::new("bindfs")
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        found.ok()?;
        let (shown, point) = (Tmpfs::mount("4G"), Scratch::new());
        run(Command::new("bindfs").arg(shown.path()).arg(point.path()));
        Some(Self::Bindfs { point, _shown: shown })
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Tmpfs(_) => "tmpfs",
            Self::Okapi(_) => "okapi",
            Self::Bindfs { .. } => "bindfs",
        }
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Tmpfs(tmpfs) => tmpfs.path(),
            Self::Okapi(drive) => drive.path(),
            Self::Bindfs { point, .. } => point.path(),
        }
    }

    /// How often the kernel has asked for which operation so far; empty where nobody counts.
    pub(crate) fn requests(&self) -> BTreeMap<String, u64> {
        let Self::Okapi(drive) = self else {
            return BTreeMap::new();
        };
        let stat = drive.stat();
        let requests = stat["requests"]
            .as_object()
            .expect("okapi stat --json tells the requests");
        requests
            .iter()
            .map(|(name, count)| (name.clone(), count.as_u64().unwrap_or_default()))
            .collect()
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        if let Self::Bindfs { point, .. } = self {
            run(Command::new("umount").arg(point.path()));
        }
    }
}
