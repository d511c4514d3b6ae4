//! A small NBD client that speaks the protocol in raw bytes, so that tests see what a server really sends.

use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Upper bound for an answer that should take milliseconds; that of an end may wait for a handshake's deadline.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of replies that are read at a time.
const READ_AHEAD: usize = 64 << 10;

/// A connection in either family.
trait Duplex: Read + Write + Send {}

impl<T: Read + Write + Send> Duplex for T {}

/// A client, in its handshake or behind it.
pub struct Client {
    stream: BufReader<Box<dyn Duplex>>,
    structured: bool,
    cookie: u64,
}

/// What a server says about an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Export {
    /// Bytes.
    pub size: u64,
    /// Transmission flags.
    pub flags: u16,
}

/// Type and data of a reply to an option.
pub type OptionReply = (u32, Vec<u8>);

/// Lengths and states.
pub type Runs = Vec<(u32, u32)>;

/// A piece of a structured reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Type.
    pub kind: u16,
    /// Payload.
    pub payload: Vec<u8>,
}

/// Options.
pub mod option {
    #![allow(missing_docs)] // the names of the protocol
    pub const EXPORT_NAME: u32 = 1;
    pub const ABORT: u32 = 2;
    pub const LIST: u32 = 3;
    pub const INFO: u32 = 6;
    pub const GO: u32 = 7;
    pub const STRUCTURED_REPLY: u32 = 8;
    pub const LIST_META_CONTEXT: u32 = 9;
    pub const SET_META_CONTEXT: u32 = 10;
}

/// Replies to options.
pub mod reply {
    #![allow(missing_docs)] // the names of the protocol
    pub const ACK: u32 = 1;
    pub const SERVER: u32 = 2;
    pub const INFO: u32 = 3;
    pub const META_CONTEXT: u32 = 4;
    pub const ERR_UNSUP: u32 = 0x8000_0001;
    pub const ERR_INVALID: u32 = 0x8000_0003;
    pub const ERR_UNKNOWN: u32 = 0x8000_0006;
    pub const ERR_TOO_BIG: u32 = 0x8000_0009;
}

/// Commands.
pub mod command {
    #![allow(missing_docs)] // the names of the protocol
    pub const READ: u16 = 0;
    pub const WRITE: u16 = 1;
    pub const DISC: u16 = 2;
    pub const FLUSH: u16 = 3;
    pub const TRIM: u16 = 4;
    pub const CACHE: u16 = 5;
    pub const WRITE_ZEROES: u16 = 6;
    pub const BLOCK_STATUS: u16 = 7;
}

/// Flags of commands.
pub mod flag {
    #![allow(missing_docs)] // the names of the protocol
    pub const FUA: u16 = 1;
    pub const NO_HOLE: u16 = 2;
    pub const DF: u16 = 4;
    pub const REQ_ONE: u16 = 8;
    pub const FAST_ZERO: u16 = 16;
}

/// Types of chunks.
pub mod chunk {
    #![allow(missing_docs)] // the names of the protocol
    pub const NONE: u16 = 0;
    pub const DATA: u16 = 1;
    pub const HOLE: u16 = 2;
    pub const STATUS: u16 = 5;
    pub const ERROR: u16 = 0x8001;
}

