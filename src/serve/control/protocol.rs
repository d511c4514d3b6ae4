//! Messages of the control socket, and how they are framed.
//!
//! ```text
//! message:  header length  u32, little-endian, 1 to CONTROL_HEADER_MAX
//!           header         JSON: a Request, or an Answer
//!           payload length u64, little-endian, 0 to CONTROL_PAYLOAD_MAX
//!           payload        bytes of blocks
//! ```
//! A client sends a request and reads its answer, as often as it likes, one at a time.

mod images;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::ErrorKind;
use crate::limits::{CONTROL_HEADER_MAX, CONTROL_PAYLOAD_MAX};

pub(super) use images::ImageRequest;
pub use images::{ImageCheckReply, ImageDiffReply, ImageReply, RebaseReply, ResizeReply, SizeRequest};

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Request {
    /// Totals; answered by [`Answer::Stat`].
    Stat,
    /// Verify every structure; answered by [`Answer::Check`].
    Check,
    /// Bytes; answered by [`Answer::Done`] with a payload.
    Get {
        namespace: String,
        index: u64,
        what: GetWhat,
    },
    /// Store the payload; answered by [`Answer::Done`].
    Put {
        namespace: String,
        index: u64,
        how: PutHow,
    },
    /// Delete a block, or a record over several; answered by [`Answer::Done`].
    Remove {
        namespace: String,
        index: u64,
        record: bool,
    },
    /// Occupied indexes from `from` on; answered by [`Answer::Keys`].
    Keys { namespace: String, from: u64 },
    /// Create, delete or go back to a snapshot; answered by [`Answer::Done`].
    Snapshot { deed: SnapshotDeed, name: String },
    /// Snapshots, oldest first, without the first `skip`; answered by [`Answer::Snapshots`].
    Snapshots { skip: u64 },
    /// What differs between snapshots; answered by [`Answer::Done`] with a payload: JSON, an array of
    /// [`DifferenceReply`].
    Diff { from: String, to: Option<String> },
    /// Make a writable copy of a directory in a snapshot; answered by [`Answer::Done`].
    Clone(CloneRequest),
    /// What files take. The payload is JSON, an array of [`SubjectRequest`]; answered by [`Answer::Done`] with a payload:
    /// JSON, a [`UsageReply`].
    Usage,
    /// Hold equal blocks once, now; answered by [`Answer::Sealed`].
    Seal,
    /// Show images to other programs while the connection lasts; answered by [`Answer::Exported`].
    Export(ExportRequest),
    /// Which files are scattered. The payload is JSON, an array of [`SubjectRequest`]; answered by [`Answer::Done`] with a
    /// payload: JSON, a [`ScatteredReply`].
    Scattered,
    /// Bring together what is scattered in files, the first from an offset on, as long as a step may take. The payload is
    /// JSON, an array of inode numbers; answered by [`Answer::Defragmented`].
    Defragment { offset: u64 },
    /// Bring small blocks together, and give free memory back to the system; answered by [`Answer::Gathered`].
    Gather,
    /// Make, show, compare or remove images.
    Image(ImageRequest),
    /// Make the members of a fleet. The payload is JSON, a [`FleetRequest`](crate::image::fleet::FleetRequest); answered by
    /// [`Answer::Done`] with a payload: JSON, a [`FleetReply`](crate::image::fleet::FleetReply).
    Fleet,
    /// Never answered: the connection closes when the program behind it has ended and its memory is free.
    AwaitEnd,
}

/// What [`Client::get`](super::Client::get) asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GetWhat {
    /// The bytes of a block from `offset` on, at most `len`, and none where the block is missing or shorter.
    Slice {
        /// First byte.
        offset: u32,
        /// Bytes.
        len: u32,
    },
    /// The record that begins at the index.
    Record,
}

/// What [`Client::clone_snapshot`](super::Client::clone_snapshot) makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneRequest {
    /// Name of the snapshot.
    pub snapshot: String,
    /// Path of a directory in it; empty for all of it.
    pub path: PathReply,
    /// Inode number of the directory in which the clone gets its name.
    pub dir: u64,
    /// Its name.
    pub name: PathReply,
}

/// What [`Client::usage`](super::Client::usage) asks about, by inode numbers as stat(2) shows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SubjectRequest {
    /// A directory and all that is below it.
    Tree(u64),
    /// What has a name in a directory.
    Name {
        /// The directory.
        dir: u64,
        /// The name.
        name: PathReply,
    },
}

/// How [`Client::put`](super::Client::put) stores bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PutHow {
    /// As all that is in the block; no bytes delete it.
    Whole,
    /// At this byte inside the block; the rest of it stays.
    At(u32),
    /// As a record of any length, over as many blocks as it needs.
    Record,
}

