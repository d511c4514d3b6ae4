//! What the control socket answers from: the grid and the volume.

mod images;

use std::any::Any;
use std::sync::Arc;

use super::protocol::{
    Answer, BlockKey, CheckReply, CloneRequest, DefragReply, DifferenceReply, ExportRequest, FileUsageReply,
    GetWhat, NamespaceReply, PutHow, Request, ScatteredReply, SealReply, SnapshotDeed, SnapshotReply,
    StatReply, SubjectRequest, UsageReply,
};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{CloneSnapshot, Difference, FileUsage, Subject, Volume};
use crate::grid::{BlockIndex, Grid, Namespace, Slice, Usage};
use crate::image::Images;
use crate::limits::{CONTROL_KEYS_MAX, CONTROL_PAYLOAD_MAX, CONTROL_SNAPSHOTS_MAX};
use crate::vfs::Ino;

/// The namespace of the volume; its blocks belong to files.
pub const DRIVE_NAMESPACE: &str = "drive";

/// Numbers of requests by operation.
type Requests = dyn Fn() -> Vec<(&'static str, u64)> + Send + Sync;

/// Starts an export.
type Exporter = dyn Fn(&ExportRequest) -> Result<Export> + Send + Sync;

/// An export that was started.
pub struct Export {
    /// Where clients connect, as they write it.
    pub address: String,
    /// Dropping this ends it.
    pub running: Box<dyn Any + Send>,
}

/// What requests are about.
pub struct Served {
    /// The grid.
    pub grid: Arc<Grid>,
    /// The volume on it.
    pub volume: Arc<Volume>,
    /// The images in that.
    pub images: Arc<Images>,
}

/// Answers requests from a grid and the volume on it.
pub struct Service {
    grid: Arc<Grid>,
    volume: Arc<Volume>,
    images: Arc<Images>,
    transport: String,
    requests: Box<Requests>,
    exporter: Box<Exporter>,
}

impl Service {
    /// `transport` says by what the requests for the volume come, `requests` what they were; `exporter` starts exports.
    pub fn new(
        served: Served,
        transport: String,
        requests: impl Fn() -> Vec<(&'static str, u64)> + Send + Sync + 'static,
        exporter: impl Fn(&ExportRequest) -> Result<Export> + Send + Sync + 'static,
    ) -> Self {
        Self {
            grid: served.grid,
            volume: served.volume,
            images: served.images,
            transport,
            requests: Box::new(requests),
            exporter: Box::new(exporter),
        }
    }

    /// Starts an export.
    pub(super) fn export(&self, wanted: &ExportRequest) -> Result<Export> {
        (self.exporter)(wanted)
    }

    /// Does what is asked; returns the answer and its payload.
    pub(super) fn answer(&self, request: &Request, payload: &[u8]) -> (Answer, Vec<u8>) {
        self.perform(request, payload).unwrap_or_else(|error| {
            let failed = Answer::Failed {
                kind: error.kind(),
                message: error.to_string(),
            };
            (failed, Vec::new())
        })
    }

    fn perform(&self, request: &Request, payload: &[u8]) -> Result<(Answer, Vec<u8>)> {
        let answer = match request {
            Request::Stat => Answer::Stat(self.stat()),
            Request::Check => Answer::Check(self.check()?),
            Request::Get {
                namespace,
                index,
                what,
            } => return Ok((Answer::Done, self.get(namespace, *index, *what)?)),
            Request::Put {
                namespace,
                index,
                how,
            } => self.put(namespace, *index, *how, payload)?,
            Request::Remove {
                namespace,
                index,
                record,
            } => self.remove(namespace, *index, *record)?,
            Request::Keys { namespace, from } => self.keys(namespace, *from)?,
            Request::Snapshot { deed, name } => self.snapshot(*deed, name)?,
            Request::Snapshots { skip } => self.snapshots(*skip),
            Request::Diff { from, to } => return Ok((Answer::Done, self.diff(from, to.as_deref())?)),
            Request::Clone(clone) => self.clone_snapshot(clone)?,
            Request::Usage => return Ok((Answer::Done, self.usage(payload)?)),
            Request::Seal => Answer::Sealed(self.seal()),
            Request::Scattered => return Ok((Answer::Done, self.scattered(payload)?)),
            Request::Defragment { offset } => self.defragment(*offset, payload)?,
            Request::Image(request) => return self.image(request, payload),
            Request::Fleet => return Ok((Answer::Done, self.make_fleet(payload)?)),
            Request::Gather => Answer::Gathered {
                bytes: self.volume.gather(),
            },
            // Those last as long as their connection, which the server keeps.
            Request::AwaitEnd | Request::Export(_) => Answer::Done,
        };
        Ok((answer, Vec::new()))
    }

    fn stat(&self) -> StatReply {
        let (total, volume) = (self.grid.usage(), self.volume.stat());
        let taken = total.held_bytes.saturating_add(total.metadata_bytes);
        StatReply {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            block_size: self.grid.block_size(),
            size_bytes: total.limit_bytes,
            logical_bytes: volume.logical_bytes,
            held_bytes: total.held_bytes,
            shared_bytes: (volume.logical_bytes + volume.snapshot_bytes)
                .saturating_sub(volume.usage.plain_bytes()),
            metadata_bytes: total.metadata_bytes,
            sealed_blocks: volume.usage.sealed_blocks,
            compressed_blocks: volume.usage.compressed_blocks,
            compressed_bytes: volume.usage.compressed_plain_bytes,
            compressed_held_bytes: volume.usage.compressed_held_bytes,
            unsealed_inodes: volume.unsealed_inodes,
            free_bytes: total.limit_bytes.saturating_sub(taken),
            resident_bytes: self.grid.resident_bytes(),
            inodes: volume.inodes,
            inodes_max: volume.inodes_max,
            snapshots: volume.snapshots,
            snapshot_bytes: volume.snapshot_bytes,
            transport: self.transport.clone(),
            namespaces: self
                .grid
                .namespaces()
                .iter()
                .map(|n| namespace_reply(n))
                .collect(),
            requests: (self.requests)()
                .into_iter()
                .map(|(operation, count)| (operation.to_owned(), count))
                .collect(),
        }
    }

    fn seal(&self) -> SealReply {
        let report = self.volume.seal_all();
        SealReply {
            read_bytes: report.read_bytes,
            sealed_blocks: report.sealed_blocks,
            shared_blocks: report.shared_blocks,
            shared_bytes: report.shared_bytes,
            zero_bytes: report.zero_bytes,
            compressed_bytes: report.compressed_bytes,
        }
    }

    fn check(&self) -> Result<CheckReply> {
        self.grid.check_bytes()?;
        let report = self.volume.check_and(|| self.grid.check_figures())?;
        Ok(CheckReply {
            inodes: report.inodes,
            directories: report.directories,
            entries: report.entries,
            files: report.files,
            snapshots: report.snapshots,
        })
    }

    fn get(&self, namespace: &str, index: u64, what: GetWhat) -> Result<Vec<u8>> {
        let (namespace, index) = (self.existing(namespace)?, BlockIndex::new(index)?);
        let mut bytes = Vec::new();
        match what {
            GetWhat::Slice { offset, len } => {
                let slice = Slice { offset, len };
                namespace.get(&[(index, slice)], &mut |_, part| bytes.extend_from_slice(part));
            }
            GetWhat::Record => namespace.get_record(index, &mut bytes)?,
        }
        if bytes.len() > CONTROL_PAYLOAD_MAX {
            let context = format!(
                "the record at {} has {} bytes, too many for one answer\nhint: get its blocks one by one",
                index.get(),
                bytes.len()
            );
            return Err(Error::new(ErrorKind::TooLarge, context));
        }
        Ok(bytes)
    }

    fn put(&self, namespace: &str, index: u64, how: PutHow, bytes: &[u8]) -> Result<Answer> {
        refuse_drive(namespace)?;
        let namespace = self.grid.create_namespace(namespace, None)?;
        let index = BlockIndex::new(index)?;
        match how {
            PutHow::Whole if bytes.is_empty() => namespace.put(&[(index, 0, &[])])?,
            PutHow::Whole if bytes.len() > namespace.block_size() as usize => {
                let context = format!(
                    "{} bytes are more than a block of {} holds\nhint: put them as a record, which takes several",
                    bytes.len(),
                    namespace.block_size()
                );
                return Err(Error::new(ErrorKind::InvalidArgument, context));
            }
            PutHow::Whole => namespace.put(&[(index, 0, &[]), (index, 0, bytes)])?,
            PutHow::At(offset) => namespace.put(&[(index, offset, bytes)])?,
            PutHow::Record => namespace.put_record(index, bytes)?,
        }
        Ok(Answer::Done)
    }

    fn remove(&self, namespace: &str, index: u64, record: bool) -> Result<Answer> {
        refuse_drive(namespace)?;
        let (namespace, index) = (self.existing(namespace)?, BlockIndex::new(index)?);
        match record {
            true => namespace.remove_record(index)?,
            false => namespace.put(&[(index, 0, &[])])?,
        }
        Ok(Answer::Done)
    }

    fn keys(&self, namespace: &str, from: u64) -> Result<Answer> {
        let keys = self
            .existing(namespace)?
            .keys(BlockIndex::new(from)?, CONTROL_KEYS_MAX);
        let keys = keys.into_iter().map(|(index, len)| BlockKey {
            index: index.get(),
            len,
        });
        Ok(Answer::Keys(keys.collect()))
    }

    fn snapshot(&self, deed: SnapshotDeed, name: &str) -> Result<Answer> {
        match deed {
            SnapshotDeed::Create => self.volume.create_snapshot(name)?,
            SnapshotDeed::Delete => self.volume.delete_snapshot(name)?,
            SnapshotDeed::Rollback => self.volume.rollback(name)?,
        }
        Ok(Answer::Done)
    }

    fn snapshots(&self, skip: u64) -> Answer {
        let listed = self.volume.list_snapshots().into_iter();
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let page = listed.skip(skip).take(CONTROL_SNAPSHOTS_MAX);
        let reply = page.map(|snapshot| SnapshotReply {
            name: snapshot.name,
            created_secs: snapshot.created.secs,
            changed_inodes: snapshot.changed_inodes,
            metadata_bytes: snapshot.metadata_bytes,
            private_bytes: snapshot.private_bytes,
        });
        Answer::Snapshots(reply.collect())
    }

    fn diff(&self, from: &str, to: Option<&str>) -> Result<Vec<u8>> {
        let differences = self.volume.diff(from, to)?.into_iter();
        let replies: Vec<_> = differences.map(difference_reply).collect();
        let bytes = to_json(&replies)?;
        if bytes.len() > CONTROL_PAYLOAD_MAX {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("{} differences are too many for one answer", replies.len()),
            ));
        }
        Ok(bytes)
    }

    fn clone_snapshot(&self, clone: &CloneRequest) -> Result<Answer> {
        self.volume.clone_snapshot(&CloneSnapshot {
            snapshot: &clone.snapshot,
            path: clone.path.as_bytes(),
            dir: Ino(clone.dir),
            name: clone.name.as_bytes(),
        })?;
        Ok(Answer::Done)
    }

    fn usage(&self, subjects: &[u8]) -> Result<Vec<u8>> {
        let report = self.volume.usage(&subjects_of(subjects)?)?;
        to_json(&UsageReply {
            each: report.each.into_iter().map(usage_reply).collect(),
            total: usage_reply(report.total),
        })
    }

    fn scattered(&self, subjects: &[u8]) -> Result<Vec<u8>> {
        let found = self.volume.scattered(&subjects_of(subjects)?)?;
        let reply = ScatteredReply {
            files: found.files,
            extents: found.extents,
            scattered: found.scattered.iter().map(|(ino, len)| (ino.0, *len)).collect(),
        };
        let what = format!("{} files", reply.scattered.len());
        bounded_json(&reply, &what, "name directories, one after the other")
    }

    fn defragment(&self, offset: u64, files: &[u8]) -> Result<Answer> {
        let files: Vec<u64> = from_json(files, "not a list of inode numbers")?;
        let files: Vec<Ino> = files.into_iter().map(Ino).collect();
        let step = self.volume.defragment(&files, offset);
        Ok(Answer::Defragmented(DefragReply {
            done: step.done,
            offset: step.offset,
            extents: step.merged.extents,
            freed_bytes: step.merged.freed_bytes,
        }))
    }

    fn existing(&self, name: &str) -> Result<Arc<Namespace>> {
        self.grid.namespace(name).ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!(
                    "there is no namespace `{name}`\nhint: `okapi stat` lists them; the first put makes one"
                ),
            )
        })
    }
}

