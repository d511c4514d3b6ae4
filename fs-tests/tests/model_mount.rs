//! Plays random system calls on the model, on tmpfs and on a mounted drive at once, and compares all that can be seen.
//!
//! Where tmpfs differs from the drive, and neither is wrong:
//!
//! | operation | tmpfs | okapi | here |
//! | --- | --- | --- | --- |
//! | FALLOC_FL_ZERO_RANGE | EOPNOTSUPP | done | on tmpfs a punch, then an allocation |
//! | SEEK_DATA over zeros that were written or allocated | data | data or hole | the model allows both |
//! | size of a directory | 20 per entry | see docs/semantics.md | not compared |

use fs_tests::harness::{Drive, Place, Tmpfs};
use fs_tests::model::{Features, Generator, Model, Op, Outcome, Times};
use fs_tests::mount_driver::MountDriver;
use fs_tests::rng::{from_env_or_time, ops_from_env};

const FEATURES: Features = Features {
    mmap: true,
    raw: false,
    inodes: 80,
    pages: 1000,
    sharing: false,
};

/// Few files, most of whose bytes are copies.
const SHARING: Features = Features {
    inodes: 24,
    pages: 500,
    sharing: true,
    ..FEATURES
};

/// One filesystem under comparison.
struct Side {
    name: &'static str,
    driver: MountDriver,
}

impl Side {
    fn new(place: &dyn Place, zero_range: bool, seed: u64) -> Self {
        Self {
            name: place.name(),
            driver: MountDriver::new(place.path(), zero_range, seed),
        }
    }

    fn compare(&self, model: &Model) -> Result<(), String> {
        let dump = self
            .driver
            .dump()
            .map_err(|errno| format!("{}: dump: {errno}", self.name))?;
        model
            .compare(&dump, Times::Set)
            .map_err(|difference| format!("{}: {difference}", self.name))
    }
}

/// Plays one operation on the model and on all sides.
fn step(op: &Op, model: &mut Model, sides: &mut [Side]) -> Result<(), String> {
    let outcomes: Vec<Outcome> = sides.iter_mut().map(|side| side.driver.play(op)).collect();
    let expected = model.apply(op);
    for (side, outcome) in sides.iter().zip(&outcomes) {
        if !expected.allows(outcome) {
            let right = (&expected.first, &expected.others);
            return Err(format!("{} answers {outcome:?}, right is {right:?}", side.name));
        }
    }
    let errors: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().err()).collect();
    match errors.windows(2).all(|pair| pair[0] == pair[1]) || matches!(op, Op::Seek { .. }) {
        true => Ok(()),
        false => Err(format!("the filesystems do not agree: {outcomes:?}")),
    }
}

fn run(name: &str, features: Features, places: &[(&dyn Place, bool)], ops: u64) {
    let seed = from_env_or_time(name);
    let sides: &mut [Side] = &mut places
        .iter()
        .map(|(place, zero_range)| Side::new(*place, *zero_range, seed))
        .collect::<Vec<_>>();
    let mut generator = Generator::new(seed, features);
    let mut model = Model::default();
    let mut log: Vec<Op> = Vec::new();
    for count in 1..=ops_from_env(ops) {
        let op = generator.next(&model);
        log.push(op.clone());
        let mut result = step(&op, &mut model, sides);
        if result.is_ok() && count % 300 == 0 {
            result = sides.iter().try_for_each(|side| side.compare(&model));
        }
        if let Err(error) = result {
            let last = &log[log.len().saturating_sub(40)..];
            last.iter().for_each(|op| println!("    {op:?}"));
            panic!("{name} (OKAPI_SEED={seed}), operation {count}, {op:?}: {error}");
        }
    }
    sides
        .iter()
        .try_for_each(|side| side.compare(&model))
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn the_model_answers_as_tmpfs() {
    let tmpfs = Tmpfs::mount("1G");
    run("tmpfs", FEATURES, &[(&tmpfs, false)], 100_000);
}

#[test]
fn a_drive_answers_as_tmpfs_and_the_model() {
    let (tmpfs, drive) = (
        Tmpfs::mount("1G"),
        Drive::mount(&["--size", "1G", "--mode", "755"]),
    );
    run("mount", FEATURES, &[(&tmpfs, false), (&drive, true)], 60_000);
    drive.check();
}

#[test]
fn a_drive_of_4k_blocks_answers_as_tmpfs_and_the_model() {
    let (tmpfs, drive) = (
        Tmpfs::mount("1G"),
        Drive::mount(&["--size", "1G", "--mode", "755", "--block-size", "4K"]),
    );
    run(
        "mount, 4k blocks",
        FEATURES,
        &[(&tmpfs, false), (&drive, true)],
        20_000,
    );
    drive.check();
}

#[test]
fn clones_on_a_drive_keep_their_bytes_while_mappings_change_them() {
    let (tmpfs, drive) = (
        Tmpfs::mount("1G"),
        Drive::mount(&["--size", "1G", "--mode", "755"]),
    );
    run(
        "mount, clones",
        SHARING,
        &[(&tmpfs, false), (&drive, true)],
        40_000,
    );
    drive.check();
}