/// What is done with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotDeed {
    /// Freeze the present state under the name.
    Create,
    /// Free what only this snapshot holds.
    Delete,
    /// Make the drive what it was.
    Rollback,
}

/// An export that [`Client::export`](super::Client::export) asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExportRequest {
    /// All images, as network block devices.
    Nbd {
        /// Where clients connect.
        listen: ListenAt,
        /// Refuse changes.
        read_only: bool,
    },
    /// One image, as a disk for virtual machines.
    VhostUserBlk {
        /// Its name.
        image: String,
        /// Where they connect: a socket at this absolute path, for the drive's owner alone.
        socket: PathBuf,
        /// Refuse changes.
        read_only: bool,
        /// Queues that a virtual machine may use.
        queues: u16,
    },
}

/// Where clients of an export connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListenAt {
    /// A socket beside the control socket.
    Own,
    /// A socket at this absolute path, for the drive's owner alone.
    Unix(PathBuf),
    /// A port, for whoever reaches it.
    Tcp(SocketAddr),
}

/// What the server answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Answer {
    Done,
    Stat(StatReply),
    Check(CheckReply),
    Keys(Vec<BlockKey>),
    Snapshots(Vec<SnapshotReply>),
    Sealed(SealReply),
    Defragmented(DefragReply),
    Gathered {
        bytes: u64,
    },
    Rebased(RebaseReply),
    Resized(ResizeReply),
    /// The address, as clients of the export write it.
    Exported(String),
    Failed {
        kind: ErrorKind,
        message: String,
    },
}

/// Totals of a drive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatReply {
    /// Version of the program that serves.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Largest block in bytes.
    pub block_size: u32,
    /// Bound on all memory that the drive holds, in bytes.
    pub size_bytes: u64,
    /// Bytes that files show, shared ones as often as they are shown.
    pub logical_bytes: u64,
    /// Bytes of memory that blocks take.
    pub held_bytes: u64,
    /// Bytes that files show and that take no memory, because others hold them.
    pub shared_bytes: u64,
    /// Bytes that inodes, names and attributes take.
    pub metadata_bytes: u64,
    /// Blocks that were looked at, and are found by others that are equal.
    pub sealed_blocks: u64,
    /// Blocks that are held compressed.
    pub compressed_blocks: u64,
    /// Bytes of memory that these would take if they were not.
    pub compressed_bytes: u64,
    /// Bytes of memory that they take.
    pub compressed_held_bytes: u64,
    /// Inodes with changes in which equal blocks are still to be looked for.
    pub unsealed_inodes: u64,
    /// Bytes that writers may still take.
    pub free_bytes: u64,
    /// Bytes of the arena that the system has given pages to.
    pub resident_bytes: u64,
    /// Inodes in use.
    pub inodes: u64,
    /// Inodes that there can be.
    pub inodes_max: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Memory of files' bytes that only snapshots hold.
    pub snapshot_bytes: u64,
    /// What each namespace holds.
    pub namespaces: Vec<NamespaceReply>,
    /// Requests of the kernel by operation.
    pub requests: BTreeMap<String, u64>,
    /// By what the requests come, and why not by io_uring where they do not.
    pub transport: String,
}

/// What a namespace holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceReply {
    /// Its name.
    pub name: String,
    /// Its blocks.
    pub blocks: u64,
    /// Bytes in them.
    pub stored_bytes: u64,
    /// Bytes of memory that they take.
    pub held_bytes: u64,
    /// Bound on held bytes and metadata; `None` where only the drive's size bounds them.
    pub quota_bytes: Option<u64>,
}

/// What a check went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReply {
    /// Inodes.
    pub inodes: u64,
    /// Directories among them.
    pub directories: u64,
    /// Directory entries.
    pub entries: u64,
    /// Regular files.
    pub files: u64,
    /// Snapshots.
    pub snapshots: u64,
}

/// What looking for equal blocks has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealReply {
    /// Bytes that were read: those that were not sealed yet.
    pub read_bytes: u64,
    /// Blocks that are sealed now.
    pub sealed_blocks: u64,
    /// Blocks in whose place an equal one is held now.
    pub shared_blocks: u64,
    /// Memory that this gave back.
    pub shared_bytes: u64,
    /// Memory of zeros that became holes.
    pub zero_bytes: u64,
    /// Memory that compression gave back, on a drive that compresses.
    pub compressed_bytes: u64,
}

