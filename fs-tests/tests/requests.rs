//! Requests that an operation costs, exactly: the same over both transports, and as docs/performance.md tells.
//!
//! Each row is done [`TIMES`] times in a directory of its own (so that `okapi stat`, which looks at the root, costs
//! nothing), and its requests divide evenly. FORGET is not counted: it is no part of an operation, for the kernel
//! sends it when it likes, many at a time, and waits for no answer.

#![allow(clippy::unwrap_used)] // a test that cannot go on fails

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use fs_tests::harness::{Drive, Place};
use nix::mount::{MsFlags, mount};

const TIMES: u64 = 10;
const PAGE: &[u8] = &[7; 4096];

/// An operation, the requests of each time, and why they are sent.
type Row = (&'static str, &'static str, &'static str);

/// `default_permissions` has the kernel look at the mode of each directory on the way. A change of a directory makes
/// it forget that directory's attributes, so the next operation there begins with a GETATTR: "the parent's".
const ROWS: &[Row] = &[
    (
        "create, write 4 KiB, close (O_WRONLY)",
        "getattr, getxattr, lookup, mknod, write",
        "the name is looked up; the parent's attributes; security.capability before the first write",
    ),
    (
        "create, write 4 KiB, close (O_RDWR)",
        "getattr, getxattr, lookup, mknod, write",
        "the same",
    ),
    (
        "mkdir",
        "getattr, lookup, mkdir",
        "the name is looked up; the parent's attributes",
    ),
    (
        "symlink",
        "getattr, lookup, symlink",
        "the name is looked up; the parent's attributes",
    ),
    (
        "readlink, first",
        "lookup, readlink",
        "the name is not known; the target is kept",
    ),
    ("readlink, again", "none", "name and target are known"),
    (
        "open, read 4 KiB, close, first",
        "none",
        "opening asks nothing; the write has left its page behind",
    ),
    ("open, read 4 KiB, close, again", "none", "the page is kept"),
    (
        "open, overwrite 4 KiB, close, first",
        "write",
        "the absence of security.capability is remembered from the first write",
    ),
    (
        "open, overwrite 4 KiB, close, again",
        "write",
        "each write reaches okapi, so that it can fail",
    ),
    ("stat after a write", "getattr", "times and blocks have changed"),
    (
        "open, read 4 KiB, close, after an overwrite",
        "none",
        "the write has left its page behind",
    ),
    (
        "truncate",
        "getxattr, setattr",
        "security.capability, which this change has to remove",
    ),
    (
        "open with O_TRUNC, close",
        "getxattr, setattr",
        "the truncation; opening asks nothing",
    ),
    (
        "append 4 KiB",
        "getxattr, write",
        "security.capability anew, for the truncation was a change of attributes; the kernel knows the length",
    ),
    (
        "open, read 4 KiB with O_DIRECT, close",
        "read",
        "what O_DIRECT is for",
    ),
    (
        "write 1 MiB",
        "write",
        "the largest request, where the buffer begins at a page",
    ),
    ("stat, cold", "lookup", "the answer has the attributes"),
    (
        "stat, warm",
        "none",
        "names and attributes are kept until they change",
    ),
    ("stat of a missing name, first", "lookup", ""),
    ("stat of a missing name, again", "none", "the absence is kept too"),
    ("chmod", "setattr", "the answer has the attributes"),
    (
        "rename",
        "getattr, lookup, rename",
        "the new name is looked up; the parent's attributes",
    ),
    ("rename over a file", "getattr, lookup, rename", "the same"),
    (
        "link",
        "getattr, link, lookup",
        "the new name is looked up; the parent's attributes",
    ),
    ("unlink", "getattr, unlink", "the parent's attributes"),
    ("rmdir", "getattr, rmdir", "the parent's attributes"),
    (
        "list 1,000 names, cold",
        "lookup, readdir 2, readdirplus",
        "the directory's name; attributes come with the first part, as the kernel expects to be asked for them",
    ),
    (
        "list 1,000 names with attributes, cold",
        "lookup, readdirplus 4",
        "the directory's name; the entries bring their attributes",
    ),
    (
        "list 1,000 names, again",
        "getattr",
        "the directory's access time; the entries are kept",
    ),
    (
        "list 1,000 names with attributes, again",
        "none",
        "entries, names and attributes are kept",
    ),
    (
        "copy with copy_file_range",
        "copy_file_range, getattr, getxattr, lookup, mknod, setattr",
        "as for a new file, security.capability of the target, its mode",
    ),
    (
        "rm -r of a directory with 100 files",
        "getattr 100, readdirplus 2, rmdir, unlink 100",
        "each file as by unlink, without the first file's GETATTR",
    ),
];

struct Counted<'d> {
    drive: &'d Drive,
    found: Vec<(&'static str, String)>,
}

impl Counted<'_> {
    fn requests(&self) -> BTreeMap<String, u64> {
        let stat = self.drive.stat();
        let requests = stat["requests"].as_object().expect("requests by name");
        requests
            .iter()
            .filter(|(name, _)| *name != "forget")
            .map(|(name, count)| (name.clone(), count.as_u64().expect("a number")))
            .collect()
    }

    /// Does something that counts as `times` operations, and notes what each cost.
    fn note(&mut self, name: &'static str, times: u64, work: impl FnOnce()) {
        let before = self.requests();
        work();
        let each: Vec<String> = self
            .requests()
            .iter()
            .map(|(request, count)| (request, count - before.get(request).unwrap_or(&0)))
            .filter(|(_, count)| *count > 0)
            .map(|(request, count)| {
                if count % times != 0 {
                    return format!("{request} {count}/{times}");
                }
                match count / times {
                    1 => request.clone(),
                    each => format!("{request} {each}"),
                }
            })
            .collect();
        let each = if each.is_empty() {
            "none".to_owned()
        } else {
            each.join(", ")
        };
        self.found.push((name, each));
    }

    /// Does something [`TIMES`] times, with the number of the time.
    fn each(&mut self, name: &'static str, mut work: impl FnMut(u64)) {
        self.note(name, TIMES, || (0..TIMES).for_each(&mut work));
    }

    /// Makes the kernel forget the drive's names, and those of no other filesystem: remounting does that.
    fn forget_names(&self) {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(None::<&str>, self.drive.path(), None::<&str>, flags, None::<&str>).unwrap();
        // the root's attributes, which `okapi stat` and the first step of each path need
        fs::metadata(self.drive.path()).unwrap();
    }
}

