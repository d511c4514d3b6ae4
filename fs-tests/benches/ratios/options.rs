//! What is asked for on the command line.

use crate::contender::{RECIPES, YARDSTICK};
use crate::inputs::Sizes;
use fs_tests::bench::options::{names, number};

pub(crate) const USAGE: &str = "\
usage: cargo bench --package fs-tests --bench ratios -- [OPTION...] [ROW...]

Times common work on okapi and other filesystems against tmpfs. Needs root. A ROW is a part of a row's name, or
`memory`; without any, all are measured.

  --rounds N         how often everything is measured [5]
  --contenders LIST  names with commas between them; tmpfs is always measured [all that are installed]
  --quick            one round of little work, to see that everything runs
  --write-docs       put the tables into docs/performance.md, and the chart beside it";

/// A run of the benchmark.
pub(crate) struct Options {
    pub(crate) rounds: usize,
    pub(crate) sizes: &'static Sizes,
    pub(crate) write_docs: bool,
    /// Names of contenders; all where empty.
    contenders: Vec<String>,
    /// Parts of names of rows; all where empty.
    rows: Vec<String>,
}

impl Options {
    /// Takes the command line apart; the error says what is wrong with it.
    pub(crate) fn parse(words: &mut dyn Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            rounds: 5,
            sizes: &Sizes::FULL,
            write_docs: false,
            contenders: Vec::new(),
            rows: Vec::new(),
        };
        while let Some(word) = words.next() {
            match word.as_str() {
                // What cargo adds.
                "--bench" => {}
                "--quick" => (options.rounds, options.sizes) = (1, &Sizes::QUICK),
                "--write-docs" => options.write_docs = true,
                "--rounds" => options.rounds = number(&word, words.next())?,
                "--contenders" => {
                    let known = RECIPES.map(|recipe| recipe.name);
                    options.contenders = names("contender", &known, words.next())?;
                }
                _ if word.starts_with('-') => return Err(format!("unknown option '{word}'")),
                _ => options.rows.push(word),
            }
        }
        Ok(options)
    }

    pub(crate) fn wants_contender(&self, name: &str) -> bool {
        name == YARDSTICK || self.contenders.is_empty() || self.contenders.iter().any(|wanted| wanted == name)
    }

    pub(crate) fn wants_row(&self, name: &str) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|part| name.contains(part.as_str()))
    }
}
