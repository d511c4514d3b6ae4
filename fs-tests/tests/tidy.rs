//! The repository keeps its own rules: layers, cycles, unsafe code, sizes, headings, words (see `fs_tests::tidy`).

use std::path::Path;

use fs_tests::tidy::{
    Source, cycles, foreign_words, long_files, missing_headings, sources_below, unfinished, unlisted_unsafe,
    unwraps, upward_imports,
};

/// Files in which memory is mapped or C is called.
const UNSAFE_FILES: [&str; 4] = [
    "src/grid/arena.rs",
    "src/serve/fuse/device/clone.rs",
    "src/serve/fuse/uring/ring.rs",
    "fs-tests/src/sys.rs",
];

/// Words of a workplace, and places on one machine.
const FOREIGN_WORDS: [&str; 12] = [
    "agent",
    "agents",
    "assistant",
    "this session",
    "last session",
    "earlier session",
    "previous session",
    "as requested",
    "/home/",
    "/root/",
    "/users/",
    "/work/",
];

fn repository() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("fs-tests lies in the repository");
    let sources = sources_below(root).expect("the repository can be read");
    assert!(
        sources.iter().any(|source| source.path == "src/lib.rs"),
        "the library was found"
    );
    sources
}

#[track_caller]
fn expect_none(broken: &[String]) {
    assert!(broken.is_empty(), "\n  {}", broken.join("\n  "));
}

#[test]
fn layers_import_only_downwards() {
    expect_none(&upward_imports(&repository()));
}

#[test]
fn no_modules_need_each_other_in_a_circle() {
    expect_none(&cycles(&repository()));
}

#[test]
fn unsafe_code_stays_in_the_files_that_map_memory_or_call_c() {
    expect_none(&unlisted_unsafe(&repository(), &UNSAFE_FILES));
}

#[test]
fn no_source_file_is_too_long() {
    expect_none(&long_files(&repository()));
}

#[test]
fn each_source_file_begins_with_what_it_is_for() {
    expect_none(&missing_headings(&repository()));
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    expect_none(&unwraps(&repository()));
}

#[test]
fn no_work_is_left_for_later() {
    expect_none(&unfinished(&repository()));
}

#[test]
fn words_are_about_the_code() {
    let sources = repository();
    let others: Vec<_> = sources
        .into_iter()
        .filter(|source| source.path != "fs-tests/tests/tidy.rs")
        .collect();
    expect_none(&foreign_words(&others, &FOREIGN_WORDS));
}
