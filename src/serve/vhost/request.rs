//! Requests of a guest, done on an image (virtio 1.2, 5.2.6).

use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{error, trace_span};
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_ID_BYTES, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD,
    VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
    VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};
use vm_memory::GuestMemoryMmap;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::chain::{Chain, Cursor, Fault};
use super::config::SECTOR;
use crate::error::{Error, ErrorKind};
use crate::image::Image;
use crate::limits::{IMAGE_ZERO_PIECE_MAX, VHOST_PIECE_MAX, VHOST_ZERO_MAX, VHOST_ZERO_RANGES_MAX};
use crate::range::ByteRange;

/// `struct virtio_blk_req` without data and status.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Header {
    kind: U32,
    reserved: U32,
    sector: U64,
}

const HEADER_LEN: u32 = size_of::<Header>() as u32;

/// `struct virtio_blk_discard_write_zeroes`: a range of such a request.
#[derive(FromBytes, IntoBytes, Immutable, Clone, Copy)]
#[repr(C)]
struct Zeroes {
    sector: U64,
    sectors: U32,
    flags: U32,
}

/// How a request has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome {
    /// VIRTIO_BLK_S_*.
    pub(super) status: u8,
    /// Bytes that were written to the guest's memory from the first place for data on, the status among them.
    pub(super) written: u32,
}

/// Why a request is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// It cannot be done, or has failed.
    Failed,
    /// It is nothing that this disk knows.
    Unknown,
    /// The disk's service ends: it is for another one to do, from its beginning.
    Cut,
}

impl From<Fault> for Refusal {
    fn from(_: Fault) -> Self {
        Self::Failed
    }
}

/// An image that a guest uses.
pub(super) struct Device {
    name: String,
    image: Image,
    /// Sectors that the image had when the VMM connected.
    capacity: u64,
    id: [u8; VIRTIO_BLK_ID_BYTES as usize],
    /// Set when this device may not change anything any more, the guest's memory included.
    closing: AtomicBool,
    /// Set when the operator has been told of the image: a guest could fill the log else.
    was_reported: AtomicBool,
}

/// Memory of a queue, used by one request after the other.
#[derive(Default)]
pub(super) struct Buffer(Vec<u8>);

impl Device {
    pub(super) fn new(image: Image, name: &str) -> Self {
        let mut id = [0; VIRTIO_BLK_ID_BYTES as usize];
        let len = name.len().min(id.len());
        id[..len].copy_from_slice(&name.as_bytes()[..len]);
        Self {
            name: name.into(),
            capacity: image.size() / SECTOR,
            image,
            id,
            closing: AtomicBool::new(false),
            was_reported: AtomicBool::new(false),
        }
    }

    /// Cuts requests off, those under way before their next piece.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    fn go_on(&self) -> Result<(), Refusal> {
        match self.is_closing() {
            true => Err(Refusal::Cut),
            false => Ok(()),
        }
    }

    /// The image's.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// In sectors.
    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    pub(super) fn read_only(&self) -> bool {
        self.image.read_only()
    }

    /// Does a request; the caller hands status and length to the guest. `None` where it is cut off: the guest must not
    /// hear of it, so that its VMM has it done by whoever serves the disk next.
    pub(super) fn perform(
        &self,
        memory: &GuestMemoryMmap,
        chain: &Chain,
        buffer: &mut Buffer,
    ) -> Option<Outcome> {
        let mut request = Request {
            device: self,
            input: chain.readable.cursor(memory),
            input_len: chain.readable.len(),
            output: chain.writable.cursor(memory),
            output_len: chain.writable.len(),
            written: 0,
            buffer,
        };
        let done = match chain.in_memory {
            true => request.perform(),
            false => Err(Refusal::Failed),
        };
        // The status is behind the places for data: only where these are full it belongs to what was written.
        let status_len = u32::from(request.written == request.output_len);
        // Also one that was done, or has failed, while the service ended.
        let status = match self.go_on().and(done) {
            Ok(()) => VIRTIO_BLK_S_OK,
            Err(Refusal::Failed) => VIRTIO_BLK_S_IOERR,
            Err(Refusal::Unknown) => VIRTIO_BLK_S_UNSUPP,
            Err(Refusal::Cut) => return None,
        };
        Some(Outcome {
            status: status as u8,
            written: request.written + status_len,
        })
    }

    /// Damage and refused memory are the operator's concern too, so the first of it is logged.
    fn failed(&self, error: &Error) -> Refusal {
        if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NoMemory)
            && !self.was_reported.swap(true, Ordering::AcqRel)
        {
            error!("disk {}: {error}", self.name);
        }
        Refusal::Failed
    }

    /// The bytes of so many sectors, all of them on the disk.
    fn range(&self, sector: u64, sectors: u64) -> Result<ByteRange, Refusal> {
        let end = sector.checked_add(sectors).ok_or(Refusal::Failed)?;
        if end > self.capacity {
            return Err(Refusal::Failed);
        }
        Ok(ByteRange {
            start: sector * SECTOR,
            end: end * SECTOR,
        })
    }
}

/// A request under way.
struct Request<'r> {
    device: &'r Device,
    input: Cursor<'r>,
    input_len: u32,
    output: Cursor<'r>,
    output_len: u32,
    /// Bytes of data that were written to the guest's memory.
    written: u32,
    buffer: &'r mut Buffer,
}

