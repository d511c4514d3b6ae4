//! The work that is timed, each piece in an empty directory of its own.

use fs_tests::harness::run;
use fs_tests::rng::Rng;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const MIB: usize = 1 << 20;
pub(crate) const FILE_BYTES: usize = 256 * MIB;
const PAGE: usize = 4096;
const RANDOM_CALLS: usize = 20_000;
const SMALL_FILES: usize = 5000;
/// The tree's directories are 15, with 10 in each.
const TREE_PARENTS: usize = 15;
const TREE_CHILDREN: usize = 10;
const TREE_FILES: usize = 2500;

/// Something to time.
pub(crate) struct Workload<'a> {
    pub(crate) name: &'static str,
    /// How many operations a run counts as, when requests are told per operation.
    pub(crate) operations: usize,
    /// Makes what the run needs.
    pub(crate) prepare: Box<dyn Fn(&Path) + 'a>,
    /// What is timed.
    pub(crate) run: Box<dyn Fn(&Path) + 'a>,
}

/// A tree like a project's sources, as an archive and for its numbers.
pub(crate) struct Tree {
    pub(crate) archive: PathBuf,
    /// Files and directories.
    pub(crate) entries: usize,
    /// Sum of the files' lengths.
    pub(crate) bytes: u64,
}

/// All workloads.
pub(crate) fn all(tree: &Tree) -> Vec<Workload<'_>> {
    const CALLS: usize = FILE_BYTES / MIB;
    let entries = tree.entries;
    let nothing = |_: &Path| ();
    let unpack = move |dir: &Path| unpack(tree, dir);
    vec![
        workload("write 256 MiB", CALLS, nothing, write_large),
        workload("rewrite 256 MiB", CALLS, write_large, write_large),
        workload("read 256 MiB, cached", CALLS, cached_large, read_large),
        workload("read 256 MiB, cache dropped", CALLS, uncached_large, read_large),
        workload(
            "random 4 KiB reads, cached",
            RANDOM_CALLS,
            cached_large,
            read_random,
        ),
        workload(
            "random 4 KiB reads, cache dropped",
            RANDOM_CALLS,
            uncached_large,
            read_random,
        ),
        workload("random 4 KiB writes", RANDOM_CALLS, write_large, write_random),
        workload("create, write 4 KiB, close", SMALL_FILES, nothing, create_small),
        workload("stat, cached", SMALL_FILES, known_small, stat_small),
        workload("stat, cache dropped", SMALL_FILES, forgotten_small, stat_small),
        workload("open, read, close", SMALL_FILES, warm_small, read_small),
        workload("list with attributes", SMALL_FILES, create_small, list_small),
        workload("unlink", SMALL_FILES, create_small, unlink_small),
        workload("untar", entries, nothing, unpack),
        workload("git status", entries, move |dir| commit(tree, dir), git_status),
        workload("cp -r", entries, unpack, copy_tree),
        workload("rm -rf", entries, unpack, remove_tree),
    ]
}

fn workload<'a>(
    name: &'static str,
    operations: usize,
    prepare: impl Fn(&Path) + 'a,
    run: impl Fn(&Path) + 'a,
) -> Workload<'a> {
    Workload {
        name,
        operations,
        prepare: Box::new(prepare),
        run: Box::new(run),
    }
}

/// Packs a tree of random files, a quarter of a KiB to 64 KiB each, into an archive in `dir`.
pub(crate) fn make_tree(dir: &Path) -> Tree {
    let mut rng = Rng::new(1);
    let mut bytes = 0;
    for n in 0..TREE_FILES {
        let child = n / TREE_PARENTS % TREE_CHILDREN;
        let parent = dir.join(format!("tree/dir{}/sub{child}", n % TREE_PARENTS));
        fs::create_dir_all(&parent).expect("tmpfs takes a directory");
        let len = 256 << rng.below(9);
        fs::write(parent.join(format!("file{n}")), random_bytes(&mut rng, len)).expect("tmpfs takes a file");
        bytes += len as u64;
    }
    let archive = dir.join("tree.tar");
    run(Command::new("tar")
        .arg("-cf")
        .arg(&archive)
        .arg("-C")
        .arg(dir)
        .arg("tree"));
    fs::remove_dir_all(dir.join("tree")).expect("what was made can go");
    let directories = 1 + TREE_PARENTS * (1 + TREE_CHILDREN);
    Tree {
        archive,
        entries: TREE_FILES + directories,
        bytes,
    }
}

