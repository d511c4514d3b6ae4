//! `okapi image`: what it does to a mounted drive, and what other programs see of it.

#![allow(clippy::unwrap_used)] // a test that cannot go on fails

mod burn;
mod check;
mod clone;
mod diff;
mod disks;
mod files;
mod fleet;
mod formats;
mod list;
mod parsers;
mod rebase;
mod remove;
mod resize;
mod support;
