//! The work that is timed, each piece in an empty directory of its own.

mod calls;
mod programs;

use crate::inputs::Inputs;
use fs_tests::bench::machine::{Caches, drop_caches};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::unistd::syncfs;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

pub(crate) use calls::store_stream;
pub(crate) use programs::unpack;

/// What a ratio to the yardstick means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Time: lower is better.
    Time,
    /// Bytes per time: higher is better.
    Speed,
}

/// Something to time.
pub(crate) struct Workload<'a> {
    pub(crate) name: String,
    pub(crate) measure: Measure,
    /// Threads that work side by side.
    pub(crate) clients: usize,
    /// How many operations a run counts as, when requests are told per operation.
    pub(crate) operations: usize,
    /// The program that it cannot do without, where not every system has that.
    pub(crate) needs: Option<&'static str>,
    /// Makes what the run needs.
    pub(crate) prepare: Box<dyn Fn(&Path) + 'a>,
    /// Does the work and tells its time.
    pub(crate) run: Box<dyn Fn(&Path) -> Duration + 'a>,
}

impl Workload<'_> {
    fn needing(self, program: &'static str) -> Self {
        Self {
            needs: Some(program),
            ..self
        }
    }
}

/// All workloads.
pub(crate) fn all(inputs: &Inputs) -> Vec<Workload<'_>> {
    let mut all = calls::all(inputs.sizes);
    all.extend(programs::all(inputs));
    all
}

/// Makes the kernel forget pages, names and attributes of what lies below `dir`, and nothing of the programs that
/// will run. tmpfs is the kernel's cache, and forgets nothing.
fn forget(dir: &Path) {
    let root = File::open(dir).expect("the directory is there");
    syncfs(&root).expect("a filesystem syncs");
    forget_pages(dir).expect("what was made can be listed");
    drop_caches(Caches::Names);
}

fn forget_pages(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            forget_pages(&entry.path())?;
        } else if kind.is_file() {
            posix_fadvise(
                File::open(entry.path())?,
                0,
                0,
                PosixFadviseAdvice::POSIX_FADV_DONTNEED,
            )?;
        }
    }
    Ok(())
}
