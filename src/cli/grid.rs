//! `okapi grid`: the blocks of a mounted drive, below and beside its files.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::mounts;
use super::outcome::{Failure, Outcome, print};
use super::size::{human, parse_bytes};
use crate::error::{Error, ErrorKind, Result};
use crate::grid::BlockIndex;
use crate::limits::{BLOCK_SIZE_MAX, CONTROL_PAYLOAD_MAX};
use crate::serve::control::{Client, GetWhat, PutHow};

/// Get, put and list blocks on a drive's grid
///
/// A namespace maps indexes, 0 to 2^48-1, to blocks. The blocks of the files are in namespace `drive`, to be read only.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Where the drive is mounted [default: the only one]
    #[arg(long, value_name = "DIR", global = true)]
    mount: Option<PathBuf>,
    /// Namespace; the first put makes one
    #[arg(long, value_name = "NAME", global = true, default_value = "grid")]
    namespace: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a block to stdout, or a part of it, or a record
    ///
    /// An index without a block is no bytes.
    Get {
        /// Index of the block
        #[arg(value_parser = parse_index)]
        index: BlockIndex,
        /// First byte
        #[arg(long, value_name = "BYTES", value_parser = parse_in_block, default_value = "0")]
        offset: u32,
        /// Most bytes [default: all that are there]
        #[arg(long, value_name = "BYTES", value_parser = parse_in_block)]
        len: Option<u32>,
        /// The record that begins there, which may have several blocks
        #[arg(long, conflicts_with_all = ["offset", "len"])]
        record: bool,
    },
    /// Store stdin or a file as a block, or in a part of it, or as a record
    ///
    /// No bytes at all delete the block.
    Put {
        /// Index of the block
        #[arg(value_parser = parse_index)]
        index: BlockIndex,
        /// Begin at this byte, and leave the rest of the block
        #[arg(long, value_name = "BYTES", value_parser = parse_in_block)]
        offset: Option<u32>,
        /// As a record, which takes as many blocks from there on as it needs
        #[arg(long, conflicts_with = "offset")]
        record: bool,
        /// File to store [default: stdin]
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Delete blocks, or records
    Rm {
        /// Their indexes
        #[arg(value_parser = parse_index, required = true)]
        indexes: Vec<BlockIndex>,
        /// The records that begin there
        #[arg(long)]
        record: bool,
    },
    /// List occupied indexes with their lengths in bytes
    Keys {
        /// First index to list
        #[arg(long, value_name = "INDEX", value_parser = parse_index, default_value = "0")]
        from: BlockIndex,
        /// Most indexes to list [default: all]
        #[arg(long, value_name = "N")]
        max: Option<u64>,
    },
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let mut client = mounts::drive(arguments.mount.as_deref())?.connect()?;
    let namespace = arguments.namespace.as_str();
    match &arguments.command {
        &Command::Get {
            index,
            offset,
            len,
            record,
        } => {
            let len = len.unwrap_or(BLOCK_SIZE_MAX);
            let what = if record {
                GetWhat::Record
            } else {
                GetWhat::Slice { offset, len }
            };
            print(client.get(namespace, index, what)?)
        }
        Command::Put {
            index,
            offset,
            record,
            file,
        } => {
            let how = match offset {
                Some(offset) => PutHow::At(*offset),
                None if *record => PutHow::Record,
                None => PutHow::Whole,
            };
            let bytes = match file {
                Some(path) => File::open(path).and_then(bounded),
                None => bounded(io::stdin().lock()),
            };
            Ok(client.put(namespace, *index, how, &readable(bytes, file.as_ref())?)?)
        }
        Command::Rm { indexes, record } => {
            for &index in indexes {
                client.remove(namespace, index, *record)?;
            }
            Ok(())
        }
        &Command::Keys { from, max } => keys(&mut client, namespace, from, max.unwrap_or(u64::MAX)),
    }
}

/// Prints as the answers come, so that a long list begins at once.
fn keys(client: &mut Client, namespace: &str, mut from: BlockIndex, mut max: u64) -> Outcome {
    while max > 0 {
        let mut keys = client.keys(namespace, from)?;
        keys.truncate(usize::try_from(max).unwrap_or(usize::MAX));
        let Some(last) = keys.last() else { break };
        print(
            keys.iter()
                .map(|key| format!("{}\t{}\n", key.index, key.len))
                .collect::<String>(),
        )?;
        let Ok(next) = BlockIndex::new(last.index + 1) else {
            break;
        };
        from = next;
        max -= keys.len() as u64;
    }
    Ok(())
}

/// Reads one byte more than may be stored at most.
fn bounded(source: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source
        .take(CONTROL_PAYLOAD_MAX as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn readable(bytes: io::Result<Vec<u8>>, file: Option<&PathBuf>) -> Result<Vec<u8>, Failure> {
    let name = file.map_or("stdin".into(), |path| path.display().to_string());
    match bytes {
        Ok(bytes) if bytes.len() <= CONTROL_PAYLOAD_MAX => Ok(bytes),
        Ok(_) => {
            let most = human(CONTROL_PAYLOAD_MAX as u64);
            let context =
                format!("{name} has more than {most}\nhint: put it in parts, at indexes of their own");
            Err(Failure::failed(ErrorKind::TooLarge, context))
        }
        Err(source) => {
            let context = format!("cannot read {name}");
            Err(Error::new(ErrorKind::NotFound, context)
                .with_source(source)
                .into())
        }
    }
}

fn parse_index(text: &str) -> Result<BlockIndex, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number
        .ok()
        .and_then(|number| BlockIndex::new(number).ok())
        .ok_or_else(|| "an index is 0 to 2^48-1, decimal or with 0x in hexadecimal".into())
}

fn parse_in_block(text: &str) -> Result<u32, String> {
    u32::try_from(parse_bytes(text)?)
        .ok()
        .filter(|&bytes| bytes <= BLOCK_SIZE_MAX)
        .ok_or_else(|| "no block has more than 1M".into())
}
