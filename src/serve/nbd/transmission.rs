//! Requests after the handshake: read, done, and answered in the order in which they come.
//!
//! Requests that have come together are answered together, with one system call. What a client reads or writes is moved
//! in pieces, so that a connection's memory does not grow with the length of its requests.

#[cfg(test)]
mod tests;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::trace_span;

use super::handshake::Agreed;
use super::parse::{Command, Request, Terms};
use super::protocol::{
    ALLOCATION_ID, Code, DIFFERENCE_ID, STATE_DIFFERS, STATE_HOLE_ZERO, chunk, command_flag,
};
use super::reply::Outbox;
use crate::image::Image;
use crate::limits::{NBD_HOLE_STEP, NBD_PIECE_MAX, NBD_READ_AHEAD, NBD_REQUEST_MAX, NBD_RUNS_MAX};
use crate::range::ByteRange;

const PIECE: u64 = NBD_PIECE_MAX as u64;

/// Lengths and states, from a request's offset on.
type Runs = Vec<(u32, u32)>;

/// The requests of one connection.
pub(super) struct Transmission<'c, R, W> {
    input: BufReader<R>,
    output: W,
    outbox: Outbox,
    image: Image,
    /// What the image is compared with, where that was agreed.
    base: Option<Image>,
    terms: Terms,
    /// Set when the export ends: what comes then is refused.
    closing: &'c AtomicBool,
}

impl<'c, R: Read, W: Write> Transmission<'c, R, W> {
    pub(super) fn new(input: R, output: W, agreed: Agreed, closing: &'c AtomicBool) -> Self {
        Self {
            input: BufReader::with_capacity(NBD_READ_AHEAD, input),
            output,
            outbox: Outbox::default(),
            image: agreed.image,
            base: agreed.base,
            terms: agreed.terms,
            closing,
        }
    }

    /// Serves until the client leaves.
    ///
    /// # Errors
    /// Those of the connection, and `InvalidData` where the client does not keep to the protocol.
    pub(super) fn run(mut self) -> io::Result<()> {
        while let Some(request) = self.next()? {
            let _span = trace_span!("nbd", command = ?request.command, request.offset, request.len).entered();
            if request.command == Command::Disconnect {
                break;
            }
            self.answer(&request)?;
        }
        self.flush()
    }

    /// The next request; `None` where the client has closed the connection.
    fn next(&mut self) -> io::Result<Option<Request>> {
        if self.input.buffer().len() < Request::LEN {
            // It may be long until there is more: nobody shall wait for an answer meanwhile.
            self.flush()?;
            if self.input.fill_buf()?.is_empty() {
                return Ok(None);
            }
        }
        let mut bytes = [0; Request::LEN];
        self.input.read_exact(&mut bytes)?;
        let request = Request::parse(&bytes).map_err(|_| malformed())?;
        // So long a payload is not worth reading, and without that there is no next request.
        if request.payload_len() > NBD_REQUEST_MAX {
            return Err(malformed());
        }
        Ok(Some(request))
    }

    fn answer(&mut self, request: &Request) -> io::Result<()> {
        if let Err(code) = self.permit(request) {
            self.skip(request.payload_len())?;
            return self.refuse(request, code);
        }
        match request.command {
            Command::Read => self.read(request),
            Command::Write => self.write(request),
            Command::Trim | Command::WriteZeroes => {
                let done = self.zero(request);
                self.conclude(request, done)
            }
            Command::BlockStatus => self.block_status(request),
            // The drive is memory: it is as safe as it will be.
            Command::Flush | Command::Disconnect => self.conclude(request, Ok(())),
            Command::Unknown => self.refuse(request, Code::Invalid),
        }
    }

    fn permit(&self, request: &Request) -> Result<(), Code> {
        match self.closing.load(Ordering::Acquire) {
            true => Err(Code::Shutdown),
            false => request.permit(&self.terms),
        }
    }

    // Reading ---------------------------------------------------------------------------------------------------

    fn read(&mut self, request: &Request) -> io::Result<()> {
        if !self.terms.structured {
            return self.read_whole(request);
        }
        if request.len == 0 {
            return self.conclude(request, Ok(()));
        }
        match request.len >= NBD_HOLE_STEP && !request.has(command_flag::DF) {
            true => self.read_runs(request),
            false => self.read_whole(request),
        }
    }

