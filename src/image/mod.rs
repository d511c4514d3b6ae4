//! Disk images: the regular files in the directory `images` of a drive.
//!
//! ```text
//! name.rs    what a name may be
//! folder.rs  the directory, and images found in it
//! disk.rs    an image as a disk, for the servers of disks
//! record.rs  what okapi knows about an image beside its bytes
//! manage.rs  images made, removed and changed as wholes
//! ```

mod disk;
mod folder;
mod manage;
mod name;
mod record;

pub(crate) use disk::Image;
pub use disk::Images;
pub use manage::{Manager, NewImage, Patch};
pub use name::Name;
pub use record::Record;