fn namespace_reply(namespace: &Namespace) -> NamespaceReply {
    let Usage {
        blocks,
        stored_bytes,
        held_bytes,
        limit_bytes,
        ..
    } = namespace.usage();
    NamespaceReply {
        name: namespace.name().to_owned(),
        blocks,
        stored_bytes,
        held_bytes,
        quota_bytes: (limit_bytes != u64::MAX).then_some(limit_bytes),
    }
}

fn to_json(reply: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(reply)
        .map_err(|source| Error::new(ErrorKind::Corrupt, "cannot write JSON").with_source(source))
}

/// Refuses what one answer cannot carry: says of `what` there is too much, and the `cure`.
fn bounded_json(reply: &impl serde::Serialize, what: &str, cure: &str) -> Result<Vec<u8>> {
    let bytes = to_json(reply)?;
    match bytes.len() > CONTROL_PAYLOAD_MAX {
        false => Ok(bytes),
        true => Err(Error::new(
            ErrorKind::TooLarge,
            format!("{what} are too many for one answer\nhint: {cure}"),
        )),
    }
}

fn from_json<T: serde::de::DeserializeOwned>(bytes: &[u8], complaint: &'static str) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|source| Error::new(ErrorKind::InvalidArgument, complaint).with_source(source))
}

fn subjects_of(payload: &[u8]) -> Result<Vec<Subject>> {
    let subjects: Vec<SubjectRequest> = from_json(payload, "not a list of subjects")?;
    Ok(subjects.into_iter().map(subject).collect())
}

