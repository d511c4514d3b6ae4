//! Writing a qcow2 file of version 3, from its start to its end: clusters and tables as they come, the header last.
//!
//! ```text
//! 0        64K
//! | header | clusters of table 0 | L2 table 0 | clusters … | L2 table n | L1 table | counts | table of counts |
//! ```

use super::super::disk::Writer;
use super::super::fields::put;
use super::super::kind::Format;
use super::super::source::Sink;
use super::header::{EXTENSION_BACKING_FORMAT, MAGIC, NAME_LEN_MAX};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{FILE_SIZE_MAX, QCOW2_L1_LEN_MAX};

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Entries of an L2 table, and of the table of blocks of reference counts.
const ENTRIES: u64 = CLUSTER / 8;
/// Reference counts in a block: of 16 bits each.
const COUNTS: u64 = CLUSTER / 2;
const COUNT_ORDER: u32 = 4;
/// Bytes of the header, with those that pad it.
const HEADER_LEN: usize = 112;

/// The one reference to what an entry names is this entry.
const COPIED: u64 = 1 << 63;
const ZERO: u64 = 1;

/// The backing file that the header is to name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedBacking {
    /// A path; a relative one counts from the directory of the new file.
    pub name: String,
    /// Its format.
    pub format: Format,
}

/// A qcow2 file that is written.
pub struct Qcow2Writer<S: Sink> {
    sink: S,
    size: u64,
    backing: Option<NamedBacking>,
    l1: Vec<u64>,
    /// The L2 table that is being filled, and its index.
    l2: Vec<u64>,
    l2_index: usize,
    /// The first byte behind all that was written.
    next: u64,
}

impl<S: Sink> Qcow2Writer<S> {
    /// A disk of `size` bytes, rounded up to whole sectors of 512.
    ///
    /// # Errors
    /// `FileTooBig` where the disk is too large for the format, `NameTooLong` where the name of the backing file is.
    pub fn new(sink: S, size: u64, backing: Option<NamedBacking>) -> Result<Self> {
        let l1_len = size.div_ceil(CLUSTER * ENTRIES).max(1);
        if l1_len > QCOW2_L1_LEN_MAX || size > FILE_SIZE_MAX - 511 {
            let context = format!("a disk of {size} bytes is too large for qcow2 with clusters of 64 KiB");
            return Err(Error::new(ErrorKind::FileTooBig, context));
        }
        if let Some(NamedBacking { name, .. }) = &backing
            && (name.is_empty() || name.len() > NAME_LEN_MAX as usize)
        {
            let context = format!("a backing file's name has 1 to {NAME_LEN_MAX} bytes, '{name}' has not");
            return Err(Error::new(ErrorKind::NameTooLong, context));
        }
        Ok(Self {
            sink,
            size: size.next_multiple_of(512),
            backing,
            l1: vec![0; l1_len as usize],
            l2: vec![0; ENTRIES as usize],
            l2_index: 0,
            next: CLUSTER,
        })
    }

    /// Sets the L2 entry of the cluster at an offset of the disk.
    fn set(&mut self, offset: u64, entry: u64) -> Result<()> {
        let cluster = offset / CLUSTER;
        let l2_index = (cluster / ENTRIES) as usize;
        assert!(
            l2_index >= self.l2_index,
            "the disk is written from its start to its end"
        );
        if l2_index != self.l2_index {
            self.write_l2()?;
            self.l2_index = l2_index;
        }
        self.l2[(cluster % ENTRIES) as usize] = entry;
        Ok(())
    }

    /// Writes the L2 table, unless it says nothing, and empties it.
    fn write_l2(&mut self) -> Result<()> {
        if self.l2.iter().all(|entry| *entry == 0) {
            return Ok(());
        }
        let at = self.append(&big_endian(&self.l2))?;
        self.l1[self.l2_index] = at | COPIED;
        self.l2.fill(0);
        Ok(())
    }

