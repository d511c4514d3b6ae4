//! What is asked for on the command line.

use crate::TABLES;
use crate::clones::{STORES, Work};
use fs_tests::bench::options::{known_name, names, number};
use fs_tests::harness::Drive;

pub(crate) const USAGE: &str = "\
usage: cargo bench --package fs-tests --bench sharing -- [OPTION...] [TABLE...]

Shows what sharing saves on okapi, XFS with reflinks, qcow2 with backing files, and tmpfs, which shares nothing.
Needs root. A TABLE is `clones`, `fleet`, `trees` or `sealing`; without any, all are made.

  --rounds N         how often everything is measured [3]
  --clones N         clones of the image, and members of the fleet [254]
  --image N          length of the image in MiB [64]
  --contenders LIST  of the clones: names with commas between them [all that are installed]
  --mount OPTIONS    for `okapi mount`, with spaces between them [none]
  --quick            one round of little work, to see that everything runs
  --write-docs       put the tables into docs/performance.md";

/// A run of the benchmark.
pub(crate) struct Options {
    pub(crate) rounds: usize,
    pub(crate) work: Work,
    /// Length of the stream behind which is sealed, whole MiB.
    pub(crate) stream_bytes: usize,
    pub(crate) write_docs: bool,
    /// Options of `okapi mount`.
    mount: Vec<String>,
    /// Names of contenders; all where empty.
    contenders: Vec<String>,
    /// Names of tables; all where empty.
    tables: Vec<String>,
}

impl Options {
    /// Takes the command line apart; the error says what is wrong with it.
    pub(crate) fn parse(words: &mut dyn Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            rounds: 3,
            work: Work {
                clones: 254,
                image_bytes: 64 << 20,
            },
            stream_bytes: 1 << 30,
            write_docs: false,
            mount: Vec::new(),
            contenders: Vec::new(),
            tables: Vec::new(),
        };
        while let Some(word) = words.next() {
            match word.as_str() {
                // What cargo adds.
                "--bench" => {}
                "--quick" => options.be_quick(),
                "--write-docs" => options.write_docs = true,
                "--rounds" => options.rounds = number(&word, words.next())?,
                "--clones" => options.work.clones = number(&word, words.next())?,
                "--image" => options.work.image_bytes = number(&word, words.next())? << 20,
                "--mount" => {
                    let words = words.next().unwrap_or_default();
                    options.mount = words.split_whitespace().map(str::to_owned).collect();
                }
                "--contenders" => options.contenders = names("contender", &STORES, words.next())?,
                _ if word.starts_with('-') => return Err(format!("unknown option '{word}'")),
                _ => {
                    let known = TABLES.map(|table| table.name);
                    options.tables.push(known_name("table", &known, &word)?);
                }
            }
        }
        Ok(options)
    }

    fn be_quick(&mut self) {
        self.rounds = 1;
        self.work = Work {
            clones: 8,
            image_bytes: 16 << 20,
        };
        self.stream_bytes = 64 << 20;
    }

    /// Mounts a drive of that size, with what is asked for.
    pub(crate) fn drive(&self, size: &str) -> Drive {
        self.drive_with(size, &[])
    }

    /// The same with more options.
    pub(crate) fn drive_with(&self, size: &str, more: &[&str]) -> Drive {
        let mut options = vec!["--size", size];
        options.extend(self.mount.iter().map(String::as_str));
        options.extend(more);
        Drive::mount(&options)
    }

    /// What the tables are about, in a line of prose.
    pub(crate) fn describe(&self) -> String {
        let mount = match self.mount.is_empty() {
            true => String::new(),
            false => format!("okapi mount {}; ", self.mount.join(" ")),
        };
        format!("{mount}rounds: {}; median (quartiles)", self.rounds)
    }

    pub(crate) fn wants_table(&self, name: &str) -> bool {
        self.tables.is_empty() || self.tables.iter().any(|wanted| wanted == name)
    }

    pub(crate) fn wants_contender(&self, name: &str) -> bool {
        self.contenders.is_empty() || self.contenders.iter().any(|wanted| wanted == name)
    }
}
