//! Plays random operations on a volume through `Vfs` and on the reference model, and compares all that can be seen.
//!
//! A failure prints the seed (`OKAPI_SEED` replays it) and the shortest list of operations that still fails.

#![allow(clippy::unwrap_used)]

mod bench;
mod play;
mod snapshots;
mod usage;

use fs_tests::model::Features;

use play::run;

/// One run: how the volume is made, and how often its whole state is compared.
#[derive(Clone, Copy, Debug)]
struct Setup {
    block_size: u32,
    size_bytes: u64,
    inodes_max: Option<u64>,
    compare_every: u64,
    features: Features,
    /// Snapshots that there may be at a time.
    snapshots_max: usize,
    /// How often equal blocks are looked for, and then in each write as well; 0 for never.
    seal_every: u64,
}

const ROOMY: Setup = Setup {
    block_size: 64 << 10,
    size_bytes: 1 << 30,
    inodes_max: None,
    compare_every: 2000,
    features: Features {
        mmap: false,
        raw: true,
        inodes: 100,
        pages: 1500,
        sharing: false,
    },
    snapshots_max: 0,
    seal_every: 0,
};

const TINY: Setup = Setup {
    size_bytes: 1 << 20,
    compare_every: 200,
    features: Features {
        inodes: 60,
        pages: 100_000,
        ..ROOMY.features
    },
    ..ROOMY
};

/// Few files, most of whose bytes are copies; small enough to be compared often.
const SHARING: Setup = Setup {
    compare_every: 500,
    features: Features {
        raw: false,
        inodes: 24,
        pages: 500,
        sharing: true,
        ..ROOMY.features
    },
    snapshots_max: 2,
    seal_every: 50,
    ..ROOMY
};

#[test]
fn a_volume_of_64k_blocks_answers_as_the_model() {
    run("64k blocks", ROOMY, 300_000);
}

#[test]
fn a_volume_of_64k_blocks_answers_as_the_model_on_another_seed() {
    run("64k blocks again", ROOMY, 300_000);
}

#[test]
fn a_volume_of_4k_blocks_answers_as_the_model() {
    let setup = Setup {
        block_size: 4 << 10,
        ..ROOMY
    };
    run("4k blocks", setup, 200_000);
}

#[test]
fn a_volume_of_1m_blocks_answers_as_the_model() {
    let setup = Setup {
        block_size: 1 << 20,
        ..ROOMY
    };
    run("1m blocks", setup, 100_000);
}

#[test]
fn what_a_full_volume_refuses_changes_nothing() {
    let setup = Setup {
        block_size: 4 << 10,
        ..TINY
    };
    run("full, 4k blocks", setup, 30_000);
}

#[test]
fn what_a_full_volume_of_64k_blocks_refuses_changes_nothing() {
    run("full, 64k blocks", TINY, 30_000);
}

#[test]
fn a_volume_without_free_inodes_refuses_new_ones_and_changes_nothing() {
    let setup = Setup {
        inodes_max: Some(30),
        compare_every: 500,
        ..ROOMY
    };
    run("few inodes", setup, 25_000);
}

#[test]
fn snapshots_show_what_was_there_when_they_were_made() {
    let setup = Setup {
        compare_every: 1000,
        snapshots_max: 5,
        ..ROOMY
    };
    run("snapshots", setup, 200_000);
}

#[test]
fn snapshots_of_4k_blocks_show_what_was_there_when_they_were_made() {
    let setup = Setup {
        block_size: 4 << 10,
        compare_every: 1000,
        snapshots_max: 12,
        ..ROOMY
    };
    run("snapshots, 4k blocks", setup, 100_000);
}

#[test]
fn what_a_full_volume_with_snapshots_refuses_changes_nothing() {
    let setup = Setup {
        block_size: 4 << 10,
        snapshots_max: 3,
        ..TINY
    };
    run("full, snapshots", setup, 30_000);
}

#[test]
fn clones_of_64k_blocks_keep_their_bytes() {
    run("clones", SHARING, 200_000);
}

#[test]
fn clones_of_4k_blocks_keep_their_bytes() {
    let setup = Setup {
        block_size: 4 << 10,
        ..SHARING
    };
    run("clones, 4k blocks", setup, 100_000);
}

#[test]
fn clones_of_1m_blocks_keep_their_bytes() {
    let setup = Setup {
        block_size: 1 << 20,
        ..SHARING
    };
    run("clones, 1m blocks", setup, 100_000);
}

#[test]
fn what_a_full_volume_of_clones_refuses_changes_nothing() {
    let setup = Setup {
        features: Features {
            pages: TINY.features.pages,
            ..SHARING.features
        },
        ..TINY
    };
    run("full, clones", setup, 30_000);
}

#[test]
fn who_looks_for_equal_blocks_changes_nothing() {
    let setup = Setup {
        seal_every: 20,
        snapshots_max: 3,
        ..ROOMY
    };
    run("sealing", setup, 100_000);
    let setup = Setup {
        block_size: 4 << 10,
        seal_every: 7,
        ..setup
    };
    run("sealing, 4k blocks", setup, 100_000);
}

#[test]
fn what_a_full_volume_refuses_changes_nothing_where_equal_blocks_are_held_once() {
    // small ones, for among large ones on so small a volume hardly any are equal
    let setup = Setup {
        block_size: 8 << 10,
        seal_every: 5,
        snapshots_max: 3,
        ..TINY
    };
    run("full, sealing", setup, 30_000);
}