    /// Writes bytes where a new cluster begins, and tells where that is.
    fn append(&mut self, bytes: &[u8]) -> Result<u64> {
        let at = self.next;
        self.sink.write(at, bytes)?;
        self.next += (bytes.len() as u64).next_multiple_of(CLUSTER);
        Ok(at)
    }

    /// Writes a count of one for each cluster, those of the counts among them. Returns the place of their table, and how
    /// many clusters it takes.
    fn write_counts(&mut self) -> Result<(u64, u64)> {
        let used = self.next / CLUSTER;
        let (blocks, tables) = counts_of(used);
        let total = used + blocks + tables;
        let first = self.next;
        for block in 0..blocks {
            let counted = (total - block * COUNTS).min(COUNTS) as usize;
            self.append(&1_u16.to_be_bytes().repeat(counted))?;
        }
        let places: Vec<u64> = (0..blocks).map(|block| first + block * CLUSTER).collect();
        let at = self.append(&big_endian(&places))?;
        Ok((at, tables))
    }

    fn header(&self, l1_at: u64, counts: (u64, u64)) -> Vec<u8> {
        let mut header = vec![0; HEADER_LEN];
        put(&mut header, 0, MAGIC);
        put(&mut header, 4, 3_u32.to_be_bytes());
        put(&mut header, 20, CLUSTER_BITS.to_be_bytes());
        put(&mut header, 24, self.size.to_be_bytes());
        put(&mut header, 36, (self.l1.len() as u32).to_be_bytes());
        put(&mut header, 40, l1_at.to_be_bytes());
        put(&mut header, 48, counts.0.to_be_bytes());
        put(&mut header, 56, (counts.1 as u32).to_be_bytes());
        put(&mut header, 96, COUNT_ORDER.to_be_bytes());
        put(&mut header, 100, (HEADER_LEN as u32).to_be_bytes());
        if let Some(backing) = &self.backing {
            let format = backing.format.name().as_bytes();
            header.extend(EXTENSION_BACKING_FORMAT.to_be_bytes());
            header.extend((format.len() as u32).to_be_bytes());
            header.extend(format);
            header.resize(header.len().next_multiple_of(8), 0);
        }
        // The extension that ends them all.
        header.extend([0; 8]);
        if let Some(backing) = &self.backing {
            let at = header.len() as u64;
            put(&mut header, 8, at.to_be_bytes());
            put(&mut header, 16, (backing.name.len() as u32).to_be_bytes());
            header.extend(backing.name.as_bytes());
        }
        header
    }
}

impl<S: Sink> Writer for Qcow2Writer<S> {
    fn unit(&self) -> usize {
        CLUSTER as usize
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        assert!(offset.is_multiple_of(CLUSTER), "writes begin where clusters do");
        let first = self.append(bytes)?;
        for cluster in 0..bytes.len().div_ceil(CLUSTER as usize) as u64 {
            let at = cluster * CLUSTER;
            self.set(offset + at, (first + at) | COPIED)?;
        }
        Ok(())
    }

    fn zero(&mut self, offset: u64, len: u64) -> Result<()> {
        if self.backing.is_none() {
            return Ok(());
        }
        for cluster in 0..len.div_ceil(CLUSTER) {
            self.set(offset + cluster * CLUSTER, ZERO)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.write_l2()?;
        let l1 = big_endian(&self.l1);
        let l1_at = self.append(&l1)?;
        let counts = self.write_counts()?;
        let header = self.header(l1_at, counts);
        self.sink.write(0, &header)?;
        self.sink.set_size(self.next)
    }
}

/// Blocks of counts, and clusters of the table that names them, for so many clusters and themselves.
fn counts_of(used: u64) -> (u64, u64) {
    let (mut blocks, mut tables) = (0, 0);
    loop {
        let more = (used + blocks + tables).div_ceil(COUNTS);
        let more = (more, more.div_ceil(ENTRIES));
        if more == (blocks, tables) {
            return more;
        }
        (blocks, tables) = more;
    }
}

fn big_endian(entries: &[u64]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.to_be_bytes()).collect()
}
