//! Reading the active state of a qcow2 file; its internal snapshots are left alone.

use super::super::disk::{Disk, Run, check_range};
use super::super::fields::damaged;
use super::super::source::Source;
use super::super::table::{TableAt, TablePiece};
use super::header::Qcow2Header;
use super::packed::{Packed, Unpacked};
use crate::error::Result;

/// Bits of an entry that hold an offset in the file.
const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
const PACKED: u64 = 1 << 62;
const ZERO: u64 = 1;

/// A qcow2 file that is read.
pub struct Qcow2 {
    source: Box<dyn Source>,
    header: Qcow2Header,
    backing: Option<Box<dyn Disk>>,
    l1: TablePiece,
    l2: TablePiece,
    unpacked: Unpacked,
}

/// Where the bytes of a cluster are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nowhere in this file.
    Below,
    Zeros,
    Plain(u64),
    Packed(Packed),
}

/// Bytes from an offset on which are in one place, one behind another.
struct Span {
    place: Place,
    end: u64,
}

impl Qcow2 {
    /// The disk of a file whose header was read, above its backing file's disk, if it is to have one. A disk below that
    /// is shorter ends in zeros.
    pub fn new(source: Box<dyn Source>, header: Qcow2Header, backing: Option<Box<dyn Disk>>) -> Self {
        Self {
            source,
            unpacked: Unpacked::new(header.packing),
            header,
            backing,
            l1: TablePiece::default(),
            l2: TablePiece::default(),
        }
    }

    fn cluster_len(&self) -> u64 {
        1 << self.header.cluster_bits
    }

    /// The span that begins at `offset`, below `end`: as far as it can be followed in one piece of a table.
    fn span(&mut self, offset: u64, end: u64) -> Result<Span> {
        let bits = self.header.cluster_bits;
        let l2_bits = bits - 3;
        let cluster = offset >> bits;
        let l1_index = cluster >> l2_bits;
        let Some(l2) = self.l2_table(l1_index)? else {
            let behind = self.empty_l1_end(l1_index, end)?;
            return Ok(Span {
                place: Place::Below,
                end: (behind << (bits + l2_bits)).min(end),
            });
        };
        let first_index = cluster & ((1 << l2_bits) - 1);
        let place = self.place(l2, first_index)?;
        let last = l2.piece_end(first_index);
        let wanted = end.div_ceil(self.cluster_len()) - cluster;
        let mut count = 1;
        while count < wanted
            && first_index + count < last
            && self.follows(place, count, l2, first_index + count)?
        {
            count += 1;
        }
        Ok(Span {
            place,
            end: ((cluster + count) << bits).min(end),
        })
    }

    /// Whether the cluster of an entry goes on where `place`, `count` clusters before it, began.
    fn follows(&mut self, place: Place, count: u64, l2: TableAt, index: u64) -> Result<bool> {
        let next = self.place(l2, index)?;
        Ok(match place {
            Place::Plain(host) => next == Place::Plain(host + (count << self.header.cluster_bits)),
            Place::Below | Place::Zeros => next == place,
            Place::Packed(_) => false,
        })
    }

    fn l2_table(&mut self, l1_index: u64) -> Result<Option<TableAt>> {
        let entry = u64::from_be_bytes(self.l1.entry(&*self.source, self.header.l1, l1_index)?);
        let offset = entry & OFFSET_MASK;
        if offset == 0 {
            return Ok(None);
        }
        self.check_aligned("L2 table", offset)?;
        Ok(Some(TableAt {
            name: "L2 table",
            offset,
            len: self.cluster_len() / 8,
        }))
    }

    /// Where the entries of the L1 table end which have no table, as far as its piece goes and the disk needs.
    fn empty_l1_end(&mut self, first: u64, end: u64) -> Result<u64> {
        let needed = end.div_ceil(1 << (2 * self.header.cluster_bits - 3));
        let last = self.header.l1.piece_end(first).min(needed);
        let mut behind = first + 1;
        while behind < last && self.l2_table(behind)?.is_none() {
            behind += 1;
        }
        Ok(behind)
    }

