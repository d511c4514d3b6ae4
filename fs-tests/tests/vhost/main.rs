//! Images as vhost-user disks: the protocol, hostile guests, other views of the same image, beginning and end.

mod hostile;
mod lifecycle;
mod requests;
mod support;
mod views;
