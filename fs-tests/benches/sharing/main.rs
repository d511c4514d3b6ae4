//! Shows what sharing saves, beside filesystems that share and one that does not: `cargo bench --bench sharing`, as
//! root.
//!
//! Four tables: [`clones`] of an image, a [`fleet`] of them, [`trees`] of small files, and [`sealing`] behind a writer.
//! [`options::USAGE`] has the options.

mod clones;
mod fleet;
mod gauge;
mod options;
mod sealing;
mod trees;

use fs_tests::bench::document::Document;
use fs_tests::bench::report::not_measured;
use fs_tests::bench::{Face, machine};
use options::Options;
use std::process::ExitCode;

const FACE: Face = Face {
    name: "sharing",
    usage: options::USAGE,
};

/// A table: its name on the command line, which is also that of its marks in the document, and what makes it.
struct Table {
    name: &'static str,
    /// Adds what cannot be measured here to the list.
    make: fn(&Options, &mut Vec<String>) -> Result<Vec<String>, String>,
}

const TABLES: [Table; 4] = [
    Table {
        name: "clones",
        make: clones::tables,
    },
    Table {
        name: "fleet",
        make: fleet::tables,
    },
    Table {
        name: "trees",
        make: trees::tables,
    },
    Table {
        name: "sealing",
        make: sealing::tables,
    },
];

fn main() -> ExitCode {
    FACE.run(Options::parse, bench)
}

fn bench(options: &Options) -> Result<(), String> {
    let mut document = Document::open(&TABLES.map(|table| table.name))?;
    for table in TABLES.iter().filter(|table| options.wants_table(table.name)) {
        let mut missing = Vec::new();
        let mut parts = vec![format!("{}; {}.", machine::description(), options.describe())];
        parts.extend((table.make)(options, &mut missing)?);
        parts.extend(not_measured(&missing));
        let text = parts.join("\n\n");
        println!("{text}\n");
        document.replace(table.name, &text)?;
    }
    match options.write_docs {
        true => document.save(),
        false => Ok(()),
    }
}