    /// All bytes behind one head. What fails after the first piece can be told only by an error behind the bytes, or,
    /// in a simple reply, by hanging up.
    fn read_whole(&mut self, request: &Request) -> io::Result<()> {
        let range = range_of(request);
        let in_one = range.len() <= PIECE;
        self.make_room(len_of(range).min(NBD_PIECE_MAX))?;
        let start = self.outbox.len();
        match self.terms.structured {
            true => self
                .outbox
                .data_chunk(request, (request.offset, request.len), in_one),
            false => self.outbox.simple(request, None),
        }
        let mut failed = None;
        for piece in pieces(range) {
            let is_first = piece.start == range.start;
            if !is_first {
                self.make_room(len_of(piece))?;
            }
            let room = self.outbox.room(len_of(piece));
            let Err(error) = self.image.read(piece.start, room) else {
                continue;
            };
            room.fill(0);
            let code = Code::from(error);
            if is_first {
                self.outbox.truncate(start);
                return self.refuse(request, code);
            }
            if !self.terms.structured {
                return Err(io::Error::other("a read has failed when its reply had begun"));
            }
            failed = Some(code);
        }
        match failed {
            Some(code) => self.refuse(request, code),
            None if in_one || !self.terms.structured => Ok(()),
            None => self.conclude_with_chunk(request),
        }
    }

    /// A chunk for each piece of data and for each hole.
    fn read_runs(&mut self, request: &Request) -> io::Result<()> {
        let range = range_of(request);
        let mut rest = range;
        while !rest.is_empty() {
            let found = self.image.next_data(rest);
            let data = match found {
                Ok(data) => data,
                Err(error) => return self.refuse(request, error.into()),
            };
            if data > rest.start {
                self.make_room(0)?;
                let hole = (rest.start, len_of(rest.clamp_end(data)) as u32);
                self.outbox.hole_chunk(request, hole, data == range.end);
                rest.start = data;
                continue;
            }
            let piece = self.data_piece(rest);
            if let Err(code) = self.read_piece(request, piece, piece.end == range.end)? {
                return self.refuse(request, code);
            }
            rest.start = piece.end;
        }
        Ok(())
    }

    /// The first piece of a range that begins with data, up to a hole that a step begins with. To look for the very end of
    /// the data would take time in proportion to all that the image has behind it.
    fn data_piece(&self, range: ByteRange) -> ByteRange {
        let steps = range
            .clamp_end((range.start / PIECE + 1) * PIECE)
            .pieces(NBD_HOLE_STEP.into());
        let is_data = |step: &ByteRange| {
            step.start == range.start || self.image.next_data(*step).is_ok_and(|data| data == step.start)
        };
        let end = steps
            .take_while(is_data)
            .last()
            .map_or(range.end, |step| step.end);
        range.clamp_end(end)
    }

    fn read_piece(
        &mut self,
        request: &Request,
        piece: ByteRange,
        last: bool,
    ) -> io::Result<Result<(), Code>> {
        let len = len_of(piece);
        self.make_room(len)?;
        let start = self.outbox.len();
        self.outbox.data_chunk(request, (piece.start, len as u32), last);
        let read = self.image.read(piece.start, self.outbox.room(len));
        Ok(read.map_err(|error| {
            self.outbox.truncate(start);
            error.into()
        }))
    }

    // Changing --------------------------------------------------------------------------------------------------

    /// Others are told before the client is, also of a change that was cut short.
    fn write(&mut self, request: &Request) -> io::Result<()> {
        let len = request.len as usize;
        let range = range_of(request);
        if self.input.buffer().len() >= len {
            let written = self.image.write(range.start, &self.input.buffer()[..len]);
            self.input.consume(len);
            self.image.tell_changed(range);
            return self.conclude(request, written.map_err(Code::from));
        }
        // The outbox is empty then, and lends its memory to the payload.
        self.flush()?;
        let received = self.receive(range);
        self.outbox.truncate(0);
        self.image.tell_changed(range);
        self.conclude(request, received?)
    }

    /// Writes a payload as it comes in; what comes after a failure is passed over.
    fn receive(&mut self, range: ByteRange) -> io::Result<Result<(), Code>> {
        let mut written = Ok(());
        for piece in pieces(range) {
            self.outbox.truncate(0);
            let payload = self.outbox.room(len_of(piece));
            self.input.read_exact(payload)?;
            if written.is_ok() {
                written = self.image.write(piece.start, payload).map_err(Code::from);
            }
        }
        Ok(written)
    }

    /// TRIM and WRITE_ZEROES: memory goes back unless it shall stay.
    fn zero(&mut self, request: &Request) -> Result<(), Code> {
        let keep = request.has(command_flag::NO_HOLE);
        if keep && request.has(command_flag::FAST_ZERO) {
            // Zeros that take memory cost as much as other bytes.
            return Err(Code::NotSupported);
        }
        Ok(self.image.zero(range_of(request), keep)?)
    }

    // Block status ----------------------------------------------------------------------------------------------

