//! The control socket: what `okapi stat`, `check`, `clone`, `defrag`, `du`, `grid`, `image`, `snapshot` and `export` ask
//! of a mounted drive.
//!
//! Only the drive's owner and root may connect. The socket is named after the mount's device number, which no two
//! living mounts share, so that it is found without touching the mount, which may be dead.

mod client;
mod protocol;
mod server;
mod service;
mod socket;
#[cfg(test)]
mod tests;

pub use client::{Client, RunningExport};
pub use protocol::{
    BlockKey, CheckReply, CloneRequest, DefragReply, DifferenceReply, ExportRequest, FileUsageReply, GetWhat,
    ImageCheckReply, ImageDiffReply, ImageReply, ListenAt, NamespaceReply, PathReply, PutHow, RebaseReply,
    ResizeReply, ScatteredReply, SealReply, SizeRequest, SnapshotDeed, SnapshotReply, StatReply,
    SubjectRequest, UsageReply,
};
pub use server::Server;
pub use service::{DRIVE_NAMESPACE, Export, Served, Service};
pub use socket::{DeviceNumber, SocketFile, remove_stale_socket};
