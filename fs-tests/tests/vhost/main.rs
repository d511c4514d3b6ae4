//! Images as vhost-user disks: the protocol, hostile guests, other views of the same image, beginning and end.

#![allow(clippy::unwrap_used)] // a test that cannot go on fails

mod hostile;
mod lifecycle;
mod requests;
mod support;
mod views;
