//! Fleets: one image per address of a subnet, cloned from one base, with each one's own texts burned in.
//!
//! ```text
//! subnet.rs    addresses of a subnet, and ranges of them
//! text.rs      texts with placeholders
//! members.rs   who belongs to a fleet: names, addresses, what is derived from them
//! burn.rs      texts at their places in the base
//! seed.rs      the disk that tells cloud-init what it needs
//! make.rs      the images of all members, or none
//! ```

mod burn;
mod make;
mod members;
mod order;
mod request;
mod seed;
mod subnet;
mod text;

pub use burn::{Burn, Padding};
pub use members::{Fleet, Member};
pub use order::{Order, SeedOrder};
pub use request::{FleetReply, FleetRequest, Seen};
pub use subnet::Subnet;
pub use text::Text;
