//! Ways to an image: QEMU through the file, QEMU and a client of raw bytes through NBD.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use fs_tests::nbd::{Client, command, flag};

use crate::changes::{Change, Kind, Step};

/// How steps get to an image.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    /// qemu-io on the file, past the page cache.
    File,
    /// qemu-io on the file, through the page cache.
    CachedFile,
    /// qemu-io as an NBD client.
    Nbd,
    /// The NBD client of the tests, which says exactly what it is told to.
    Client,
}

impl Way {
    pub(crate) const ALL: [Self; 4] = [Self::File, Self::CachedFile, Self::Nbd, Self::Client];
}

/// An image, by all its names.
pub(crate) struct Image {
    pub(crate) file: String,
    pub(crate) uri: String,
    pub(crate) client: Client,
}

impl Image {
    /// Does the steps, one after the other.
    pub(crate) fn apply(&mut self, way: Way, steps: &[Step]) {
        match way {
            Way::File => qemu_io(&["-t", "none", "-i", "io_uring", &self.file], steps),
            Way::CachedFile => qemu_io(&["-t", "writeback", &self.file], steps),
            Way::Nbd => qemu_io(&[&self.uri], steps),
            Way::Client => steps.iter().for_each(|step| send(&mut self.client, step)),
        }
    }
}

/// Has qemu-io do steps; it must succeed with each.
fn qemu_io(target: &[&str], steps: &[Step]) {
    let mut child = Command::new("qemu-io")
        .args(["-f", "raw", "-d", "unmap"])
        .args(target)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let script = script(steps);
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, script.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    // It prints a prompt for each line, and else nothing but complaints.
    let silent = text.replace("qemu-io> ", "").trim().is_empty() && output.stderr.is_empty();
    assert!(
        output.status.success() && silent,
        "qemu-io {target:?}: {}\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

fn script(steps: &[Step]) -> String {
    let mut script = String::new();
    for step in steps {
        let aio = matches!(step, Step::Burst(_));
        for change in step.changes() {
            command_line(&mut script, change, aio);
        }
        match step {
            Step::One(_) => {}
            Step::Burst(_) => script.push_str("aio_flush\n"),
            Step::Flush => script.push_str("flush\n"),
        }
    }
    script
}

/// There is no discard among the commands that do not wait: it is done at once.
fn command_line(script: &mut String, change: &Change, aio: bool) {
    let Change { kind, offset, len } = change;
    let write = if aio { "aio_write -q" } else { "write -q" };
    let command = match kind {
        Kind::Write { byte, fua } => format!("{write}{} -P {byte}", if *fua { " -f" } else { "" }),
        Kind::Zeroes { unmap: false } => format!("{write} -z"),
        Kind::Zeroes { unmap: true } => format!("{write} -z -u"),
        Kind::Trim => "discard -q".to_owned(),
    };
    writeln!(script, "{command} {offset} {len}").unwrap();
}

/// Requests of a burst are all sent before the first reply is read.
fn send(client: &mut Client, step: &Step) {
    if matches!(step, Step::Flush) {
        client.perform((command::FLUSH, 0), (0, 0), b"").unwrap();
    }
    let requests: Vec<_> = step
        .changes()
        .iter()
        .map(|change| {
            let (request, payload) = request(change);
            let range = (change.offset, change.len as u32);
            client.request(request, range, &payload).unwrap()
        })
        .collect();
    for cookie in requests {
        let chunks = client.reply(cookie, 0).unwrap();
        let failed = chunks
            .iter()
            .any(|chunk| chunk.kind == fs_tests::nbd::chunk::ERROR);
        assert!(!failed, "{step:?}: {chunks:?}");
    }
}

fn request(change: &Change) -> ((u16, u16), Vec<u8>) {
    match change.kind {
        Kind::Write { byte, fua } => {
            let flags = if fua { flag::FUA } else { 0 };
            ((command::WRITE, flags), change.bytes(byte))
        }
        Kind::Zeroes { unmap: false } => ((command::WRITE_ZEROES, flag::NO_HOLE), Vec::new()),
        Kind::Zeroes { unmap: true } => ((command::WRITE_ZEROES, 0), Vec::new()),
        Kind::Trim => ((command::TRIM, 0), Vec::new()),
    }
}

/// A path as the programs take it.
pub(crate) fn text(path: &Path) -> String {
    path.to_str()
        .expect("scratch directories have plain names")
        .to_owned()
}
