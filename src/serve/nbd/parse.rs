//! What a client's bytes mean: options of the handshake, and requests.
//!
//! Everything is in network byte order. Whatever the bytes are, parsing ends with a value or a refusal.
//!
//! ```text
//! option:   magic "IHAVEOPT"   code u32   length u32   data
//! request:  magic u32   flags u16   command u16   cookie u64   offset u64   length u32   (payload of a write)
//! ```

#[cfg(test)]
mod tests;

use super::protocol::{
    ALLOCATION, ALLOCATION_ID, Code, DIFFERENCE, DIFFERENCE_ID, OPTION_MAGIC, REQUEST_MAGIC, command_flag,
    option,
};
use crate::limits::{NBD_REQUEST_MAX, NBD_STRING_MAX};

/// A client's bytes that are not what the protocol says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// What stands before an option's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionHeader {
    /// One of [`option`], or unknown.
    pub code: u32,
    /// Bytes of data.
    pub len: u32,
}

impl OptionHeader {
    /// Bytes of a header.
    pub const LEN: usize = 16;

    /// Understands a header.
    ///
    /// # Errors
    /// [`Malformed`] without the magic number: client and server are out of step.
    pub fn parse(bytes: &[u8; Self::LEN]) -> Result<Self, Malformed> {
        let mut fields = Fields(bytes);
        if fields.array::<8>()? != OPTION_MAGIC {
            return Err(Malformed);
        }
        Ok(Self {
            code: fields.u32()?,
            len: fields.u32()?,
        })
    }
}

/// An option with its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientOption<'a> {
    /// Choose the export of that name.
    ExportName(&'a [u8]),
    /// End the connection.
    Abort,
    /// Name the exports.
    List,
    /// Tell about the export of that name.
    Info(&'a [u8]),
    /// Tell about the export of that name and choose it.
    Go(&'a [u8]),
    /// Answer requests in chunks.
    StructuredReply,
    /// Name metadata contexts.
    ListMetaContext(ContextQuery<'a>),
    /// Choose metadata contexts.
    SetMetaContext(ContextQuery<'a>),
    /// Any other.
    Unknown,
}

impl<'a> ClientOption<'a> {
    /// Understands an option's data.
    ///
    /// # Errors
    /// [`Malformed`] where lengths inside do not add up to it.
    pub fn parse(code: u32, data: &'a [u8]) -> Result<Self, Malformed> {
        let nothing = |option| data.is_empty().then_some(option).ok_or(Malformed);
        match code {
            option::EXPORT_NAME => string(data).map(Self::ExportName),
            // Whatever data it has: the connection ends in any case.
            option::ABORT => Ok(Self::Abort),
            option::LIST => nothing(Self::List),
            option::INFO => export_query(data).map(Self::Info),
            option::GO => export_query(data).map(Self::Go),
            option::STRUCTURED_REPLY => nothing(Self::StructuredReply),
            option::LIST_META_CONTEXT => ContextQuery::parse(data).map(Self::ListMetaContext),
            option::SET_META_CONTEXT => ContextQuery::parse(data).map(Self::SetMetaContext),
            _ => Ok(Self::Unknown),
        }
    }
}

/// The name in the data of INFO and GO. What information is asked for makes no difference: all is sent.
fn export_query(data: &[u8]) -> Result<&[u8], Malformed> {
    let mut fields = Fields(data);
    let name = fields.string()?;
    let wishes = fields.u16()?;
    fields.take(2 * usize::from(wishes))?;
    fields.end()?;
    Ok(name)
}

/// Which metadata contexts of an export a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextQuery<'a> {
    /// The export.
    pub export: &'a [u8],
    /// Names of contexts, or of namespaces with a colon.
    pub queries: Vec<&'a [u8]>,
}

impl<'a> ContextQuery<'a> {
    fn parse(data: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(data);
        let export = fields.string()?;
        let count = fields.u32()?;
        let mut queries = Vec::new();
        // Each takes four bytes at least, so that the data bounds their number.
        for _ in 0..count {
            queries.push(fields.string()?);
        }
        fields.end()?;
        Ok(Self { export, queries })
    }

    /// What a listing asks for: contexts by name or namespace, or all.
    pub fn listed(&self) -> Contexts {
        let asks = |context: &[u8], namespace: &[u8]| {
            self.queries.is_empty()
                || self
                    .queries
                    .iter()
                    .any(|&query| query == context || query == namespace)
        };
        Contexts {
            allocation: asks(ALLOCATION, b"base:"),
            difference: asks(DIFFERENCE, b"okapi:"),
        }
    }

    /// What is chosen, by name.
    pub fn chosen(&self) -> Contexts {
        Contexts {
            allocation: self.queries.contains(&ALLOCATION),
            difference: self.queries.contains(&DIFFERENCE),
        }
    }
}

/// A set of metadata contexts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contexts {
    /// [`ALLOCATION`].
    pub allocation: bool,
    /// [`DIFFERENCE`].
    pub difference: bool,
}

impl Contexts {
    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Numbers and names.
    pub fn each(self) -> impl Iterator<Item = (u32, &'static [u8])> {
        let allocation = self.allocation.then_some((ALLOCATION_ID, ALLOCATION));
        let difference = self.difference.then_some((DIFFERENCE_ID, DIFFERENCE));
        allocation.into_iter().chain(difference)
    }
}

/// What a client wants done with an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Bytes.
    Read,
    /// The payload is written.
    Write,
    /// The end of the connection.
    Disconnect,
    /// What was written becomes as safe as it will be.
    Flush,
    /// The bytes are needed no more.
    Trim,
    /// Zeros.
    WriteZeroes,
    /// Where there is data.
    BlockStatus,
    /// Any other.
    Unknown,
}

/// A request without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Flags of [`command_flag`].
    pub flags: u16,
    /// What to do.
    pub command: Command,
    /// The client's name for it, returned in the reply.
    pub cookie: u64,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u32,
}

