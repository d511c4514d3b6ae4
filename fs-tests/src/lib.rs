//! Harness, reference model and conformance tests of okapi; sees only okapi's public interface.
//!
//! [`model`] is a deliberately simple filesystem that says what every operation must answer. [`vfs_driver`] plays
//! the same operations through [`okapi::vfs::Vfs`], [`mount_driver`] through system calls on a mounted tree, and
//! [`harness`] mounts what the tests need and takes it away again; [`mod@bench`] is what the benchmarks have in common.
//! [`nbd`], [`virtio`] and [`guest`] use images as disks: as an NBD client, as the VMM and driver of a vhost-user disk, and
//! as a virtual machine that boots.

pub mod bench;
pub mod export;
pub mod guest;
pub mod harness;
pub mod model;
pub mod mount_driver;
pub mod nbd;
pub mod rng;
pub mod shrink;
pub mod sys;
pub mod tidy;
pub mod vfs_driver;
pub mod virtio;
