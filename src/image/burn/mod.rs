//! Where in an image to write: the bytes of a file in its filesystem, or a token anywhere.
//!
//! Everything here reads bytes that a stranger may have made. It runs in the process of the command line, checks each
//! number before it uses it, and bounds each chain, table and directory that it follows.

mod disk;
mod ext4;
mod fat;
mod gpt;
mod locate;
mod mbr;
mod partition;
mod place;
mod table;
mod token;

pub(super) use fat::long_name;

pub use disk::ReadAt;
pub use locate::{Wanted, locate};
pub use partition::Partition;
pub use place::Place;
pub use table::partitions;
pub use token::find_tokens;