    fn place(&mut self, l2: TableAt, index: u64) -> Result<Place> {
        let entry = u64::from_be_bytes(self.l2.entry(&*self.source, l2, index)?);
        if entry & PACKED != 0 {
            return Ok(Place::Packed(Packed::of_entry(entry, self.header.cluster_bits)));
        }
        if entry & ZERO != 0 {
            return match self.header.version {
                2 => Err(damaged(
                    "a cluster of zeros in a file of version 2, which has none",
                )),
                _ => Ok(Place::Zeros),
            };
        }
        match entry & OFFSET_MASK {
            0 => Ok(Place::Below),
            offset => {
                self.check_aligned("cluster", offset)?;
                Ok(Place::Plain(offset))
            }
        }
    }

    fn check_aligned(&self, name: &str, offset: u64) -> Result<()> {
        if !offset.is_multiple_of(self.cluster_len()) {
            return Err(damaged(format!(
                "the {name} at {offset} is not where a cluster begins"
            )));
        }
        match offset < self.source.size() {
            true => Ok(()),
            false => Err(damaged(format!(
                "the {name} at {offset} lies behind the end of the file: was it cut short?"
            ))),
        }
    }

    /// A run of at most `len` bytes in the file, which may have holes: clusters can be there before they are written to.
    fn run_plain(&self, at: u64, len: u64) -> Result<Run> {
        let end = at + len;
        if at >= self.source.size() {
            return Ok(zeros_until(end));
        }
        let run = self.source.run(at)?;
        Ok(Run {
            end: run.end.min(end),
            ..run
        })
    }

    fn read_span(&mut self, place: Place, offset: u64, out: &mut [u8]) -> Result<()> {
        match place {
            Place::Below => read_below(self.backing.as_deref_mut(), offset, out),
            Place::Zeros => {
                out.fill(0);
                Ok(())
            }
            Place::Plain(host) => {
                let at = host + offset % self.cluster_len();
                read_padded(&*self.source, at, out)
            }
            Place::Packed(at) => {
                let cluster_len = self.cluster_len() as usize;
                let from = offset as usize % cluster_len;
                let cluster = self.unpacked.cluster(&*self.source, at, cluster_len)?;
                out.copy_from_slice(&cluster[from..from + out.len()]);
                Ok(())
            }
        }
    }
}

impl Disk for Qcow2 {
    fn size(&self) -> u64 {
        self.header.size
    }

    fn run(&mut self, offset: u64) -> Result<Run> {
        check_range(self.size(), offset, 1)?;
        let span = self.span(offset, self.size())?;
        match span.place {
            Place::Below => match &mut self.backing {
                Some(below) => run_below(&mut **below, offset, span.end),
                None => Ok(zeros_until(span.end)),
            },
            Place::Zeros => Ok(zeros_until(span.end)),
            Place::Plain(host) => {
                let at = host + offset % self.cluster_len();
                self.run_plain(at, span.end - offset).map(|run| Run {
                    end: offset + run.end - at,
                    ..run
                })
            }
            Place::Packed(_) => Ok(Run {
                end: span.end,
                is_zero: false,
            }),
        }
    }

    fn read(&mut self, mut offset: u64, mut out: &mut [u8]) -> Result<()> {
        check_range(self.size(), offset, out.len())?;
        while !out.is_empty() {
            let span = self.span(offset, offset + out.len() as u64)?;
            let (now, later) = out.split_at_mut((span.end - offset) as usize);
            self.read_span(span.place, offset, now)?;
            (offset, out) = (span.end, later);
        }
        Ok(())
    }
}

/// QEMU does not write what is behind the last byte of a file that it needed: there are zeros.
fn read_padded(source: &dyn Source, offset: u64, out: &mut [u8]) -> Result<()> {
    let len = source.size().saturating_sub(offset).min(out.len() as u64) as usize;
    out[len..].fill(0);
    match len {
        0 => Ok(()),
        len => source.read(offset, &mut out[..len]),
    }
}

fn zeros_until(end: u64) -> Run {
    Run { end, is_zero: true }
}

fn run_below(below: &mut dyn Disk, offset: u64, end: u64) -> Result<Run> {
    if offset >= below.size() {
        return Ok(zeros_until(end));
    }
    let run = below.run(offset)?;
    Ok(Run {
        end: run.end.min(end),
        ..run
    })
}

fn read_below(below: Option<&mut (dyn Disk + 'static)>, offset: u64, out: &mut [u8]) -> Result<()> {
    let Some(below) = below else {
        out.fill(0);
        return Ok(());
    };
    let len = below.size().saturating_sub(offset).min(out.len() as u64) as usize;
    out[len..].fill(0);
    match len {
        0 => Ok(()),
        len => below.read(offset, &mut out[..len]),
    }
}
