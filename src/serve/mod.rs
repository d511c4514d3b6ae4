//! The frontends: siblings, blind to each other.

#[cfg(target_os = "linux")]
pub mod control;
#[cfg(target_os = "linux")]
pub mod fuse;
#[cfg(target_os = "linux")]
pub mod nbd;
#[cfg(target_os = "linux")]
pub mod vhost;
