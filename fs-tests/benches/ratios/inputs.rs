//! What the workloads work on, made anew on a tmpfs and the same on every machine.

use fs_tests::bench::program::git;
use fs_tests::harness::{Place, Tmpfs, run};
use fs_tests::rng::Rng;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Directories of the tree: as many at its top, and in each of these.
const TREE_PARENTS: usize = 15;
const TREE_CHILDREN: usize = 10;
const CRATE_MODULES: usize = 24;
const ROWS_PER_TRANSACTION: usize = 10;

/// How much there is of everything.
pub(crate) struct Sizes {
    /// Large file of the streams, in bytes; it is cut in two where there are two clients.
    pub(crate) stream_bytes: usize,
    /// Calls at random places of that file.
    pub(crate) random_calls: usize,
    /// Small files, of a page each.
    pub(crate) small_files: usize,
    /// Files in the source tree.
    pub(crate) tree_files: usize,
    /// Bytes that fio reads and writes in all.
    pub(crate) fio_bytes: usize,
    pub(crate) sqlite_transactions: usize,
}

impl Sizes {
    pub(crate) const FULL: Self = Self {
        stream_bytes: 256 << 20,
        random_calls: 20_000,
        small_files: 5000,
        tree_files: 3000,
        fio_bytes: 256 << 20,
        sqlite_transactions: 500,
    };
    /// Enough to see that everything runs; the ratios mean little.
    pub(crate) const QUICK: Self = Self {
        stream_bytes: 16 << 20,
        random_calls: 2000,
        small_files: 500,
        tree_files: 300,
        fio_bytes: 16 << 20,
        sqlite_transactions: 50,
    };
}

/// The inputs; they go with the value.
pub(crate) struct Inputs {
    dir: Tmpfs,
    pub(crate) sizes: &'static Sizes,
    /// Files and directories of the tree.
    pub(crate) tree_entries: usize,
    /// Sum of its files' lengths.
    pub(crate) tree_bytes: u64,
}

impl Inputs {
    pub(crate) fn make(sizes: &'static Sizes) -> Self {
        let dir = Tmpfs::mount("1G");
        let tree_bytes = make_tree(&dir.path().join("tree"), sizes.tree_files);
        run(Command::new("tar")
            .arg("-cf")
            .arg(dir.path().join("tree.tar"))
            .arg("-C")
            .arg(dir.path())
            .arg("tree"));
        make_repository(&dir.path().join("tree"));
        make_crate(&dir.path().join("crate"));
        fs::write(
            dir.path().join("insert.sql"),
            insert_script(sizes.sqlite_transactions),
        )
        .expect("tmpfs takes a file");
        Self {
            dir,
            sizes,
            tree_entries: sizes.tree_files + 1 + TREE_PARENTS * (1 + TREE_CHILDREN),
            tree_bytes,
        }
    }

    /// An archive of the directory `tree`: text, in files of a quarter of a KiB to 32 KiB.
    pub(crate) fn archive(&self) -> PathBuf {
        self.dir.path().join("tree.tar")
    }

    /// The same tree as a packed repository, whose branch `next` differs from `main` in a third of the files.
    pub(crate) fn repository(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    /// A Rust program that needs no other crate.
    pub(crate) fn crate_dir(&self) -> PathBuf {
        self.dir.path().join("crate")
    }

    /// Inserts in many transactions, as SQL.
    pub(crate) fn insert_script(&self) -> PathBuf {
        self.dir.path().join("insert.sql")
    }

    /// A place for what a workload writes elsewhere than on the filesystem that is measured.
    pub(crate) fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }
}

