//! An image of okapi is a disk like a raw file: random changes through every way to it, judged by the programs that
//! people use.

#![allow(clippy::unwrap_used)] // a test that cannot go on fails

mod agreement;
mod cache;
mod changes;
mod judges;
mod ways;