    /// A chunk for each context that was agreed; none where one of them fails.
    fn block_status(&mut self, request: &Request) -> io::Result<()> {
        let statuses = match self.statuses(request) {
            Ok(statuses) => statuses,
            Err(code) => return self.refuse(request, code),
        };
        let last = statuses.len() - 1;
        for (number, (context, runs)) in statuses.iter().enumerate() {
            self.make_room(4 + 8 * runs.len())?;
            let len = 4 + 8 * runs.len() as u32;
            self.outbox
                .chunk(request, chunk::BLOCK_STATUS, len, number == last);
            self.outbox.put(&context.to_be_bytes());
            for (len, state) in runs {
                self.outbox.put(&len.to_be_bytes());
                self.outbox.put(&state.to_be_bytes());
            }
        }
        Ok(())
    }

    /// The runs of each context, one of which at least was agreed.
    fn statuses(&self, request: &Request) -> Result<Vec<(u32, Runs)>, Code> {
        let mut statuses = Vec::new();
        if self.terms.contexts.allocation {
            statuses.push((ALLOCATION_ID, self.allocation(request)?));
        }
        if let Some(base) = &self.base {
            statuses.push((DIFFERENCE_ID, self.difference(base, request)?));
        }
        Ok(statuses)
    }

    /// Data and holes; less than the request asks for where there are many.
    fn allocation(&self, request: &Request) -> Result<Runs, Code> {
        let mut runs = Vec::new();
        let mut rest = range_of(request);
        while !rest.is_empty() && runs.len() < runs_max(request) {
            let run = self.image.run(rest)?;
            let state = if run.is_hole { STATE_HOLE_ZERO } else { 0 };
            runs.push((len_of(rest.clamp_end(run.end)) as u32, state));
            rest.start = run.end;
        }
        Ok(runs)
    }

    /// Where the image differs from its base, as far as one look goes.
    fn difference(&self, base: &Image, request: &Request) -> Result<Runs, Code> {
        let range = range_of(request);
        let most = runs_max(request);
        // Between any two ranges that differ there is one that does not.
        let found = self.image.differences(base, range, most.div_ceil(2))?;
        let mut runs = Vec::new();
        let mut at = range.start;
        let mut push = |end: u64, state| {
            if end > at {
                runs.push((len_of(ByteRange { start: at, end }) as u32, state));
                at = end;
            }
        };
        for differing in &found.ranges {
            push(differing.start, 0);
            push(differing.end, STATE_DIFFERS);
        }
        push(found.end, 0);
        runs.truncate(most);
        Ok(runs)
    }

    // Replies ---------------------------------------------------------------------------------------------------

    fn conclude(&mut self, request: &Request, done: Result<(), Code>) -> io::Result<()> {
        match done {
            Ok(()) if self.terms.structured && request.command == Command::Read => {
                self.conclude_with_chunk(request)
            }
            Ok(()) => {
                self.make_room(0)?;
                self.outbox.simple(request, None);
                Ok(())
            }
            Err(code) => self.refuse(request, code),
        }
    }

    fn conclude_with_chunk(&mut self, request: &Request) -> io::Result<()> {
        self.make_room(0)?;
        self.outbox.chunk(request, chunk::NONE, 0, true);
        Ok(())
    }

    fn refuse(&mut self, request: &Request, code: Code) -> io::Result<()> {
        self.make_room(0)?;
        match self.terms.structured {
            true => self.outbox.error_chunk(request, code),
            false => self.outbox.simple(request, Some(code)),
        }
        Ok(())
    }

    /// Passes over a payload.
    fn skip(&mut self, len: u32) -> io::Result<()> {
        let len = u64::from(len);
        match io::copy(&mut self.input.by_ref().take(len), &mut io::sink())? {
            skipped if skipped == len => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Sends what waits unless `len` bytes more still fit beside it.
    fn make_room(&mut self, len: usize) -> io::Result<()> {
        match self.outbox.len() + len > NBD_PIECE_MAX {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.outbox.len() {
            0 => Ok(()),
            _ => self.outbox.flush(&mut self.output),
        }
    }
}

/// The bytes of a request that was permitted, and so lies within the image.
fn range_of(request: &Request) -> ByteRange {
    ByteRange {
        start: request.offset,
        end: request.offset + u64::from(request.len),
    }
}

/// Runs that the answer to a request may have.
fn runs_max(request: &Request) -> usize {
    match request.has(command_flag::REQ_ONE) {
        true => 1,
        false => NBD_RUNS_MAX,
    }
}

/// Parts of a range that fit the connection's buffer: itself where it does, else cut where blocks end too.
fn pieces(range: ByteRange) -> impl Iterator<Item = ByteRange> {
    range.pieces(if range.len() <= PIECE { 1 << 63 } else { PIECE })
}

/// Length of a part of a request, which has 32 bits.
fn len_of(range: ByteRange) -> usize {
    range.len() as usize
}

fn malformed() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the client does not keep to the protocol",
    )
}
