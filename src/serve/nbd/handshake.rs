//! The handshake: what a client wants to know, and the image that it chooses.

use std::io::{self, Read, Write};
use std::sync::Arc;

use tracing::debug;

use super::parse::{ClientOption, ContextQuery, Contexts, Malformed, OptionHeader, Terms};
use super::protocol::{GREETING, client_flag, info, option, option_reply, transmission_flag};
use super::reply::send_option_reply;
use crate::error::Error;
use crate::image::{Image, Images};
use crate::limits::{NBD_OPTION_MAX, NBD_OPTION_SKIP_MAX, NBD_REQUEST_MAX, PAGE_SIZE};

/// Zeros behind the answer to EXPORT_NAME, for clients that want them.
const PADDING: [u8; 124] = [0; 124];

/// What a handshake has come to.
pub(super) struct Agreed {
    pub(super) image: Image,
    /// What the image is compared with, where that was chosen.
    pub(super) base: Option<Image>,
    pub(super) terms: Terms,
}

/// Greets, and answers options until the client has chosen an image; `None` where it leaves without one.
///
/// # Errors
/// Those of the stream, and `InvalidData` where the client does not keep to the protocol.
pub(super) fn negotiate(
    stream: &mut (impl Read + Write),
    images: &Arc<Images>,
) -> io::Result<Option<Agreed>> {
    stream.write_all(&GREETING)?;
    let flags = u32::from_be_bytes(receive(stream)?);
    if flags & !client_flag::ALL != 0 {
        return Err(malformed(Malformed));
    }
    let mut handshake = Handshake {
        stream,
        images,
        zeroes: flags & client_flag::NO_ZEROES == 0,
        structured: false,
        chosen: None,
    };
    loop {
        match handshake.next()? {
            Step::Stay => {}
            Step::Leave => return Ok(None),
            Step::Serve(agreed) => return Ok(Some(*agreed)),
        }
    }
}

/// What comes after an option.
enum Step {
    Stay,
    Leave,
    Serve(Box<Agreed>),
}

struct Handshake<'h, S> {
    stream: &'h mut S,
    images: &'h Arc<Images>,
    /// Whether [`PADDING`] is wanted.
    zeroes: bool,
    structured: bool,
    chosen: Option<Chosen>,
}

/// Metadata contexts that were chosen.
struct Chosen {
    /// For the export of this name.
    export: Vec<u8>,
    contexts: Contexts,
    /// What the image was cloned from: kept, so that the answers are about this base whatever becomes of its name.
    base: Option<Image>,
}

