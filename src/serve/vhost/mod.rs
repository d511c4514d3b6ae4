//! An image as the disk of a virtual machine: virtio-blk, served over a vhost-user socket.
//!
//! ```text
//! VMM ── socket ── server ── backend ─┬─ chain: what a request names in the guest's memory
//!                                     └─ request ── image ── Vfs
//! ```
//! The protocols are the public ones (vhost-user of the QEMU project; virtio 1.2, sections 2.7 and 5.2). The VMM hands its
//! guest's memory over, and is trusted with that as whoever may write to the drive is; the guest is trusted with nothing.

mod backend;
mod chain;
mod config;
mod exit;
mod request;
mod ring;
mod server;

pub use server::{Disk, Server};
