//! Images as network block devices: by a client of raw bytes, and by the programs that people use.

#![allow(clippy::unwrap_used)] // a test that cannot go on fails

mod bounds;
mod difference;
mod lifecycle;
mod programs;
mod protocol;
mod random;
mod support;
mod views;