impl Client {
    /// Connects to a socket and exchanges greetings.
    ///
    /// # Errors
    /// Those of the connection, and `InvalidData` where nobody greets.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Self::greet(stream)
    }

    /// Connects to a port and exchanges greetings.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect_tcp(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Self::greet(stream)
    }

    fn greet(stream: impl Read + Write + Send + 'static) -> io::Result<Self> {
        let mut client = Self {
            stream: BufReader::with_capacity(READ_AHEAD, Box::new(stream)),
            structured: false,
            cookie: 0,
        };
        let greeting: [u8; 18] = client.receive()?;
        if greeting != *b"NBDMAGICIHAVEOPT\0\x03" {
            return Err(nonsense("the greeting"));
        }
        client.send(&3u32.to_be_bytes())?;
        Ok(client)
    }

    /// A client that chose an image, with structured replies and `base:allocation`.
    ///
    /// # Panics
    /// Where the server refuses.
    pub fn open(path: &Path, name: &str) -> (Self, Export) {
        Self::open_with(path, name, &["base:allocation"])
    }

    /// A client that chose an image, with structured replies and these metadata contexts.
    ///
    /// # Panics
    /// Where the server refuses.
    pub fn open_with(path: &Path, name: &str, queries: &[&str]) -> (Self, Export) {
        let mut client = Self::connect(path).expect("the server greets");
        client.structure();
        let (last, contexts) = client
            .option(option::SET_META_CONTEXT, &contexts(name, queries))
            .expect("the server answers");
        assert_eq!((last, contexts.len()), (reply::ACK, queries.len()));
        let export = client.go(name).expect("the image is there");
        (client, export)
    }

    /// Asks for structured replies.
    ///
    /// # Panics
    /// Where the server refuses.
    pub fn structure(&mut self) {
        let answer = self.option(option::STRUCTURED_REPLY, b"");
        assert_eq!(answer.expect("the server answers").0, reply::ACK);
        self.structured = true;
    }

    /// Sends an option; returns the type of the last reply and the types and data of those before it.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn option(&mut self, code: u32, data: &[u8]) -> io::Result<(u32, Vec<OptionReply>)> {
        self.send(&option_bytes(code, data))?;
        let mut replies = Vec::new();
        loop {
            if self.receive()? != 0x0003_e889_0455_65a9_u64.to_be_bytes() {
                return Err(nonsense("the magic number of a reply"));
            }
            let _code = self.u32()?;
            let (kind, len) = (self.u32()?, self.u32()?);
            let data = self.bytes(len as usize)?;
            if kind == reply::ACK || kind >> 31 == 1 {
                return Ok((kind, replies));
            }
            replies.push((kind, data));
        }
    }

    /// Chooses an image by GO; the error is the server's reply.
    ///
    /// # Errors
    /// The type of the reply.
    ///
    /// # Panics
    /// Where the connection breaks.
    pub fn go(&mut self, name: &str) -> Result<Export, u32> {
        let (last, replies) = self
            .option(option::GO, &export_query(name))
            .expect("the server answers");
        if last != reply::ACK {
            return Err(last);
        }
        let is_export = |data: &&OptionReply| data.0 == reply::INFO && data.1.starts_with(&[0, 0]);
        let (_, info) = replies.iter().find(is_export).expect("GO tells the size");
        Ok(Export {
            size: u64::from_be_bytes(info[2..10].try_into().expect("eight bytes")),
            flags: u16::from_be_bytes(info[10..12].try_into().expect("two bytes")),
        })
    }

    /// Chooses an image by EXPORT_NAME.
    ///
    /// # Errors
    /// The server closes the connection where there is no such image.
    pub fn export_name(&mut self, name: &str) -> io::Result<Export> {
        self.send(&option_bytes(option::EXPORT_NAME, name.as_bytes()))?;
        Ok(Export {
            size: u64::from_be_bytes(self.receive()?),
            flags: u16::from_be_bytes(self.receive()?),
        })
    }

    /// Sends a request without waiting for the answer; returns its cookie.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn request(
        &mut self,
        (command, flags): (u16, u16),
        (offset, len): (u64, u32),
        payload: &[u8],
    ) -> io::Result<u64> {
        self.cookie += 1;
        let mut bytes = 0x2560_9513_u32.to_be_bytes().to_vec();
        bytes.extend(flags.to_be_bytes());
        bytes.extend(command.to_be_bytes());
        bytes.extend(self.cookie.to_be_bytes());
        bytes.extend(offset.to_be_bytes());
        bytes.extend(len.to_be_bytes());
        bytes.extend_from_slice(payload);
        self.send(&bytes)?;
        Ok(self.cookie)
    }

    /// Receives the reply to a request that was sent by [`Client::request`]: chunks, or for a simple reply a chunk that
    /// stands for it, with `len` bytes.
    ///
    /// # Errors
    /// Those of the connection; `InvalidData` where the reply is another's.
    pub fn reply(&mut self, cookie: u64, len: u32) -> io::Result<Vec<Chunk>> {
        let mut chunks = Vec::new();
        loop {
            match self.u32()? {
                0x6744_6698 => {
                    let error = self.u32()?;
                    self.expect_cookie(cookie)?;
                    chunks.push(self.simple(error, len)?);
                    return Ok(chunks);
                }
                0x668e_33ef => {
                    let (flags, kind): ([u8; 2], [u8; 2]) = (self.receive()?, self.receive()?);
                    self.expect_cookie(cookie)?;
                    let len = self.u32()? as usize;
                    let kind = u16::from_be_bytes(kind);
                    let payload = self.bytes(len)?;
                    chunks.push(Chunk { kind, payload });
                    if flags[1] & 1 == 1 {
                        return Ok(chunks);
                    }
                }
                _ => return Err(nonsense("the magic number of a reply")),
            }
        }
    }

    fn simple(&mut self, error: u32, len: u32) -> io::Result<Chunk> {
        if error != 0 {
            let payload = [&error.to_be_bytes()[..], &[0, 0]].concat();
            let kind = chunk::ERROR;
            return Ok(Chunk { kind, payload });
        }
        Ok(Chunk {
            kind: chunk::NONE,
            payload: self.bytes(len as usize)?,
        })
    }

    /// Does a request and waits for its reply; `len` is that of the request.
    ///
    /// # Errors
    /// The error number of the reply.
    ///
    /// # Panics
    /// Where the connection breaks.
    pub fn perform(
        &mut self,
        command: (u16, u16),
        range: (u64, u32),
        payload: &[u8],
    ) -> Result<Vec<Chunk>, u32> {
        let cookie = self.request(command, range, payload).expect("the server reads");
        let len = if command.0 == command::READ { range.1 } else { 0 };
        let chunks = self.reply(cookie, len).expect("the server answers");
        match chunks.iter().find(|chunk| chunk.kind == chunk::ERROR) {
            Some(error) => Err(u32::from_be_bytes(
                error.payload[..4].try_into().expect("four bytes"),
            )),
            None => Ok(chunks),
        }
    }

    /// Bytes of the image.
    ///
    /// # Errors
    /// The error number of the reply.
    ///
    /// # Panics
    /// Where the chunks do not cover the range, each byte once.
    pub fn read(&mut self, offset: u64, len: u32) -> Result<Vec<u8>, u32> {
        let chunks = self.perform((command::READ, 0), (offset, len), b"")?;
        if !self.structured {
            return Ok(chunks[0].payload.clone());
        }
        Ok(assemble(&chunks, offset, len))
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// The error number of the reply.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), u32> {
        let len = u32::try_from(bytes.len()).expect("requests have 32 bits");
        self.perform((command::WRITE, 0), (offset, len), bytes).map(drop)
    }

    /// Lengths and states of the runs from `offset` on.
    ///
    /// # Errors
    /// The error number of the reply.
    ///
    /// # Panics
    /// Where the reply has not one chunk of runs.
    pub fn status(&mut self, flags: u16, range: (u64, u32)) -> Result<Runs, u32> {
        let mut statuses = self.statuses(flags, range)?;
        assert_eq!(statuses.len(), 1);
        Ok(statuses.remove(0).1)
    }

    /// Numbers of metadata contexts, each with lengths and states of the runs from `offset` on.
    ///
    /// # Errors
    /// The error number of the reply.
    ///
    /// # Panics
    /// Where the reply has anything but chunks of runs.
    pub fn statuses(&mut self, flags: u16, range: (u64, u32)) -> Result<Vec<(u32, Runs)>, u32> {
        let chunks = self.perform((command::BLOCK_STATUS, flags), range, b"")?;
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().expect("four bytes"));
        let status = |chunk: &Chunk| {
            assert_eq!(chunk.kind, chunk::STATUS);
            let (context, runs) = chunk.payload.split_at(4);
            let runs = runs.chunks_exact(8);
            let runs = runs.map(|run| (number(&run[..4]), number(&run[4..])));
            (number(context), runs.collect())
        };
        Ok(chunks.iter().map(status).collect())
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Whether the server has closed the connection; waits for that or for bytes.
    ///
    /// # Panics
    /// Where neither comes.
    pub fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0]) {
            Ok(len) => len == 0,
            Err(error) => {
                assert_ne!(
                    error.kind(),
                    io::ErrorKind::WouldBlock,
                    "the connection stays open"
                );
                true
            }
        }
    }

    fn expect_cookie(&mut self, cookie: u64) -> io::Result<()> {
        match u64::from_be_bytes(self.receive()?) {
            found if found == cookie => Ok(()),
            _ => Err(nonsense("the cookie of a reply")),
        }
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.receive().map(u32::from_be_bytes)
    }

    fn bytes(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn receive<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// An option as it is sent.
pub fn option_bytes(code: u32, data: &[u8]) -> Vec<u8> {
    let len = u32::try_from(data.len()).expect("options have 32 bits");
    [b"IHAVEOPT", &code.to_be_bytes()[..], &len.to_be_bytes(), data].concat()
}

/// The data of INFO and GO, with a wish for the block sizes.
pub fn export_query(name: &str) -> Vec<u8> {
    [string(name), vec![0, 1, 0, 3]].concat()
}

/// The data of LIST_META_CONTEXT and SET_META_CONTEXT.
pub fn contexts(name: &str, queries: &[&str]) -> Vec<u8> {
    let count = u32::try_from(queries.len()).expect("a handful").to_be_bytes();
    let queries = queries.iter().map(|query| string(query)).collect::<Vec<_>>();
    [string(name), count.to_vec(), queries.concat()].concat()
}

fn string(text: &str) -> Vec<u8> {
    let len = u32::try_from(text.len()).expect("strings have 32 bits");
    [&len.to_be_bytes()[..], text.as_bytes()].concat()
}

/// The bytes of a structured reply to a read.
fn assemble(chunks: &[Chunk], offset: u64, len: u32) -> Vec<u8> {
    let mut bytes: Vec<Option<u8>> = vec![None; len as usize];
    for Chunk { kind, payload } in chunks.iter().filter(|chunk| chunk.kind != chunk::NONE) {
        let at = u64::from_be_bytes(payload[..8].try_into().expect("eight bytes")) - offset;
        let data = match *kind {
            chunk::DATA => payload[8..].to_vec(),
            chunk::HOLE => {
                let len = u32::from_be_bytes(payload[8..].try_into().expect("four bytes"));
                vec![0; len as usize]
            }
            other => panic!("a chunk of type {other} in a read"),
        };
        let at = usize::try_from(at).expect("an offset in a request");
        for (place, byte) in bytes[at..at + data.len()].iter_mut().zip(data) {
            assert_eq!(*place, None, "no byte comes twice");
            *place = Some(byte);
        }
    }
    let bytes: Option<Vec<u8>> = bytes.into_iter().collect();
    bytes.expect("each byte comes")
}

fn nonsense(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} is wrong"))
}
