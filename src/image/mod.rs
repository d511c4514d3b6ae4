//! Disk images: the regular files in the directory `images` of a drive.

mod disk;

pub(crate) use disk::Image;
pub use disk::Images;
