//! The asking side of the control socket.

mod images;

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::protocol::{
    Answer, BlockKey, CheckReply, CloneRequest, DefragReply, DifferenceReply, ExportRequest, GetWhat, PutHow,
    Request, ScatteredReply, SealReply, SnapshotDeed, SnapshotReply, StatReply, SubjectRequest, UsageReply,
    receive, send,
};
use super::socket::{DeviceNumber, candidates};
use crate::error::{Error, ErrorKind, Result};
use crate::grid::BlockIndex;
use crate::limits::CONTROL_TIMEOUT_SECS;

/// A connection to the program that serves a mount.
pub struct Client {
    stream: UnixStream,
}

impl Client {
    /// Connects to the program that serves the mount with that device number, mounted by user `owner`.
    ///
    /// # Errors
    /// `NotFound` where nobody listens: the program is gone, or the drive is another user's.
    pub fn connect(device: DeviceNumber, owner: u32) -> Result<Self> {
        let mut reason = io::Error::from(io::ErrorKind::NotFound);
        for path in candidates(device, owner) {
            match UnixStream::connect(path) {
                Ok(stream) => return Self::new(stream).map_err(broken),
                Err(error) => reason = error,
            }
        }
        Err(Error::new(ErrorKind::NotFound, "no control socket answers").with_source(reason))
    }

    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_write_timeout(Some(Duration::from_secs(CONTROL_TIMEOUT_SECS)))?;
        Ok(Self { stream })
    }

    /// Totals of the drive.
    ///
    /// # Errors
    /// `Corrupt` where the connection breaks, here and below.
    pub fn stat(&mut self) -> Result<StatReply> {
        match self.ask(&Request::Stat, &[])? {
            (Answer::Stat(stat), _) => Ok(stat),
            _ => Err(nonsense()),
        }
    }

    /// Verifies every structure of the drive; writers wait meanwhile.
    ///
    /// # Errors
    /// `Corrupt` with what is damaged.
    pub fn check(&mut self) -> Result<CheckReply> {
        match self.ask(&Request::Check, &[])? {
            (Answer::Check(report), _) => Ok(report),
            _ => Err(nonsense()),
        }
    }

    /// Bytes of a block, or of a record that begins at `index`.
    ///
    /// # Errors
    /// `NotFound` for a namespace or record that does not exist, `Corrupt` for what is no record, `TooLarge` for a
    /// long one.
    pub fn get(&mut self, namespace: &str, index: BlockIndex, what: GetWhat) -> Result<Vec<u8>> {
        let request = Request::Get {
            namespace: namespace.to_owned(),
            index: index.get(),
            what,
        };
        self.ask(&request, &[]).map(|(_, payload)| payload)
    }

    /// Stores bytes in a block, or as a record from `index` on; a missing namespace is made.
    ///
    /// # Errors
    /// `Busy` for the drive's own namespace, `NoSpace`, `InvalidArgument` for what does not fit in the block.
    pub fn put(&mut self, namespace: &str, index: BlockIndex, how: PutHow, bytes: &[u8]) -> Result<()> {
        let request = Request::Put {
            namespace: namespace.to_owned(),
            index: index.get(),
            how,
        };
        self.ask(&request, bytes).map(drop)
    }

    /// Deletes a block, or the `record` that begins at `index`.
    ///
    /// # Errors
    /// `Busy` for the drive's own namespace, `NotFound` for a namespace or record that does not exist.
    pub fn remove(&mut self, namespace: &str, index: BlockIndex, record: bool) -> Result<()> {
        let request = Request::Remove {
            namespace: namespace.to_owned(),
            index: index.get(),
            record,
        };
        self.ask(&request, &[]).map(drop)
    }

    /// Occupied indexes from `from` on, ascending; no more than one answer holds.
    ///
    /// # Errors
    /// `NotFound` for a namespace that does not exist.
    pub fn keys(&mut self, namespace: &str, from: BlockIndex) -> Result<Vec<BlockKey>> {
        let request = Request::Keys {
            namespace: namespace.to_owned(),
            from: from.get(),
        };
        match self.ask(&request, &[])? {
            (Answer::Keys(keys), _) => Ok(keys),
            _ => Err(nonsense()),
        }
    }

    /// Creates, deletes or goes back to a snapshot.
    ///
    /// # Errors
    /// `InvalidArgument` for a bad name, `NotFound`, `Exists`, `NoSpace`.
    pub fn snapshot(&mut self, deed: SnapshotDeed, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.ask(&Request::Snapshot { deed, name }, &[]).map(drop)
    }

    /// All snapshots, oldest first.
    ///
    /// # Errors
    /// `Corrupt` where the connection breaks.
    pub fn snapshots(&mut self) -> Result<Vec<SnapshotReply>> {
        let mut all = Vec::new();
        loop {
            let skip = all.len() as u64;
            match self.ask(&Request::Snapshots { skip }, &[])? {
                (Answer::Snapshots(some), _) if some.is_empty() => return Ok(all),
                (Answer::Snapshots(some), _) => all.extend(some),
                _ => return Err(nonsense()),
            }
        }
    }

    /// What differs between two snapshots, or between one and the present.
    ///
    /// # Errors
    /// `NotFound`, `TooLarge` where one answer does not hold it.
    pub fn diff(&mut self, from: &str, to: Option<&str>) -> Result<Vec<DifferenceReply>> {
        let request = Request::Diff {
            from: from.to_owned(),
            to: to.map(str::to_owned),
        };
        let (_, payload) = self.ask(&request, &[])?;
        serde_json::from_slice(&payload).map_err(|source| nonsense().with_source(source))
    }

    /// Makes a writable copy of a directory in a snapshot.
    ///
    /// # Errors
    /// `NotFound`, `NotDirectory`, `InvalidArgument` for a bad name, `Exists`, `ReadOnly`, `NoSpace`.
    pub fn clone_snapshot(&mut self, clone: CloneRequest) -> Result<()> {
        self.ask(&Request::Clone(clone), &[]).map(drop)
    }

    /// What files, directories and snapshots take, each and together.
    ///
    /// # Errors
    /// `NotFound`, `Stale` and `NotDirectory` for what is there no more; `Corrupt` where they are too many for one
    /// request.
    pub fn usage(&mut self, subjects: &[SubjectRequest]) -> Result<UsageReply> {
        let subjects = serde_json::to_vec(subjects).map_err(|source| nonsense().with_source(source))?;
        let (_, payload) = self.ask(&Request::Usage, &subjects)?;
        serde_json::from_slice(&payload).map_err(|source| nonsense().with_source(source))
    }

    /// Holds equal blocks once, now; returns when all files were looked at.
    ///
    /// # Errors
    /// `Corrupt` where the connection breaks.
    pub fn seal(&mut self) -> Result<SealReply> {
        match self.ask(&Request::Seal, &[])? {
            (Answer::Sealed(reply), _) => Ok(reply),
            _ => Err(nonsense()),
        }
    }

    /// Which files, of those below the subjects, have something to be brought together.
    ///
    /// # Errors
    /// `NotFound`, `Stale` and `NotDirectory` for what is there no more; `ReadOnly` for what is in a snapshot; `TooLarge`
    /// where one answer does not hold it.
    pub fn scattered(&mut self, subjects: &[SubjectRequest]) -> Result<ScatteredReply> {
        let subjects = serde_json::to_vec(subjects).map_err(|source| nonsense().with_source(source))?;
        let (_, payload) = self.ask(&Request::Scattered, &subjects)?;
        serde_json::from_slice(&payload).map_err(|source| nonsense().with_source(source))
    }

    /// Brings together what is scattered in files, the first from an offset on, for a moment.
    ///
    /// # Errors
    /// `Corrupt` where the connection breaks.
    pub fn defragment(&mut self, files: &[u64], offset: u64) -> Result<DefragReply> {
        let files = serde_json::to_vec(files).map_err(|source| nonsense().with_source(source))?;
        match self.ask(&Request::Defragment { offset }, &files)? {
            (Answer::Defragmented(reply), _) => Ok(reply),
            _ => Err(nonsense()),
        }
    }

    /// Brings small blocks together, and gives free memory back to the system; returns how many bytes.
    ///
    /// # Errors
    /// `Corrupt` where the connection breaks.
    pub fn gather(&mut self) -> Result<u64> {
        match self.ask(&Request::Gather, &[])? {
            (Answer::Gathered { bytes }, _) => Ok(bytes),
            _ => Err(nonsense()),
        }
    }

    /// Waits until the program has ended and its memory is free; `false` where `timeout` is over before.
    ///
    /// # Errors
    /// `Corrupt` where the connection cannot be used.
    pub fn await_end(mut self, timeout: Duration) -> Result<bool> {
        self.stream.set_read_timeout(Some(timeout)).map_err(broken)?;
        if send(&mut self.stream, &Request::AwaitEnd, &[]).is_err() {
            return Ok(true);
        }
        match receive::<Answer>(&mut self.stream) {
            Ok(Some(_)) => Ok(false),
            Ok(None) => Ok(true),
            Err(error) => Ok(error.kind() != io::ErrorKind::WouldBlock),
        }
    }

    /// Shows images to other programs, until the returned export ends.
    ///
    /// # Errors
    /// `Busy` where somebody listens there already or there are too many exports, `Exists` where something else than a
    /// socket is there, `NotPermitted`.
    pub fn export(mut self, export: ExportRequest) -> Result<RunningExport> {
        match self.ask(&Request::Export(export), &[])? {
            (Answer::Exported(address), _) => Ok(RunningExport {
                stream: self.stream,
                address,
                stopped: Arc::default(),
            }),
            _ => Err(nonsense()),
        }
    }

    fn ask(&mut self, request: &Request, payload: &[u8]) -> Result<(Answer, Vec<u8>)> {
        let sent = send(&mut self.stream, request, payload);
        // A server that refuses the connection says why and does not read the request.
        match receive(&mut self.stream) {
            Ok(Some((Answer::Failed { kind, message }, _))) => Err(Error::new(kind, message)),
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(broken(io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(broken(sent.err().unwrap_or(error))),
        }
    }
}

/// An export that runs as long as this process, or until it is stopped.
pub struct RunningExport {
    stream: UnixStream,
    address: String,
    stopped: Arc<AtomicBool>,
}

impl RunningExport {
    /// Where clients connect, as they write it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What stops the export, for another thread.
    ///
    /// # Errors
    /// `Corrupt` where the connection cannot be used.
    pub fn stopper(&self) -> Result<impl FnOnce() + Send + 'static> {
        let stream = self.stream.try_clone().map_err(broken)?;
        let stopped = Arc::clone(&self.stopped);
        Ok(move || {
            stopped.store(true, Ordering::Release);
            // It fails where the export has ended already.
            let _ = stream.shutdown(Shutdown::Write);
        })
    }

    /// Waits until the export has ended; returns whether by its stopper, and not with the drive.
    pub fn join(mut self) -> bool {
        let _ = receive::<Answer>(&mut self.stream);
        self.stopped.load(Ordering::Acquire)
    }
}

fn broken(source: io::Error) -> Error {
    Error::new(ErrorKind::Corrupt, "the control connection broke").with_source(source)
}

fn nonsense() -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "the answer belongs to another question\nhint: client and drive may be of different versions",
    )
}
