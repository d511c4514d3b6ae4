//! What members and their seed disks are asked for with, as people write it.

use serde::{Deserialize, Serialize};

/// Which members a fleet has, as people write it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The subnet, as in `10.0.0.0/24`.
    pub subnet: String,
    /// Addresses in it; without, all that hosts may have.
    pub range: Option<String>,
    /// The address of the gateway, which is no member.
    pub gateway: Option<String>,
    /// Addresses of name servers.
    pub dns: Vec<String>,
    /// Host names, with placeholders; without, the base's name and the number.
    pub host: Option<String>,
}

/// A seed disk for each member (cloud-init's data source NoCloud).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedOrder {
    /// User data, with placeholders.
    pub user_data: String,
}
