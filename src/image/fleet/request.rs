//! What a fleet is asked for with, and what is answered: as the control socket carries it.

use serde::{Deserialize, Serialize};

use super::burn::Burn;
use super::order::{Order, SeedOrder};

/// A fleet to be made, or to be completed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetRequest {
    /// Name of the image that all are cloned from.
    pub base: String,
    /// What its file was like before anything was looked for in it.
    pub seen: Seen,
    /// Its members.
    pub order: Order,
    /// What is burned into each of them.
    pub burns: Vec<Burn>,
    /// Whether each gets a seed disk.
    pub seed: Option<SeedOrder>,
    /// Remove members of the fleet whose addresses are not asked for.
    pub prune: bool,
}

/// By what a file is known to be unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Its length in bytes.
    pub size: u64,
    /// When its content changed last: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// When its attributes changed last, which nobody can set.
    pub ctime: (i64, u32),
}

/// What became of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetReply {
    /// Images that were made, seed disks not counted.
    pub made: u32,
    /// Members that were there already.
    pub kept: u32,
    /// Seed disks that were made.
    pub seeds: u32,
    /// Names of members outside the range that were removed.
    pub pruned: Vec<String>,
    /// Names of members outside the range that are still there, seed disks that a client uses among them.
    pub outside: Vec<String>,
    /// Microseconds that it took.
    pub elapsed_us: u64,
}
