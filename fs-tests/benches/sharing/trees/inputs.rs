//! Real trees, fetched once by npm, cargo and git into the target directory, and kept there as archives.

use fs_tests::bench::program::{git, is_installed, succeed, target_dir};
use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a web project asks npm for; what these need is npm's choice.
const NPM_PACKAGES: [&str; 6] = [
    "typescript@5.6.3",
    "eslint@9.14.0",
    "webpack@5.96.1",
    "@babel/preset-env@7.26.0",
    "jest@29.7.0",
    "react-dom@18.3.1",
];

/// A crate that carries the sources of OpenSSL, which are committed and checked out.
const GIT_MANIFEST: &str = "\
[package]
name = \"sources\"
version = \"0.1.0\"
edition = \"2021\"

[workspace]

[dependencies]
openssl-src = \"=300.5.0\"
";

/// A tree of files to store.
pub(super) struct Tree {
    pub(super) name: &'static str,
    /// An archive of it, for tar.
    pub(super) archive: PathBuf,
    /// Sum of the lengths of its files.
    pub(super) bytes: u64,
    /// Files, directories and all else.
    pub(super) inodes: usize,
}

struct Recipe {
    name: &'static str,
    /// Name of the archive.
    file: &'static str,
    needs: &'static str,
    /// Makes the tree in an empty directory, and tells where it is.
    make: fn(&Path) -> Result<PathBuf, String>,
}

const RECIPES: [Recipe; 3] = [
    Recipe {
        name: "node_modules",
        file: "node_modules",
        needs: "npm",
        make: make_node_modules,
    },
    Recipe {
        name: "crate sources",
        file: "crates",
        needs: "cargo",
        make: make_crates,
    },
    Recipe {
        name: "git checkout",
        file: "checkout",
        needs: "git",
        make: make_checkout,
    },
];

/// All trees that can be had; adds the others to `missing`.
pub(super) fn trees(missing: &mut Vec<String>) -> Vec<Tree> {
    let mut trees = Vec::new();
    for recipe in &RECIPES {
        match recipe.tree() {
            Ok(tree) => trees.push(tree),
            Err(reason) => missing.push(format!("{}: {reason}", recipe.name)),
        }
    }
    trees
}

impl Recipe {
    fn tree(&self) -> Result<Tree, String> {
        let dir = target_dir().join("trees");
        let told = |err: io::Error| format!("{}: {err}", dir.display());
        let (archive, tree) = (dir.join(format!("{}.tar", self.file)), dir.join(self.file));
        if !archive.exists() {
            if !is_installed(self.needs) {
                return Err(format!("{} is not installed", self.needs));
            }
            eprintln!("sharing: fetching {}", self.name);
            let work = dir.join("work");
            for left in [&work, &tree] {
                remove(left).map_err(told)?;
            }
            fs::create_dir_all(&work).map_err(told)?;
            let made = (self.make)(&work)?;
            fs::rename(made, &tree).map_err(told)?;
            remove(&work).map_err(told)?;
            pack(&tree, &archive)?;
        }
        let mut sum = Sum::default();
        sum.add(&tree).map_err(told)?;
        Ok(Tree {
            name: self.name,
            archive,
            bytes: sum.bytes,
            inodes: sum.seen.len(),
        })
    }
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    }
}

/// Under another name until it is whole.
fn pack(tree: &Path, archive: &Path) -> Result<(), String> {
    let part = archive.with_extension("part");
    succeed(
        Command::new("tar")
            .arg("-cf")
            .arg(&part)
            .arg("-C")
            .arg(tree)
            .arg("."),
    )?;
    fs::rename(&part, archive).map_err(|err| format!("{}: {err}", archive.display()))
}

fn make_node_modules(dir: &Path) -> Result<PathBuf, String> {
    write(&dir.join("package.json"), "{}\n")?;
    let mut npm = Command::new("npm");
    npm.args([
        "install",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--silent",
    ]);
    succeed(npm.args(NPM_PACKAGES).current_dir(dir))?;
    Ok(dir.join("node_modules"))
}

/// The sources of all that okapi is built from.
fn make_crates(dir: &Path) -> Result<PathBuf, String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    vendor(&manifest, &dir.join("crates"), &["--locked"])
}

fn make_checkout(dir: &Path) -> Result<PathBuf, String> {
    fs::create_dir(dir.join("src")).map_err(|err| format!("{}: {err}", dir.display()))?;
    write(&dir.join("src/lib.rs"), "")?;
    let manifest = dir.join("Cargo.toml");
    write(&manifest, GIT_MANIFEST)?;
    let crates = vendor(&manifest, &dir.join("crates"), &[])?;
    let (sources, checkout) = (crates.join("openssl-src/openssl"), dir.join("checkout"));
    succeed(git(&sources).args(["init", "-q", "-b", "main"]))?;
    succeed(git(&sources).args(["add", "-A", "-f"]))?;
    succeed(git(&sources).args(["commit", "-q", "-m", "all"]))?;
    succeed(git(&sources).args(["gc", "-q"]))?;
    succeed(
        git(dir)
            .args(["clone", "-q", "--no-hardlinks"])
            .arg(&sources)
            .arg(&checkout),
    )?;
    Ok(checkout)
}

fn vendor(manifest: &Path, into: &Path, options: &[&str]) -> Result<PathBuf, String> {
    let mut cargo = Command::new("cargo");
    cargo.args(["vendor", "--quiet", "--manifest-path"]).arg(manifest);
    succeed(cargo.args(options).arg(into))?;
    Ok(into.to_path_buf())
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|err| format!("{}: {err}", path.display()))
}

/// What lies below a directory, each inode once.
#[derive(Default)]
struct Sum {
    seen: HashSet<u64>,
    bytes: u64,
}

impl Sum {
    fn add(&mut self, path: &Path) -> io::Result<()> {
        let metadata = fs::symlink_metadata(path)?;
        if !self.seen.insert(metadata.ino()) {
            return Ok(());
        }
        if metadata.is_file() {
            self.bytes += metadata.len();
        }
        if metadata.is_dir() {
            for entry in fs::read_dir(path)? {
                self.add(&entry?.path())?;
            }
        }
        Ok(())
    }
}
