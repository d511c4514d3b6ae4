//! The VMM and the driver of a vhost-user disk, well behaved or not: one mapping stands for the guest's memory.
//!
//! ```text
//! memory:  QUEUE_BYTES for each queue:  descriptors | available | used | header, status, table | data
//! ```

mod machine;
mod requests;
mod ring;
mod wire;

pub use machine::{MEMORY_START, Machine, QUEUE_BYTES};
pub use requests::{Answer, DATA_MAX, DEPTH_MAX, Data};
pub use wire::{Descriptor, Layout, QUEUE_SIZE, feature, flag, kind, linked, status};