/// What decides whether a request may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Bytes of the export.
    pub size: u64,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Whether replies come in chunks.
    pub structured: bool,
    /// What was chosen.
    pub contexts: Contexts,
}

impl Request {
    /// Bytes of a request.
    pub const LEN: usize = 28;

    /// Understands a request.
    ///
    /// # Errors
    /// [`Malformed`] without the magic number: client and server are out of step.
    pub fn parse(bytes: &[u8; Self::LEN]) -> Result<Self, Malformed> {
        let mut fields = Fields(bytes);
        if fields.u32()? != REQUEST_MAGIC {
            return Err(Malformed);
        }
        Ok(Self {
            flags: fields.u16()?,
            command: match fields.u16()? {
                0 => Command::Read,
                1 => Command::Write,
                2 => Command::Disconnect,
                3 => Command::Flush,
                4 => Command::Trim,
                6 => Command::WriteZeroes,
                7 => Command::BlockStatus,
                _ => Command::Unknown,
            },
            cookie: fields.u64()?,
            offset: fields.u64()?,
            len: fields.u32()?,
        })
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Bytes that follow the request.
    pub fn payload_len(&self) -> u32 {
        match self.command {
            Command::Write => self.len,
            _ => 0,
        }
    }

    /// Whether the request keeps to the protocol and to what was agreed; with what it is refused where it does not.
    ///
    /// # Errors
    /// `Invalid`, `NotPermitted`, `NoSpace` or `Overflow`, as the protocol names them for each command.
    pub fn permit(&self, terms: &Terms) -> Result<(), Code> {
        if self.flags & !self.flags_allowed(terms) != 0 {
            return Err(Code::Invalid);
        }
        let end = self.offset.checked_add(self.len.into());
        let inside = end.is_some_and(|end| end <= terms.size);
        let within = |code| if inside { Ok(()) } else { Err(code) };
        let writable = if terms.read_only {
            Err(Code::NotPermitted)
        } else {
            Ok(())
        };
        match self.command {
            Command::Read if self.len > NBD_REQUEST_MAX && self.has(command_flag::DF) => Err(Code::Overflow),
            Command::Read if self.len > NBD_REQUEST_MAX => Err(Code::Invalid),
            Command::Read => within(Code::Invalid),
            Command::Write | Command::WriteZeroes => writable.and(within(Code::NoSpace)),
            Command::Trim => writable.and(within(Code::Invalid)),
            Command::BlockStatus if terms.contexts.is_empty() || self.len == 0 => Err(Code::Invalid),
            Command::BlockStatus => within(Code::Invalid),
            Command::Disconnect | Command::Flush => Ok(()),
            Command::Unknown => Err(Code::Invalid),
        }
    }

    /// FUA goes with every command.
    fn flags_allowed(&self, terms: &Terms) -> u16 {
        let own = match self.command {
            Command::Read if terms.structured => command_flag::DF,
            Command::WriteZeroes => command_flag::NO_HOLE | command_flag::FAST_ZERO,
            Command::BlockStatus => command_flag::REQ_ONE,
            Command::Read
            | Command::Write
            | Command::Disconnect
            | Command::Flush
            | Command::Trim
            | Command::Unknown => 0,
        };
        command_flag::FUA | own
    }
}

/// Bytes that are yet to be understood.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// A length of 32 bits, and so many bytes.
    fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let len = usize::try_from(self.u32()?).map_err(|_huge| Malformed)?;
        self.take(len).and_then(string)
    }

    fn end(&self) -> Result<(), Malformed> {
        self.0.is_empty().then_some(()).ok_or(Malformed)
    }
}

/// Bytes as long as a string may be.
fn string(bytes: &[u8]) -> Result<&[u8], Malformed> {
    (bytes.len() <= NBD_STRING_MAX).then_some(bytes).ok_or(Malformed)
}
