//! The documents keep up with the code: docs/semantics.md names every semantics test, and no other.

#![allow(clippy::unwrap_used)] // a test that cannot go on fails

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Names of the semantics tests, as `file::function`.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(root().join("fs-tests/tests/semantics")).unwrap() {
        let path = entry.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
        names.extend(functions(&fs::read_to_string(&path).unwrap()).map(|name| format!("{module}::{name}")));
    }
    names
}

/// Functions behind `#[test]`.
fn functions(source: &str) -> impl Iterator<Item = &str> {
    source.split("#[test]").skip(1).filter_map(|behind| {
        let (_, behind) = behind.split_once("fn ")?;
        Some(behind.split_once('(')?.0)
    })
}

/// What stands between backquotes and has a module before it.
fn named(document: &str) -> BTreeSet<String> {
    document
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| code.contains("::"))
        .map(str::to_owned)
        .collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn semantics_names_every_test_and_no_other() {
    let (tests, named) = (
        tests(),
        named(&fs::read_to_string(root().join("docs/semantics.md")).unwrap()),
    );
    let unnamed: Vec<_> = tests.difference(&named).collect();
    let untested: Vec<_> = named.difference(&tests).collect();
    assert!(unnamed.is_empty(), "docs/semantics.md does not name {unnamed:?}");
    assert!(
        untested.is_empty(),
        "docs/semantics.md names what is no test: {untested:?}"
    );
}

#[test]
fn the_readme_stays_short() {
    let lines = fs::read_to_string(root().join("README.md"))
        .unwrap()
        .lines()
        .count();
    assert!(lines < 120, "README.md has {lines} lines; it stays under 120");
}

#[test]
fn names_are_found_in_sources_and_documents() {
    let source = "#[test]\nfn a_b() {}\nfn helper() {}\n#[test]\n#[ignore]\nfn c() {}";
    assert_eq!(functions(source).collect::<Vec<_>>(), ["a_b", "c"]);
    assert_eq!(
        named("| x | `m::a` and `plain` |"),
        BTreeSet::from(["m::a".to_owned()])
    );
}