/// Random bytes, which nothing compresses.
fn random_bytes(rng: &mut Rng, len: usize) -> Vec<u8> {
    (0..len.div_ceil(8))
        .flat_map(|_| rng.bits().to_le_bytes())
        .take(len)
        .collect()
}

pub(crate) fn unpack(tree: &Tree, dir: &Path) {
    run(Command::new("tar")
        .arg("-xf")
        .arg(&tree.archive)
        .arg("-C")
        .arg(dir));
}

fn git(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .arg("-C")
        .arg(dir.join("tree"))
        .args(["-c", "user.name=a", "-c", "user.email=a@example.org"]);
    command
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stdout(Stdio::null());
    command
}

fn commit(tree: &Tree, dir: &Path) {
    unpack(tree, dir);
    run(git(dir).args(["init", "-q", "-b", "main"]));
    run(git(dir).args(["add", "-A"]));
    run(git(dir).args(["commit", "-q", "-m", "all"]));
}

fn git_status(dir: &Path) {
    run(git(dir).args(["status", "--porcelain"]));
}

fn copy_tree(dir: &Path) {
    run(Command::new("cp")
        .arg("-r")
        .arg(dir.join("tree"))
        .arg(dir.join("copy")));
}

fn remove_tree(dir: &Path) {
    run(Command::new("rm").arg("-rf").arg(dir.join("tree")));
}

/// Writes the large file from its start, in calls of a MiB; it may be there already.
pub(crate) fn write_large(dir: &Path) {
    let mut file = open_large(dir);
    // Neither zeros nor the same twice, which a filesystem might store for nothing.
    let mut bytes = random_bytes(&mut Rng::new(2), MIB);
    for call in 0..FILE_BYTES / MIB {
        bytes[..8].copy_from_slice(&call.to_le_bytes());
        file.write_all(&bytes).expect("the large file fits");
    }
}

fn open_large(dir: &Path) -> File {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    options.open(dir.join("large")).expect("the large file opens")
}

fn read_large(dir: &Path) {
    let mut file = open_large(dir);
    let mut bytes = vec![0; MIB];
    while file.read(&mut bytes).expect("the large file reads") > 0 {}
}

fn cached_large(dir: &Path) {
    write_large(dir);
    read_large(dir);
}

/// The large file, with none of it in the page cache (tmpfs is nothing else, and keeps it).
fn uncached_large(dir: &Path) {
    write_large(dir);
    let file = open_large(dir);
    file.sync_data().expect("the large file syncs");
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).expect("advice is always taken");
}

fn read_random(dir: &Path) {
    let file = open_large(dir);
    let mut page = [0; PAGE];
    for offset in random_offsets() {
        file.read_exact_at(&mut page, offset)
            .expect("the large file reads");
    }
}

fn write_random(dir: &Path) {
    let file = open_large(dir);
    let page = [0xa5; PAGE];
    for offset in random_offsets() {
        file.write_all_at(&page, offset)
            .expect("the large file takes a page");
    }
}

fn random_offsets() -> impl Iterator<Item = u64> {
    let mut rng = Rng::new(3);
    (0..RANDOM_CALLS).map(move |_| rng.below((FILE_BYTES / PAGE) as u64) * PAGE as u64)
}

fn small_files(dir: &Path) -> impl Iterator<Item = PathBuf> {
    (0..SMALL_FILES).map(move |n| dir.join(format!("small{n}")))
}

fn create_small(dir: &Path) {
    let page = [0xa5; PAGE];
    for path in small_files(dir) {
        let mut file = File::create_new(path).expect("a new name can be created");
        file.write_all(&page).expect("a page fits");
    }
}

fn stat_small(dir: &Path) {
    for path in small_files(dir) {
        fs::metadata(path).expect("the file is there");
    }
}

fn known_small(dir: &Path) {
    create_small(dir);
    stat_small(dir);
}

/// The small files, none of which the kernel remembers.
fn forgotten_small(dir: &Path) {
    create_small(dir);
    fs::write("/proc/sys/vm/drop_caches", "2").expect("root may drop caches");
}

fn read_small(dir: &Path) {
    let mut page = [0; PAGE];
    for path in small_files(dir) {
        let mut file = File::open(path).expect("the file is there");
        file.read_exact(&mut page).expect("the file holds a page");
    }
}

fn warm_small(dir: &Path) {
    create_small(dir);
    read_small(dir);
}

fn list_small(dir: &Path) {
    run(Command::new("ls").arg("-lU").arg(dir).stdout(Stdio::null()));
}

fn unlink_small(dir: &Path) {
    for path in small_files(dir) {
        fs::remove_file(path).expect("the file is there");
    }
}
