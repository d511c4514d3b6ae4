//! The rules about single files: unsafe code, size, heading, unwrap, unfinished work, foreign words.

use super::lexer::{line_of, words};
use super::source::Source;

/// Longest source file in lines.
const LINES_MAX: usize = 900;

/// `unsafe` in files that are not listed.
pub fn unlisted_unsafe(sources: &[Source], listed: &[&str]) -> Vec<String> {
    let unlisted = rust(sources).filter(|source| !listed.contains(&source.path.as_str()));
    unlisted
        .flat_map(|source| found(source, &blanked(source), "unsafe", "unsafe code"))
        .collect()
}

/// Source files over the longest length.
pub fn long_files(sources: &[Source]) -> Vec<String> {
    rust(sources)
        .map(|source| (source, source.text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(source, lines)| format!("{}: {lines} lines, at most {LINES_MAX}", source.path))
        .collect()
}

/// Source files that do not begin with what they are for.
pub fn missing_headings(sources: &[Source]) -> Vec<String> {
    rust(sources)
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| format!("{}: begins without a `//!` sentence", source.path))
        .collect()
}

/// `unwrap` outside tests.
pub fn unwraps(sources: &[Source]) -> Vec<String> {
    let shipped = rust(sources).filter(|source| !source.is_test());
    shipped
        .flat_map(|source| found(source, &source.code(), ".unwrap()", "unwrap outside tests"))
        .collect()
}

/// Work that is left for later.
pub fn unfinished(sources: &[Source]) -> Vec<String> {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let text = sources.iter().flat_map(move |source| {
        let marks = marks.into_iter();
        marks
            .flat_map(|mark| found(source, &source.text, mark, mark))
            .collect::<Vec<_>>()
    });
    let code = rust(sources).flat_map(|source| {
        let code = blanked(source);
        let macros = [
            concat!("to", "do!"),
            concat!("unimpl", "emented!"),
            concat!("d", "bg!"),
        ];
        macros
            .into_iter()
            .flat_map(|name| found(source, &code, name, name))
            .collect::<Vec<_>>()
    });
    text.chain(code).collect()
}

/// Words about the place and the people that code comes from, which say nothing about the code.
pub fn foreign_words(sources: &[Source], foreign: &[&str]) -> Vec<String> {
    sources
        .iter()
        .flat_map(|source| {
            let text = source.text.to_ascii_lowercase();
            let hits = foreign.iter().flat_map(|word| found(source, &text, word, word));
            hits.collect::<Vec<_>>()
        })
        .collect()
}

fn rust(sources: &[Source]) -> impl Iterator<Item = &Source> {
    sources.iter().filter(|source| source.is_rust())
}

/// The whole file, tests and all, without comments and literals.
fn blanked(source: &Source) -> String {
    super::lexer::blank_comments_and_literals(&source.text)
}

/// Every place where `what` stands in `text`: alone where it is a word, anywhere where it is none.
fn found(source: &Source, text: &str, what: &str, reason: &str) -> Vec<String> {
    let is_plain = what
        .bytes()
        .all(|byte| byte.is_ascii_alphabetic() || byte == b' ');
    let offsets: Vec<usize> = match is_plain {
        true => words(text, what).collect(),
        false => text.match_indices(what).map(|(at, _)| at).collect(),
    };
    offsets
        .into_iter()
        .map(|at| format!("{}:{}: {reason}", source.path, line_of(text, at)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(path: &str, text: &str) -> Vec<Source> {
        vec![Source::new(path, text)]
    }

    #[test]
    fn unsafe_code_is_found_outside_the_listed_files() {
        let sources = one("src/a.rs", "//! Unsafe is a word.\nfn f() { unsafe { g() } }");
        assert_eq!(unlisted_unsafe(&sources, &[]), ["src/a.rs:2: unsafe code"]);
        assert!(unlisted_unsafe(&sources, &["src/a.rs"]).is_empty());
        assert!(unlisted_unsafe(&one("src/a.rs", "#![deny(unsafe_code)]"), &[]).is_empty());
    }

    #[test]
    fn a_long_file_is_found() {
        assert_eq!(long_files(&one("src/a.rs", &"\n".repeat(901))).len(), 1);
        assert!(long_files(&one("src/a.rs", &"\n".repeat(900))).is_empty());
    }

    #[test]
    fn a_file_without_a_heading_is_found() {
        assert_eq!(missing_headings(&one("src/a.rs", "use std::fmt;")).len(), 1);
        assert!(missing_headings(&one("src/a.rs", "//! What it is for.\n")).is_empty());
    }

    #[test]
    fn unwrap_is_found_outside_tests_only() {
        let text =
            "fn f() { g().unwrap() } // .unwrap()\n#[cfg(test)]\nmod tests {\n fn t() { g().unwrap() }\n}";
        assert_eq!(
            unwraps(&one("src/a.rs", text)),
            ["src/a.rs:1: unwrap outside tests"]
        );
        assert!(unwraps(&one("src/a/tests.rs", text)).is_empty());
    }

    #[test]
    fn unfinished_work_is_found() {
        let mark = concat!("// TO", "DO later");
        assert_eq!(unfinished(&one("docs/a.md", mark)).len(), 1);
        assert_eq!(
            unfinished(&one("src/a.rs", concat!("fn f() { to", "do!() }"))).len(),
            1
        );
        assert!(unfinished(&one("src/a.rs", "fn todo_list() {}")).is_empty());
    }

    #[test]
    fn a_foreign_word_is_found_alone_and_a_path_anywhere() {
        let sources = one("README.md", "Gardeners and a Gardener live\nin x/shed/y");
        assert_eq!(
            foreign_words(&sources, &["gardener", "/shed/"]),
            ["README.md:1: gardener", "README.md:2: /shed/"]
        );
    }
}
