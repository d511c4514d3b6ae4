//! qcow2: QEMU's format, a header and two levels of tables above clusters of 512 bytes to 2 MiB.
//!
//! The source is QEMU's `docs/interop/qcow2.rst`. All numbers are big-endian.
//!
//! ```text
//! header ──> L1 table ──> L2 tables ──> clusters, plain or packed
//!    │                        │
//!    │                        ├─ zeros
//!    └──> name of a backing   └─ nothing: the backing file's bytes, zeros without one
//!         file                      bit 63       62      61 … 9 (55)        0
//! L2 entry of a plain cluster:      copied   0 | offset in the file    | zeros (v3)
//! L2 entry of a packed cluster:     0        1 | sectors - 1 | offset, 70 - cluster bits of it
//! ```

mod header;
mod packed;
mod reader;
mod writer;

pub use header::{Backing, Qcow2Header};
pub use reader::Qcow2;
pub use writer::{NamedBacking, Qcow2Writer};

pub(super) use header::MAGIC;
