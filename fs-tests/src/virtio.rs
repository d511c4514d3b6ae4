//! The VMM and driver of a vhost-user disk.
