//! Snapshots on both sides: a name on the volume, a copy of the model.

use std::collections::BTreeMap;
use std::fmt;

use fs_tests::model::{Model, Op, Times};
use fs_tests::rng::Rng;
use fs_tests::vfs_driver::VfsDriver;
use okapi::ErrorKind;
use okapi::fs::{Subject, Volume};
use okapi::vfs::{Ino, Vfs};

use crate::bench::Bench;

/// One step of a run.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Op(Op),
    Snapshot(Deed),
}

/// What is done with a snapshot; names are numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Deed {
    Create(usize),
    Delete(usize),
    RollBack(usize),
}

/// The living snapshots.
#[derive(Default)]
pub(crate) struct Shelf {
    models: BTreeMap<usize, Model>,
    created: u64,
    rollbacks: u64,
    refused: u64,
}

impl fmt::Display for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            created,
            rollbacks,
            refused,
            ..
        } = self;
        write!(
            f,
            "{created} snapshots, {rollbacks} rollbacks, {refused} of both refused"
        )
    }
}

impl Shelf {
    /// Now and then something is done with one of `max` snapshots.
    pub(crate) fn next(&self, max: usize, rng: &mut Rng) -> Option<Deed> {
        if max == 0 || !rng.percent(2) {
            return None;
        }
        let number = rng.index(max);
        Some(match (self.models.contains_key(&number), rng.below(4)) {
            (false, _) => Deed::Create(number),
            (true, 0) => Deed::RollBack(number),
            (true, 1 | 2) => Deed::Delete(number),
            (true, _) => Deed::Create(number),
        })
    }

    /// Does it on both sides.
    pub(crate) fn play(
        &mut self,
        deed: Deed,
        bench: &Bench,
        model: &mut Model,
        driver: &VfsDriver<'_>,
    ) -> Result<(), String> {
        let volume = &bench.volume;
        let before = volume.stat();
        let listed = volume.list_snapshots();
        let usage = match deed {
            Deed::Delete(number) if self.models.contains_key(&number) => {
                let subject = Subject::Tree(root_of(volume, number)?);
                let report = volume.usage(&[subject]).map_err(|error| error.to_string())?;
                Some(report.total.private_bytes)
            }
            _ => None,
        };
        let (number, done) = match deed {
            Deed::Create(number) => (number, volume.create_snapshot(&name(number))),
            Deed::Delete(number) => (number, volume.delete_snapshot(&name(number))),
            Deed::RollBack(number) => (number, volume.rollback(&name(number))),
        };
        let known = self.models.get(&number);
        match (deed, known, done.map_err(|error| error.kind())) {
            (Deed::Create(_), Some(_), Err(ErrorKind::Exists)) => Ok(()),
            (Deed::Delete(_) | Deed::RollBack(_), None, Err(ErrorKind::NotFound)) => Ok(()),
            (Deed::Create(_), None, Ok(())) => {
                self.created += 1;
                self.models.insert(number, model.frozen());
                Ok(())
            }
            (Deed::Delete(_), Some(_), Ok(())) => {
                self.models.remove(&number);
                let listed = listed.iter().find(|listed| listed.name == name(number));
                let private = listed.map(|listed| listed.private_bytes);
                let freed = before.usage.held_bytes - volume.stat().usage.held_bytes;
                if private != Some(freed) || usage != private {
                    return Err(format!(
                        "{freed} bytes are freed, {private:?} were listed, {usage:?} are private"
                    ));
                }
                self.compare(bench)
            }
            (Deed::RollBack(_), Some(saved), Ok(())) => {
                self.rollbacks += 1;
                model.roll_back(saved);
                bench.compare(model, driver)?;
                self.compare(bench)
            }
            (Deed::Create(_) | Deed::RollBack(_), _, Err(ErrorKind::NoSpace)) if bench.is_tiny() => {
                self.refused += 1;
                bench.compare(model, driver)
            }
            (_, known, done) => Err(format!("answers {done:?}, it is there: {}", known.is_some())),
        }
    }

    /// Compares every snapshot, as it is shown, with its copy of the model.
    pub(crate) fn compare(&self, bench: &Bench) -> Result<(), String> {
        let volume = &*bench.volume;
        for (number, model) in &self.models {
            let driver = VfsDriver::below(volume, root_of(volume, *number)?);
            let dump = driver
                .dump()
                .map_err(|errno| format!("dump of snapshot {number}: {errno}"))?;
            model
                .compare(&dump, Times::Ordered)
                .map_err(|error| format!("snapshot {number}: {error}"))?;
        }
        match volume.list_snapshots().len() {
            count if count == self.models.len() => Ok(()),
            count => Err(format!("{count} snapshots are listed, not {}", self.models.len())),
        }
    }

    /// Compares and deletes all snapshots, the newest or the oldest last.
    pub(crate) fn clear(&mut self, bench: &Bench) -> Result<(), String> {
        self.compare(bench)?;
        let (held, own) = {
            let stat = bench.volume.stat();
            (stat.usage.held_bytes, stat.snapshot_bytes)
        };
        while let Some((number, _)) = self.models.pop_first() {
            let deleted = bench.volume.delete_snapshot(&name(number));
            deleted.map_err(|error| format!("deleting snapshot {number}: {error}"))?;
            self.compare(bench)?;
        }
        match held - bench.volume.stat().usage.held_bytes {
            freed if freed == own => Ok(()),
            freed => Err(format!("{freed} bytes are freed by all, {own} were counted")),
        }
    }
}

/// The root of a snapshot, as it is shown.
fn root_of(volume: &Volume, number: usize) -> Result<Ino, String> {
    let mut at = Ino::ROOT;
    for name in [".okapi", "snapshots", &name(number)] {
        let found = volume.lookup(at, name.as_bytes());
        at = found.map_err(|error| format!("{name}: {error}"))?.ino;
    }
    Ok(at)
}

fn name(number: usize) -> String {
    format!("s{number}")
}