/// What there may be to bring together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScatteredReply {
    /// Regular files that were looked at.
    pub files: u64,
    /// Extents that they have.
    pub extents: u64,
    /// Inode numbers of those for which there may be something to do, and their lengths in bytes.
    pub scattered: Vec<(u64, u64)>,
}

/// What one step of bringing together has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefragReply {
    /// Files that are done: the first ones of those that were given.
    pub done: usize,
    /// Where to go on in the file behind them.
    pub offset: u64,
    /// How many extents fewer there are.
    pub extents: u64,
    /// Memory that this freed.
    pub freed_bytes: u64,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotReply {
    /// Its name.
    pub name: String,
    /// When it was made: seconds since 1970.
    pub created_secs: i64,
    /// Inodes of which it has kept the state, because they have changed after it and before the next snapshot.
    pub changed_inodes: u64,
    /// Bytes charged for it, beside those of files.
    pub metadata_bytes: u64,
    /// Memory of files' bytes that only it holds.
    pub private_bytes: u64,
}

/// A difference between two states of a drive. Paths are relative to its root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "lowercase")]
pub enum DifferenceReply {
    /// A name that only the newer state has.
    Added {
        /// Where.
        path: PathReply,
    },
    /// A name that only the older state has.
    Removed {
        /// Where.
        path: PathReply,
    },
    /// An inode that has another name.
    Renamed {
        /// Where it was.
        from: PathReply,
        /// Where it is.
        path: PathReply,
    },
    /// An inode that has other bytes or attributes.
    Modified {
        /// Where it is.
        path: PathReply,
        /// Bytes that differ, from the first to before the second.
        ranges: Vec<(u64, u64)>,
        /// Whether attributes differ.
        attributes: bool,
    },
}

/// A path: text, or bytes where it is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PathReply {
    /// UTF-8.
    Text(String),
    /// Anything else.
    Bytes(Vec<u8>),
}

impl From<Vec<u8>> for PathReply {
    fn from(path: Vec<u8>) -> Self {
        String::from_utf8(path).map_or_else(|error| Self::Bytes(error.into_bytes()), Self::Text)
    }
}

impl PathReply {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// What regular files take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileUsageReply {
    /// Files; one with several names counts once.
    pub files: u64,
    /// Sum of their lengths.
    pub logical_bytes: u64,
    /// Memory of the blocks that they use, each counted once.
    pub referenced_bytes: u64,
    /// Memory that they have for themselves.
    pub private_bytes: u64,
    /// Memory that others hold too.
    pub shared_bytes: u64,
    /// Files elsewhere, and states of files that snapshots have kept, with which they share.
    pub sharing_files: u64,
}

/// What several subjects take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageReply {
    /// Each by itself, in the order of the request.
    pub each: Vec<FileUsageReply>,
    /// All together.
    pub total: FileUsageReply,
}

/// An occupied index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockKey {
    /// Index of the block.
    pub index: u64,
    /// Bytes in it.
    pub len: u32,
}

/// Sends a message.
pub(super) fn send(stream: &mut impl Write, header: &impl Serialize, payload: &[u8]) -> io::Result<()> {
    let header = serde_json::to_vec(header)?;
    let len = u32::try_from(header.len())
        .ok()
        .filter(|&len| len as usize <= CONTROL_HEADER_MAX)
        .ok_or_else(|| too_long("header"))?;
    let mut head = Vec::with_capacity(header.len() + 12);
    head.extend_from_slice(&len.to_le_bytes());
    head.extend_from_slice(&header);
    head.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    stream.write_all(&head)?;
    stream.write_all(payload)
}

/// Receives a message; `None` where the peer has closed the connection between two.
pub(super) fn receive<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<Option<(T, Vec<u8>)>> {
    let mut len = [0; 4];
    match stream.read(&mut len)? {
        0 => return Ok(None),
        got => stream.read_exact(&mut len[got..])?,
    }
    let header = receive_bytes(stream, u32::from_le_bytes(len).into(), CONTROL_HEADER_MAX)?;
    let mut len = [0; 8];
    stream.read_exact(&mut len)?;
    let payload = receive_bytes(stream, u64::from_le_bytes(len), CONTROL_PAYLOAD_MAX)?;
    Ok(Some((serde_json::from_slice(&header)?, payload)))
}

/// Takes memory as bytes come in, not as the peer claims that they will.
fn receive_bytes(stream: &mut impl Read, len: u64, max: usize) -> io::Result<Vec<u8>> {
    if len > max as u64 {
        return Err(too_long("message"));
    }
    let mut bytes = Vec::new();
    match stream.take(len).read_to_end(&mut bytes)? as u64 {
        got if got == len => Ok(bytes),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn too_long(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} too long"))
}