/// Makes a tree like a kernel's include files, and tells their bytes.
fn make_tree(dir: &Path, files: usize) -> u64 {
    let mut rng = Rng::new(1);
    let mut bytes = 0;
    for parent in 0..TREE_PARENTS {
        for child in 0..TREE_CHILDREN {
            fs::create_dir_all(dir.join(format!("dir{parent}/sub{child}"))).expect("tmpfs takes a directory");
        }
    }
    for n in 0..files {
        let text = header_text(&mut rng);
        let (parent, child) = (n % TREE_PARENTS, n / TREE_PARENTS % TREE_CHILDREN);
        let path = dir.join(format!("dir{parent}/sub{child}/file{n}.h"));
        fs::write(path, &text).expect("tmpfs takes a file");
        bytes += text.len() as u64;
    }
    bytes
}

/// Lines of which no two are alike.
fn header_text(rng: &mut Rng) -> String {
    let len = 256 << rng.below(8);
    let mut text = String::with_capacity(len);
    while text.len() < len {
        writeln!(text, "#define NAME_{:016x} 0x{:016x}", rng.bits(), rng.bits())
            .expect("a string takes text");
    }
    text.truncate(len);
    text
}

fn make_repository(dir: &Path) {
    let commit = || {
        run(git(dir).args(["add", "-A"]));
        run(git(dir).args(["commit", "-q", "-m", "all"]));
    };
    run(git(dir).args(["init", "-q", "-b", "main"]));
    commit();
    run(git(dir).args(["checkout", "-q", "-b", "next"]));
    for parent in (0..TREE_PARENTS).step_by(3) {
        for child in 0..TREE_CHILDREN {
            append_to_files(&dir.join(format!("dir{parent}/sub{child}")));
        }
    }
    commit();
    run(git(dir).args(["checkout", "-q", "main"]));
    run(git(dir).args(["gc", "-q"]));
}

fn append_to_files(dir: &Path) {
    for entry in fs::read_dir(dir).expect("the directory was made") {
        let path = entry.expect("a directory of tmpfs lists").path();
        let mut text = fs::read(&path).expect("the file was made");
        text.extend(b"#define NEXT 1\n");
        fs::write(path, text).expect("tmpfs takes a file");
    }
}

fn make_crate(dir: &Path) {
    fs::create_dir_all(dir.join("src")).expect("tmpfs takes a directory");
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).expect("tmpfs takes a file");
    write(
        "Cargo.toml",
        "[package]\nname = \"sums\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[workspace]\n",
    );
    let mut main = String::new();
    let mut calls = String::new();
    for n in 0..CRATE_MODULES {
        write(&format!("src/part{n}.rs"), PART);
        main += &format!("mod part{n};\n");
        calls += &format!("    sum += part{n}::sum_of(\"{n} 1.5 2.5\");\n");
    }
    write(
        "src/main.rs",
        &format!("{main}\nfn main() {{\n    let mut sum = 0.0;\n{calls}    println!(\"{{sum}}\");\n}}\n"),
    );
}

/// A module of the crate.
const PART: &str = r#"
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, PartialOrd)]
pub struct Record {
    name: String,
    values: Vec<f64>,
}

impl std::str::FromStr for Record {
    type Err = std::num::ParseFloatError;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let mut words = line.split(' ');
        let name = words.next().unwrap_or_default().to_owned();
        let values = words.map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { name, values })
    }
}

pub fn sum_of(text: &str) -> f64 {
    let records = text.lines().filter_map(|line| line.parse().ok());
    let by_name: BTreeMap<String, Record> = records
        .map(|record: Record| (record.name.clone(), record))
        .collect();
    by_name.values().flat_map(|record| &record.values).sum()
}
"#;

fn insert_script(transactions: usize) -> String {
    let mut rng = Rng::new(2);
    let mut text = "CREATE TABLE pairs (key INTEGER PRIMARY KEY, value TEXT);\n".to_owned();
    for _ in 0..transactions {
        text += "BEGIN;\n";
        for _ in 0..ROWS_PER_TRANSACTION {
            let value = rng.bits();
            text += &format!("INSERT INTO pairs (value) VALUES ('{value:0100x}');\n");
        }
        text += "COMMIT;\n";
    }
    text
}
