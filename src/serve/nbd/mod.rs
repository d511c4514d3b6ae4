//! The images of a drive as network block devices: any NBD client reads and writes them by name.
//!
//! ```text
//! client ── socket ── server ──┬── handshake ──── images ── Vfs
//!                              └── transmission ─── image ──┘
//! ```
//! The protocol is the public one (`doc/proto.md` of NetworkBlockDevice/nbd): fixed newstyle, structured replies,
//! `base:allocation`. Nobody is authenticated and nothing is encrypted: who can connect can read and write.

mod error;
mod handshake;
pub mod parse;
pub mod protocol;
mod reply;
mod server;
mod socket;
mod transmission;

pub use server::{Server, converse};
pub use socket::Listener;
