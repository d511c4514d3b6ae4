//! The choices of when equal blocks are looked for.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// When equal blocks are looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dedup {
    /// Only when asked to, by [`Volume::seal_all`](super::Volume::seal_all).
    #[default]
    Off,
    /// When a file was left alone for a while, by a [`Sealer`](super::Sealer).
    Idle,
    /// Whole blocks as soon as they are written, on the writer's thread; the rest as with `Idle`.
    Inline,
}

impl FromStr for Dedup {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "idle" => Ok(Self::Idle),
            "inline" => Ok(Self::Inline),
            _ => Err("deduplication is off, idle or inline".into()),
        }
    }
}