/// Makes directory `name`, with the file `inside` that makes its attributes as old as those of a directory in use.
fn directory(drive: &Drive, name: &str) -> PathBuf {
    let path = drive.path().join(name);
    fs::create_dir(&path).unwrap();
    File::create(path.join("inside")).unwrap();
    path
}

fn numbered(dir: &Path, n: u64) -> PathBuf {
    dir.join(format!("file{n}"))
}

fn files(dir: &Path, count: u64) {
    for n in 0..count {
        fs::write(numbered(dir, n), PAGE).unwrap();
    }
}

fn read_all(path: &Path) {
    let mut bytes = [0; 4096];
    File::open(path).unwrap().read_exact(&mut bytes).unwrap();
}

fn overwrite(path: &Path) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(PAGE, 0).unwrap();
}

fn count(drive: &Drive) -> Vec<(&'static str, String)> {
    let mut counted = Counted {
        drive,
        found: Vec::new(),
    };
    // its first requests teach the kernel which ones okapi does not have
    let first = directory(drive, "first");
    files(&first, 1);
    read_all(&numbered(&first, 0));
    fs::read_dir(&first).unwrap();
    counted.note("nothing", TIMES, || ());
    assert_eq!(counted.found.pop().unwrap().1, "none", "counting costs nothing");
    making(&mut counted);
    reading_and_writing(&mut counted);
    attributes(&mut counted);
    names(&mut counted);
    directories(&mut counted);
    whole_trees(&mut counted);
    counted.found
}

