//! System calls on small files and on large ones, by one client and by two.

use super::{Measure, Workload, forget};
use crate::inputs::Sizes;
use fs_tests::bench::stream::{CALL_BYTES, Reader, Stream};
use fs_tests::bench::time;
use fs_tests::rng::Rng;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;

const PAGE: usize = 4096;

/// A thread with a directory of its own and its share of the work.
struct Client {
    number: usize,
    dir: PathBuf,
    small_files: usize,
    stream_bytes: usize,
    random_calls: usize,
}

type Step = fn(&Client);

/// What each client does, first untimed and then timed.
struct Row {
    name: &'static str,
    measure: Measure,
    operations: fn(&Sizes) -> usize,
    before: &'static [Step],
    work: Step,
}

const ROWS: [Row; 12] = [
    small("create, write 4 KiB, close", &[], create),
    small("stat, cold", &[create, forget_all], stat),
    small("open, read, close, warm", &[create, open_read], open_read),
    small("open, overwrite, close", &[create], overwrite),
    small("unlink", &[create], unlink),
    random("random 4 KiB reads", &[write, read], read_random),
    random("random 4 KiB writes", &[write], write_random),
    stream("write", &[], write),
    stream("rewrite", &[write], write),
    stream("read, warm", &[write, read], read),
    stream("read, cold", &[write, forget_all], read),
    stream("direct write", &[], write_direct),
];

const fn small(name: &'static str, before: &'static [Step], work: Step) -> Row {
    Row {
        name,
        measure: Measure::Time,
        operations: |sizes| sizes.small_files,
        before,
        work,
    }
}

const fn random(name: &'static str, before: &'static [Step], work: Step) -> Row {
    Row {
        operations: |sizes| sizes.random_calls,
        ..small(name, before, work)
    }
}

const fn stream(name: &'static str, before: &'static [Step], work: Step) -> Row {
    Row {
        measure: Measure::Speed,
        operations: |sizes| sizes.stream_bytes / CALL_BYTES,
        ..small(name, before, work)
    }
}

/// Each row with one client and with two.
pub(super) fn all(sizes: &'static Sizes) -> Vec<Workload<'static>> {
    ROWS.iter()
        .flat_map(|row| [1, 2].map(|clients| workload(row, sizes, clients)))
        .collect()
}

fn workload(row: &'static Row, sizes: &'static Sizes, clients: usize) -> Workload<'static> {
    let all = move |dir: &Path| {
        (0..clients)
            .map(|number| Client::new(dir, number, sizes, clients))
            .collect()
    };
    let name = match clients {
        1 => row.name.to_owned(),
        _ => format!("{}, {clients} clients", row.name),
    };
    Workload {
        name,
        measure: row.measure,
        clients,
        operations: (row.operations)(sizes),
        needs: None,
        prepare: Box::new(move |dir| {
            let clients: Vec<_> = all(dir);
            for client in &clients {
                fs::create_dir(&client.dir).expect("an empty directory takes another");
            }
            for step in row.before {
                clients.iter().for_each(step);
            }
        }),
        run: Box::new(move |dir| {
            let clients: Vec<_> = all(dir);
            time(|| side_by_side(&clients, row.work))
        }),
    }
}

fn side_by_side(clients: &[Client], work: Step) {
    thread::scope(|scope| {
        for client in clients {
            scope.spawn(|| work(client));
        }
    });
}

impl Client {
    fn new(dir: &Path, number: usize, sizes: &Sizes, clients: usize) -> Self {
        Self {
            number,
            dir: dir.join(format!("client{number}")),
            small_files: sizes.small_files / clients,
            stream_bytes: sizes.stream_bytes / clients,
            random_calls: sizes.random_calls / clients,
        }
    }

    fn small(&self) -> impl Iterator<Item = PathBuf> {
        (0..self.small_files).map(|n| self.dir.join(format!("small{n}")))
    }

    fn large(&self) -> PathBuf {
        self.dir.join("large")
    }

    /// The large file for reading and writing.
    fn open_large(&self) -> File {
        let file = File::options().read(true).write(true).open(self.large());
        file.expect("the large file is there")
    }

    /// The large file, which may be there already, for writing alone, as cp(1), dd(1) and tar(1) open theirs.
    fn write_large(&self, flags: i32) -> File {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let file = options.custom_flags(flags).open(self.large());
        file.expect("the large file opens")
    }

    fn write_stream(&self, flags: i32) {
        Stream::new(self.number as u64)
            .write(&self.write_large(flags), self.stream_bytes)
            .expect("the large file fits");
    }

    fn random_offsets(&self) -> impl Iterator<Item = u64> {
        let mut rng = Rng::new(3);
        let pages = (self.stream_bytes / PAGE) as u64;
        (0..self.random_calls).map(move |_| rng.below(pages) * PAGE as u64)
    }
}

fn forget_all(client: &Client) {
    forget(&client.dir);
}

fn create(client: &Client) {
    let page = [0xa5; PAGE];
    for path in client.small() {
        let mut file = File::create(path).expect("a new name can be created");
        file.write_all(&page).expect("a page fits");
    }
}

fn stat(client: &Client) {
    for path in client.small() {
        fs::metadata(path).expect("the file is there");
    }
}

fn open_read(client: &Client) {
    let mut page = [0; PAGE];
    for path in client.small() {
        let mut file = File::open(path).expect("the file is there");
        file.read_exact(&mut page).expect("the file holds a page");
    }
}

fn overwrite(client: &Client) {
    let page = [0x5a; PAGE];
    for path in client.small() {
        let mut file = File::options().write(true).open(path).expect("the file is there");
        file.write_all(&page).expect("a page fits");
    }
}

fn unlink(client: &Client) {
    for path in client.small() {
        fs::remove_file(path).expect("the file is there");
    }
}

fn read_random(client: &Client) {
    let file = client.open_large();
    let mut page = [0; PAGE];
    for offset in client.random_offsets() {
        file.read_exact_at(&mut page, offset)
            .expect("the large file reads");
    }
}

fn write_random(client: &Client) {
    let file = client.open_large();
    let page = [0xa5; PAGE];
    for offset in client.random_offsets() {
        file.write_all_at(&page, offset)
            .expect("the large file takes a page");
    }
}

fn read(client: &Client) {
    Reader::new()
        .read(&client.open_large())
        .expect("the large file reads");
}

fn write(client: &Client) {
    client.write_stream(0);
}

fn write_direct(client: &Client) {
    client.write_stream(libc::O_DIRECT);
}

/// Stores a large file in `dir`.
pub(crate) fn store_stream(sizes: &Sizes, dir: &Path) {
    let file = File::create(dir.join("large")).expect("an empty directory takes a file");
    Stream::new(0)
        .write(&file, sizes.stream_bytes)
        .expect("the large file fits");
}
