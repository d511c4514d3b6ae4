//! What is asked for on the command line.

use crate::contender::{RECIPES, YARDSTICK};
use fs_tests::bench::options::{names, number};

pub(crate) const USAGE: &str = "\
usage: cargo bench --package fs-tests --bench disks -- [OPTION...]

Compares an image of okapi as a file and as a disk, qemu-nbd and nbdkit with a raw file on tmpfs. Needs root.

  --rounds N         how often everything is measured [5]
  --image N          length of the image in MiB [256]
  --seconds N        how long fio does each thing [1]
  --contenders LIST  names with commas between them, beside the raw file [all that are installed]
  --quick            one round of little work, to see that everything runs
  --write-docs       put the table into docs/performance.md";

/// A run of the benchmark.
pub(crate) struct Options {
    pub(crate) rounds: usize,
    /// Length of the image, whole MiB.
    pub(crate) image_bytes: u64,
    /// Of each run of a client that takes a time.
    pub(crate) seconds: usize,
    /// Divides the requests of a client that takes a number.
    pub(crate) divisor: u64,
    pub(crate) write_docs: bool,
    /// Names of contenders; all where empty.
    contenders: Vec<String>,
}

impl Options {
    /// Takes the command line apart; the error says what is wrong with it.
    pub(crate) fn parse(words: &mut dyn Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            rounds: 5,
            image_bytes: 256 << 20,
            seconds: 1,
            divisor: 1,
            write_docs: false,
            contenders: Vec::new(),
        };
        while let Some(word) = words.next() {
            match word.as_str() {
                // What cargo adds.
                "--bench" => {}
                "--quick" => (options.rounds, options.image_bytes, options.divisor) = (1, 64 << 20, 10),
                "--write-docs" => options.write_docs = true,
                "--rounds" => options.rounds = number(&word, words.next())?,
                "--image" => options.image_bytes = (number(&word, words.next())? as u64) << 20,
                "--seconds" => options.seconds = number(&word, words.next())?,
                "--contenders" => {
                    let known = RECIPES.each_ref().map(|recipe| recipe.name);
                    options.contenders = names("contender", &known, words.next())?;
                }
                _ => return Err(format!("unknown argument '{word}'")),
            }
        }
        Ok(options)
    }

    /// What the table is about, in a line of prose.
    pub(crate) fn describe(&self) -> String {
        let image = self.image_bytes >> 20;
        format!("image: {image} MiB; rounds: {}; median (quartiles)", self.rounds)
    }

    pub(crate) fn wants_contender(&self, name: &str) -> bool {
        let wanted = self.contenders.iter().any(|wanted| wanted == name);
        self.contenders.is_empty() || wanted || name == YARDSTICK
    }
}