fn making(counted: &mut Counted<'_>) {
    let dir = directory(counted.drive, "making");
    let mut create = |name, read| {
        counted.each(name, |n| {
            let path = dir.join(format!("{read}{n}"));
            let file = OpenOptions::new()
                .read(read)
                .write(true)
                .create_new(true)
                .open(path)
                .unwrap();
            file.write_all_at(PAGE, 0).unwrap();
        });
    };
    create("create, write 4 KiB, close (O_WRONLY)", false);
    create("create, write 4 KiB, close (O_RDWR)", true);
    counted.each("mkdir", |n| fs::create_dir(dir.join(format!("dir{n}"))).unwrap());
    counted.each("symlink", |n| {
        symlink("target", dir.join(format!("link{n}"))).unwrap()
    });
    counted.forget_names();
    fs::metadata(&dir).unwrap();
    counted.each("readlink, first", |n| {
        drop(fs::read_link(dir.join(format!("link{n}"))).unwrap())
    });
    counted.each("readlink, again", |n| {
        drop(fs::read_link(dir.join(format!("link{n}"))).unwrap())
    });
}

fn reading_and_writing(counted: &mut Counted<'_>) {
    let dir = directory(counted.drive, "bytes");
    files(&dir, TIMES);
    fs::metadata(&dir).unwrap();
    counted.each("open, read 4 KiB, close, first", |n| read_all(&numbered(&dir, n)));
    counted.each("open, read 4 KiB, close, again", |n| read_all(&numbered(&dir, n)));
    counted.each("open, overwrite 4 KiB, close, first", |n| {
        overwrite(&numbered(&dir, n))
    });
    counted.each("open, overwrite 4 KiB, close, again", |n| {
        overwrite(&numbered(&dir, n))
    });
    counted.each("stat after a write", |n| {
        assert!(fs::metadata(numbered(&dir, n)).is_ok())
    });
    counted.each("open, read 4 KiB, close, after an overwrite", |n| {
        read_all(&numbered(&dir, n))
    });
    counted.each("truncate", |n| {
        OpenOptions::new()
            .write(true)
            .open(numbered(&dir, n))
            .unwrap()
            .set_len(100)
            .unwrap();
    });
    counted.each("open with O_TRUNC, close", |n| {
        OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(numbered(&dir, n))
            .unwrap();
    });
    counted.each("append 4 KiB", |n| {
        let file = OpenOptions::new().append(true).open(numbered(&dir, n)).unwrap();
        std::io::Write::write_all(&mut &file, PAGE).unwrap();
    });
    counted.each("open, read 4 KiB with O_DIRECT, close", |n| {
        let mut aligned = vec![0; 8192];
        let start = aligned.as_ptr().align_offset(4096);
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECT)
            .open(numbered(&dir, n))
            .unwrap();
        assert_eq!(file.read_at(&mut aligned[start..start + 4096], 0).unwrap(), 4096);
    });
    let file = File::create(dir.join("large")).unwrap();
    let bytes = vec![1; (8 << 20) + 4096];
    let start = bytes.as_ptr().align_offset(4096);
    let bytes = &bytes[start..start + (8 << 20)];
    // what the first write to a file asks for belongs to that alone
    file.write_all_at(b"x", 0).unwrap();
    counted.note("write 1 MiB", 8, || file.write_all_at(bytes, 0).unwrap());
}

