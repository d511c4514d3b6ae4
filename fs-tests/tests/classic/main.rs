//! Over the classic device, what the other programs show over io_uring: the harness mounts with `--transport classic`
//! in a program of this name.
//!
//! Left out, because what they test lies behind both transports and they take long: full drives (`full`), the crowd of
//! `concurrency`, and most operations of fsx. `cli` and `requests` mount with both transports themselves.

#![allow(clippy::unwrap_used)] // a test that cannot go on fails

#[path = "../clients/main.rs"]
mod clients;
#[path = "../coherence.rs"]
mod coherence;
#[path = "../conformance.rs"]
mod conformance;
#[path = "../model_mount.rs"]
mod model_mount;
#[path = "../semantics/main.rs"]
mod semantics;
