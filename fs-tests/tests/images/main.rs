//! `okapi image`: what it does to a mounted drive, and what other programs see of it.

#![allow(clippy::unwrap_used)] // a test that cannot go on fails

mod clone;
mod support;
