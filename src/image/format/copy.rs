//! Copying a disk from one format to another: what is zeros, or as in the disk below, is left out.

use std::io::{self, Read};

use super::disk::{Disk, Run, Writer};
use super::source::Sink;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{COPY_PIECE, PAGE_SIZE};

const ZEROS: [u8; PAGE_SIZE as usize] = [0; PAGE_SIZE as usize];

/// Is told how far a copy has come, in bytes of the disk, and stops it by an error.
pub type Progress<'p> = dyn FnMut(u64) -> Result<()> + 'p;

/// Copies a disk, or what of it differs from `base`, the disk that will be below the new one; where that is shorter it
/// counts as zeros.
///
/// # Errors
/// As the disks and `writer` fail, and as `progress` says.
pub fn copy(
    disk: &mut dyn Disk,
    mut base: Option<&mut dyn Disk>,
    writer: &mut dyn Writer,
    progress: &mut Progress<'_>,
) -> Result<()> {
    let (size, unit) = (disk.size(), writer.unit() as u64);
    let mut piece = Piece::default();
    let mut at = 0;
    while at < size {
        progress(at)?;
        let run = common_run(disk, &mut base, at)?;
        if run.is_zero {
            at = run.end;
            continue;
        }
        let start = at - at % unit;
        let limit = (start + COPY_PIECE as u64).min(size);
        let mut end = run.end;
        while end < limit {
            let next = common_run(disk, &mut base, end)?;
            if next.is_zero {
                break;
            }
            end = next.end;
        }
        at = end.next_multiple_of(unit).min(limit);
        piece.read(disk, &mut base, start, at)?;
        piece.write(start, writer)?;
    }
    writer.finish()?;
    progress(size)
}

/// Copies what is read from a stream to its end, as a raw disk. Returns its size in bytes.
///
/// # Errors
/// As the streams fail, and as `progress` says.
pub fn copy_stream(input: &mut dyn Read, sink: &mut dyn Sink, progress: &mut Progress<'_>) -> Result<u64> {
    let mut bytes = vec![0; COPY_PIECE];
    let mut size = 0;
    loop {
        let len = read_full(input, &mut bytes)?;
        for (is_zero, range) in groups(&bytes[..len], PAGE_SIZE as usize, is_zeros) {
            if !is_zero {
                sink.write(size + range.start as u64, &bytes[range])?;
            }
        }
        size += len as u64;
        progress(size)?;
        if len < bytes.len() {
            sink.set_size(size)?;
            return Ok(size);
        }
    }
}

/// The bytes of a range, and those that are below them.
#[derive(Default)]
struct Piece {
    bytes: Vec<u8>,
    below: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Same,
    Zeros,
    Changed,
}

impl Piece {
    fn read(
        &mut self,
        disk: &mut dyn Disk,
        base: &mut Option<&mut dyn Disk>,
        start: u64,
        end: u64,
    ) -> Result<()> {
        let len = (end - start) as usize;
        self.bytes.resize(len, 0);
        disk.read(start, &mut self.bytes)?;
        self.below.clear();
        if let Some(base) = base {
            let there = base.size().saturating_sub(start).min(len as u64) as usize;
            self.below.resize(there, 0);
            base.read(start.min(base.size()), &mut self.below)?;
        }
        self.below.resize(len, 0);
        Ok(())
    }

    fn write(&self, start: u64, writer: &mut dyn Writer) -> Result<()> {
        let len = writer.unit();
        let mut below = self.below.chunks(len);
        let kind = |unit: &[u8]| match below.next() {
            Some(same) if same == unit => Unit::Same,
            _ if is_zeros(unit) => Unit::Zeros,
            _ => Unit::Changed,
        };
        for (kind, range) in groups(&self.bytes, len, kind) {
            let offset = start + range.start as u64;
            match kind {
                Unit::Same => (),
                Unit::Zeros => writer.zero(offset, range.len() as u64)?,
                Unit::Changed => writer.write(offset, &self.bytes[range])?,
            }
        }
        Ok(())
    }
}

/// The longest ranges of units of one kind.
fn groups<K: PartialEq>(
    bytes: &[u8],
    unit: usize,
    mut kind: impl FnMut(&[u8]) -> K,
) -> Vec<(K, std::ops::Range<usize>)> {
    let mut groups: Vec<(K, std::ops::Range<usize>)> = Vec::new();
    let mut start = 0;
    for chunk in bytes.chunks(unit) {
        let (kind, end) = (kind(chunk), start + chunk.len());
        match groups.last_mut() {
            Some((last, range)) if *last == kind => range.end = end,
            _ => groups.push((kind, start..end)),
        }
        start = end;
    }
    groups
}

/// The run at an offset, zeros where both disks have them.
fn common_run(disk: &mut dyn Disk, base: &mut Option<&mut dyn Disk>, at: u64) -> Result<Run> {
    let run = disk.run(at)?;
    let below = match base {
        Some(base) if at < base.size() => base.run(at)?,
        _ => return Ok(run),
    };
    Ok(Run {
        end: run.end.min(below.end),
        is_zero: run.is_zero && below.is_zero,
    })
}

fn is_zeros(bytes: &[u8]) -> bool {
    bytes.chunks(ZEROS.len()).all(|page| *page == ZEROS[..page.len()])
}

/// Reads until the buffer is full or the stream ends.
fn read_full(input: &mut dyn Read, out: &mut [u8]) -> Result<usize> {
    let mut len = 0;
    while len < out.len() {
        match input.read(&mut out[len..]) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(source) => {
                return Err(Error::new(ErrorKind::Corrupt, "cannot read the stream").with_source(source));
            }
        }
    }
    Ok(len)
}