fn attributes(counted: &mut Counted<'_>) {
    let dir = directory(counted.drive, "attributes");
    files(&dir, TIMES);
    counted.forget_names();
    fs::metadata(&dir).unwrap();
    counted.each("stat, cold", |n| assert!(fs::metadata(numbered(&dir, n)).is_ok()));
    counted.each("stat, warm", |n| assert!(fs::metadata(numbered(&dir, n)).is_ok()));
    counted.each("stat of a missing name, first", |n| {
        drop(fs::metadata(dir.join(format!("none{n}"))).unwrap_err())
    });
    counted.each("stat of a missing name, again", |n| {
        drop(fs::metadata(dir.join(format!("none{n}"))).unwrap_err())
    });
    counted.each("chmod", |n| {
        fs::set_permissions(
            numbered(&dir, n),
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )
        .unwrap();
    });
}

fn names(counted: &mut Counted<'_>) {
    let dir = directory(counted.drive, "names");
    files(&dir, 2 * TIMES);
    counted.each("rename", |n| {
        fs::rename(numbered(&dir, n), dir.join(format!("new{n}"))).unwrap()
    });
    counted.each("rename over a file", |n| {
        fs::rename(dir.join(format!("new{n}")), numbered(&dir, TIMES + n)).unwrap();
    });
    counted.each("link", |n| {
        fs::hard_link(numbered(&dir, TIMES + n), numbered(&dir, n)).unwrap()
    });
    counted.each("unlink", |n| fs::remove_file(numbered(&dir, n)).unwrap());
    for n in 0..TIMES {
        fs::create_dir(numbered(&dir, n)).unwrap();
    }
    counted.each("rmdir", |n| fs::remove_dir(numbered(&dir, n)).unwrap());
}

fn directories(counted: &mut Counted<'_>) {
    let dir = directory(counted.drive, "thousand");
    for n in 0..999 {
        File::create(numbered(&dir, n)).unwrap();
    }
    let list = |attributes: bool| {
        let entries = fs::read_dir(&dir).unwrap().map(Result::unwrap);
        let count = entries
            .inspect(|entry| assert!(!attributes || entry.metadata().is_ok()))
            .count();
        assert_eq!(count, 1000);
    };
    counted.forget_names();
    counted.note("list 1,000 names, cold", 1, || list(false));
    counted.forget_names();
    counted.note("list 1,000 names with attributes, cold", 1, || list(true));
    counted.note("list 1,000 names, again", 1, || list(false));
    counted.note("list 1,000 names with attributes, again", 1, || list(true));
}

fn whole_trees(counted: &mut Counted<'_>) {
    let dir = directory(counted.drive, "trees");
    files(&dir, 1);
    // the source's attributes are known, those of the parent are not, as after any change
    fs::metadata(numbered(&dir, 0)).unwrap();
    File::create(dir.join("change")).unwrap();
    counted.each("copy with copy_file_range", |n| {
        assert_eq!(
            fs::copy(numbered(&dir, 0), dir.join(format!("copy{n}"))).unwrap(),
            4096
        );
    });
    let tree = dir.join("tree");
    fs::create_dir(&tree).unwrap();
    files(&tree, 100);
    counted.note("rm -r of a directory with 100 files", 1, || {
        fs::remove_dir_all(&tree).unwrap()
    });
}

#[test]
fn each_operation_costs_these_requests_over_both_transports() {
    for transport in ["uring", "classic"] {
        let drive = Drive::mount(&["--size", "64M", "--transport", transport]);
        let found = count(&drive);
        drive.check();
        drive.unmount();
        let expected: Vec<_> = ROWS.iter().map(|row| (row.0, row.1.to_owned())).collect();
        let other: Vec<_> = found.iter().filter(|row| !expected.contains(row)).collect();
        assert!(other.is_empty(), "over {transport} it is {other:#?}");
        assert_eq!(found.len(), expected.len());
    }
}

#[test]
fn the_document_has_the_same_table() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/performance.md");
    let document = fs::read_to_string(document).unwrap();
    let table: String = ROWS
        .iter()
        .map(|(name, requests, why)| format!("| {name} | {requests} | {why} |\n"))
        .collect();
    assert!(
        document.contains(&table),
        "docs/performance.md shall have these rows:\n{table}"
    );
}
