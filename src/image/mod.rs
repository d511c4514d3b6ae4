//! Disk images: the regular files in the directory `images` of a drive.
//!
//! ```text
//! name.rs      what a name may be
//! folder.rs    the directory, and images found in it
//! disk.rs      an image as a disk, for the servers of disks
//! uses.rs      what is under way: clients of images, drafts, resizes
//! write.rs     bytes written to a file, all of them
//! record.rs    what okapi knows about an image beside its bytes
//! survey.rs    images listed, compared and checked
//! manage.rs    clones made
//! draft.rs     names of what is in the making, and what is left of it
//! checksum.rs  checks of four bytes
//! change.rs    images removed, resized, and given another base or none
//! format/      raw, qcow2 and vhdx files, read and written
//! burn/        where in an image a file or a token is
//! fleet/       an image for each address of a subnet
//! ```

pub mod burn;
mod change;
mod checksum;
mod disk;
mod draft;
pub mod fleet;
mod folder;
pub mod format;
mod manage;
mod name;
mod record;
mod survey;
mod uses;
mod write;

#[cfg(test)]
mod tests;

pub use change::{NewSize, Rebased, Resized};
pub(crate) use disk::Image;
pub use disk::Images;
pub use manage::{Manager, NewImage, Patch};
pub use name::Name;
pub use record::Record;
pub use survey::{Compared, Finding, Listed, Listing};
