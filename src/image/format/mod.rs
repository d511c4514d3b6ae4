//! Formats of disk images outside a drive: raw, qcow2 and vhdx, read and written as sparse disks.
//!
//! Readers parse untrusted bytes. Every offset and length is checked before it is used, a table is held by pieces of 4096
//! entries, and no call does more work than a piece of a table or the caller's buffer asks for. They run in the process of
//! the command line, never in that which serves a drive.

mod copy;
mod disk;
mod fields;
#[cfg(target_os = "linux")]
mod file;
mod kind;
#[cfg(target_os = "linux")]
mod open;
mod qcow2;
mod raw;
mod source;
mod table;
mod vhdx;

pub use copy::{Progress, copy, copy_stream};
pub use disk::{Disk, Run, Writer};
#[cfg(target_os = "linux")]
pub use file::FileSource;
pub use kind::Format;
#[cfg(target_os = "linux")]
pub use open::{Opened, open};
pub use qcow2::{Backing, NamedBacking, Qcow2, Qcow2Header, Qcow2Writer};
pub use raw::{Raw, RawWriter};
pub use source::{Sink, Source};
pub use vhdx::{Vhdx, VhdxWriter};
