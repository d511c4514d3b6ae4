//! okapi: a grid of memory blocks, shown as a POSIX filesystem.
//!
//! The layers import only downwards (docs/architecture.md draws them; fs-tests/tests/tidy.rs enforces them):
//! [`grid`] keeps blocks, [`extent`] maps a file's bytes to blocks, [`vfs`] is the interface that every frontend
//! speaks, [`fs`] is the filesystem behind it, [`image`] knows disk images, `serve` holds the frontends and `cli` the
//! command line.

pub mod clock;
pub mod error;
pub mod limits;
mod linger;
pub mod range;

pub mod grid;

pub mod extent;

pub mod vfs;

pub mod fs;

pub mod image;

pub mod serve;

pub mod cli;

pub use error::{Error, ErrorKind, Result};