impl<S: Read + Write> Handshake<'_, S> {
    fn next(&mut self) -> io::Result<Step> {
        let header = OptionHeader::parse(&receive(self.stream)?).map_err(malformed)?;
        if header.len > NBD_OPTION_SKIP_MAX {
            return Err(malformed(Malformed));
        }
        let mut data = vec![0; header.len as usize];
        self.stream.read_exact(&mut data)?;
        if header.len > NBD_OPTION_MAX && header.code != option::EXPORT_NAME {
            return self.close(header.code, option_reply::ERR_TOO_BIG);
        }
        let asked = match ClientOption::parse(header.code, &data) {
            Ok(asked) => asked,
            // It has no reply that could say so.
            Err(Malformed) if header.code == option::EXPORT_NAME => return Ok(Step::Leave),
            Err(Malformed) => return self.close(header.code, option_reply::ERR_INVALID),
        };
        match asked {
            ClientOption::ExportName(name) => self.choose_silently(name),
            ClientOption::Abort => {
                // The client may have gone already.
                let _ = self.reply(header.code, option_reply::ACK, &[]);
                Ok(Step::Leave)
            }
            ClientOption::List => self.list(),
            ClientOption::Info(name) => self.tell(header.code, name),
            ClientOption::Go(name) => self.tell(header.code, name),
            ClientOption::StructuredReply => {
                self.structured = true;
                self.acknowledge(header.code)
            }
            ClientOption::ListMetaContext(query) => self.list_contexts(&query),
            ClientOption::SetMetaContext(query) => self.choose_contexts(&query),
            ClientOption::Unknown => self.close(header.code, option_reply::ERR_UNSUP),
        }
    }

    /// EXPORT_NAME: there is no way to say no but to hang up.
    fn choose_silently(&mut self, name: &[u8]) -> io::Result<Step> {
        let Some(image) = self.images.open(name).map_err(failed)? else {
            return Ok(Step::Leave);
        };
        let terms = self.terms(&image, name);
        let mut answer = terms.size.to_be_bytes().to_vec();
        answer.extend(flags(&terms).to_be_bytes());
        if self.zeroes {
            answer.extend(PADDING);
        }
        self.stream.write_all(&answer)?;
        Ok(self.serve(image, terms))
    }

    fn list(&mut self) -> io::Result<Step> {
        let mut next = Some(0);
        while let Some(cookie) = next {
            let found = self.images.names(cookie).map_err(failed)?;
            for name in &found.names {
                let len = (name.as_bytes().len() as u32).to_be_bytes();
                self.reply(option::LIST, option_reply::SERVER, &[&len, name.as_bytes()])?;
            }
            next = found.next;
        }
        self.acknowledge(option::LIST)
    }

    /// INFO and GO.
    fn tell(&mut self, code: u32, name: &[u8]) -> io::Result<Step> {
        let Some(image) = self.images.open(name).map_err(failed)? else {
            return self.close(code, option_reply::ERR_UNKNOWN);
        };
        let terms = self.terms(&image, name);
        self.reply(
            code,
            option_reply::INFO,
            &[
                &info::EXPORT.to_be_bytes(),
                &terms.size.to_be_bytes(),
                &flags(&terms).to_be_bytes(),
            ],
        )?;
        self.reply(
            code,
            option_reply::INFO,
            &[
                &info::BLOCK_SIZE.to_be_bytes(),
                &1u32.to_be_bytes(),
                &(PAGE_SIZE as u32).to_be_bytes(),
                &NBD_REQUEST_MAX.to_be_bytes(),
            ],
        )?;
        self.reply(code, option_reply::ACK, &[])?;
        Ok(match code {
            option::GO => self.serve(image, terms),
            _ => Step::Stay,
        })
    }

    fn list_contexts(&mut self, query: &ContextQuery<'_>) -> io::Result<Step> {
        let code = option::LIST_META_CONTEXT;
        let Some(image) = self.images.open(query.export).map_err(failed)? else {
            return self.close(code, option_reply::ERR_UNKNOWN);
        };
        let mut listed = query.listed();
        listed.difference &= image.base().map_err(failed)?.is_some();
        for (_, name) in listed.each() {
            self.reply(code, option_reply::META_CONTEXT, &[&[0; 4], name])?;
        }
        self.acknowledge(code)
    }

    /// A new choice replaces the last one, even where it fails.
    fn choose_contexts(&mut self, query: &ContextQuery<'_>) -> io::Result<Step> {
        let code = option::SET_META_CONTEXT;
        self.chosen = None;
        if !self.structured {
            return self.close(code, option_reply::ERR_INVALID);
        }
        let Some(image) = self.images.open(query.export).map_err(failed)? else {
            return self.close(code, option_reply::ERR_UNKNOWN);
        };
        let mut contexts = query.chosen();
        let base = match contexts.difference {
            true => image.base().map_err(failed)?,
            false => None,
        };
        contexts.difference = base.is_some();
        for (id, name) in contexts.each() {
            self.reply(code, option_reply::META_CONTEXT, &[&id.to_be_bytes(), name])?;
        }
        self.chosen = Some(Chosen {
            export: query.export.to_owned(),
            contexts,
            base,
        });
        self.acknowledge(code)
    }

    fn terms(&self, image: &Image, name: &[u8]) -> Terms {
        let chosen = self.chosen.as_ref().filter(|chosen| chosen.export == name);
        Terms {
            size: image.size(),
            read_only: image.read_only(),
            structured: self.structured,
            contexts: chosen.map_or_else(Contexts::default, |chosen| chosen.contexts),
        }
    }

    /// Ends the handshake with an image on those terms.
    fn serve(&mut self, image: Image, terms: Terms) -> Step {
        let chosen = self.chosen.take();
        Step::Serve(Box::new(Agreed {
            image,
            base: chosen
                .filter(|_| terms.contexts.difference)
                .and_then(|chosen| chosen.base),
            terms,
        }))
    }

    fn acknowledge(&mut self, code: u32) -> io::Result<Step> {
        self.close(code, option_reply::ACK)
    }

    /// Ends the answer to an option.
    fn close(&mut self, code: u32, reply: u32) -> io::Result<Step> {
        self.reply(code, reply, &[])?;
        Ok(Step::Stay)
    }

    fn reply(&mut self, code: u32, reply: u32, data: &[&[u8]]) -> io::Result<()> {
        send_option_reply(self.stream, code, reply, data)
    }
}

/// What the client may do with the image.
fn flags(terms: &Terms) -> u16 {
    use transmission_flag as flag;
    let always = flag::HAS_FLAGS | flag::SEND_FLUSH | flag::CAN_MULTI_CONN;
    let changes = flag::SEND_FUA | flag::SEND_TRIM | flag::SEND_WRITE_ZEROES | flag::SEND_FAST_ZERO;
    let structured = if terms.structured { flag::SEND_DF } else { 0 };
    always | structured | if terms.read_only { flag::READ_ONLY } else { changes }
}

fn receive<const N: usize>(stream: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn malformed(_: Malformed) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the client does not keep to the protocol",
    )
}

fn failed(error: Error) -> io::Error {
    debug!("images cannot be looked up: {error}");
    io::Error::other(error)
}