impl Request<'_> {
    fn perform(&mut self) -> Result<(), Refusal> {
        let mut header = Header::new_zeroed();
        self.input.read(header.as_mut_bytes())?;
        let (kind, sector) = (header.kind.get(), header.sector.get());
        let _span = trace_span!("virtio-blk", kind, sector).entered();
        match kind {
            VIRTIO_BLK_T_IN => self.read(sector),
            VIRTIO_BLK_T_OUT => self.write(sector),
            // The drive is memory: it is as safe as it will be.
            VIRTIO_BLK_T_FLUSH => Ok(()),
            VIRTIO_BLK_T_GET_ID => self.get_id(),
            VIRTIO_BLK_T_DISCARD => self.zero(Zeroing::Discard),
            VIRTIO_BLK_T_WRITE_ZEROES => self.zero(Zeroing::Write),
            _ => Err(Refusal::Unknown),
        }
    }

    fn read(&mut self, sector: u64) -> Result<(), Refusal> {
        for piece in self.data_range(sector, self.output_len)?.pieces(PIECE) {
            let bytes = self.buffer.room(piece.len() as usize);
            let device = self.device;
            let read = device.image.read(piece.start, bytes);
            read.map_err(|error| device.failed(&error))?;
            device.go_on()?;
            self.output.write(bytes)?;
            self.written += bytes.len() as u32;
        }
        Ok(())
    }

    /// Others are told before the guest is, also of a change that was cut short.
    fn write(&mut self, sector: u64) -> Result<(), Refusal> {
        let range = self.data_range(sector, self.input_len - HEADER_LEN)?;
        self.permit_changes()?;
        let written = range.pieces(PIECE).try_for_each(|piece| self.write_piece(piece));
        self.device.image.tell_changed(range);
        written
    }

    fn write_piece(&mut self, piece: ByteRange) -> Result<(), Refusal> {
        let bytes = self.buffer.room(piece.len() as usize);
        self.input.read(bytes)?;
        // The guest's memory may have kept this waiting, so that it is asked only now.
        let device = self.device;
        device.go_on()?;
        let written = device.image.write(piece.start, bytes);
        written.map_err(|error| device.failed(&error))
    }

    fn get_id(&mut self) -> Result<(), Refusal> {
        let id = &self.device.id;
        let len = id.len().min(self.output_len as usize);
        self.output.write(&id[..len])?;
        self.written = len as u32;
        Ok(())
    }

    /// Makes ranges zeros. Nothing is done unless all of them are fine.
    fn zero(&mut self, how: Zeroing) -> Result<(), Refusal> {
        self.permit_changes()?;
        let len = (self.input_len - HEADER_LEN) as usize;
        let count = len / size_of::<Zeroes>();
        if !len.is_multiple_of(size_of::<Zeroes>()) || !(1..=VHOST_ZERO_RANGES_MAX).contains(&count) {
            return Err(Refusal::Failed);
        }
        let mut wanted = [Zeroes::new_zeroed(); VHOST_ZERO_RANGES_MAX];
        let wanted = &mut wanted[..count];
        self.input.read(wanted.as_mut_bytes())?;
        for zeroes in &*wanted {
            how.permit(zeroes.flags.get())?;
            self.zeroed(zeroes)?;
        }
        for zeroes in &*wanted {
            let keep = how.keeps(zeroes.flags.get());
            for piece in self.zeroed(zeroes)?.pieces(IMAGE_ZERO_PIECE_MAX) {
                let device = self.device;
                device.go_on()?;
                let done = device.image.zero(piece, keep);
                done.map_err(|error| device.failed(&error))?;
            }
        }
        Ok(())
    }

    fn zeroed(&self, zeroes: &Zeroes) -> Result<ByteRange, Refusal> {
        let range = self
            .device
            .range(zeroes.sector.get(), zeroes.sectors.get().into())?;
        match range.len() <= VHOST_ZERO_MAX {
            true => Ok(range),
            false => Err(Refusal::Failed),
        }
    }

    /// Where the data of a read or write lie on the disk.
    fn data_range(&self, sector: u64, len: u32) -> Result<ByteRange, Refusal> {
        let len = u64::from(len);
        match len.is_multiple_of(SECTOR) {
            true => self.device.range(sector, len / SECTOR),
            false => Err(Refusal::Failed),
        }
    }

    fn permit_changes(&self) -> Result<(), Refusal> {
        match self.device.read_only() {
            true => Err(Refusal::Failed),
            false => Ok(()),
        }
    }
}

const PIECE: u64 = VHOST_PIECE_MAX as u64;

impl Buffer {
    /// `len` bytes, at most `VHOST_PIECE_MAX`, with anything in them.
    fn room(&mut self, len: usize) -> &mut [u8] {
        if self.0.len() < len {
            self.0.resize(len, 0);
        }
        &mut self.0[..len]
    }
}

/// Requests for zeros.
#[derive(Clone, Copy)]
enum Zeroing {
    Discard,
    Write,
}

impl Zeroing {
    fn permit(self, flags: u32) -> Result<(), Refusal> {
        let known = match self {
            Self::Discard => 0,
            Self::Write => VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
        };
        match flags & !known {
            0 => Ok(()),
            _ => Err(Refusal::Unknown),
        }
    }

    /// Whether the memory stays.
    fn keeps(self, flags: u32) -> bool {
        matches!(self, Self::Write) && flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP == 0
    }
}