fn subject(request: SubjectRequest) -> Subject {
    match request {
        SubjectRequest::Tree(ino) => Subject::Tree(Ino(ino)),
        SubjectRequest::Name { dir, name } => Subject::Name {
            dir: Ino(dir),
            name: name.as_bytes().into(),
        },
    }
}

fn usage_reply(usage: FileUsage) -> FileUsageReply {
    FileUsageReply {
        files: usage.files,
        logical_bytes: usage.logical_bytes,
        referenced_bytes: usage.referenced_bytes,
        private_bytes: usage.private_bytes,
        shared_bytes: usage.shared_bytes(),
        sharing_files: usage.sharing_files,
    }
}

fn difference_reply(difference: Difference) -> DifferenceReply {
    match difference {
        Difference::Added { path } => DifferenceReply::Added { path: path.into() },
        Difference::Removed { path } => DifferenceReply::Removed { path: path.into() },
        Difference::Renamed { from, to } => DifferenceReply::Renamed {
            from: from.into(),
            path: to.into(),
        },
        Difference::Modified {
            path,
            ranges,
            attributes,
        } => DifferenceReply::Modified {
            path: path.into(),
            ranges,
            attributes,
        },
    }
}

fn refuse_drive(namespace: &str) -> Result<()> {
    match namespace {
        DRIVE_NAMESPACE => Err(Error::new(
            ErrorKind::Busy,
            "the blocks of namespace `drive` belong to files\nhint: write the file, or use another --namespace",
        )),
        _ => Ok(()),
    }
}
