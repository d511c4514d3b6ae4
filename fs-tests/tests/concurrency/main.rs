//! Many at once: through `Vfs` in one process, and through a mounted drive from threads and processes.
//!
//! Nothing here depends on timing but a watchdog: where a lock order is broken, threads wait for each other, and the
//! watchdog says so instead of hanging.

#![allow(clippy::unwrap_used)] // a test that cannot go on fails

mod locks;
mod mounted;
mod race;
mod snapshots;
mod trees;
