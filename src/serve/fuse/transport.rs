//! The ways by which the kernel's requests can come.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The transport that is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transport {
    /// io_uring where it can be used, else the device.
    #[default]
    Auto,
    /// io_uring or nothing.
    Uring,
    /// The device /dev/fuse.
    Classic,
}

impl FromStr for Transport {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "uring" => Ok(Self::Uring),
            "classic" => Ok(Self::Classic),
            _ => Err("a transport is auto, uring or classic".into()),
        }
    }
}

/// The transport that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Running {
    /// io_uring, with one queue for each processor.
    Uring {
        /// Number of queues.
        queues: usize,
    },
    /// The device /dev/fuse.
    Classic {
        /// Why not io_uring.
        reason: String,
    },
}

impl Running {
    /// The transport in one word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Uring { .. } => "io_uring",
            Self::Classic { .. } => "classic",
        }
    }
}

/// The transport, and why it is not the faster one.
impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uring { queues } => write!(f, "io_uring, {queues} queues"),
            Self::Classic { reason } => write!(f, "classic, not io_uring: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_have_names() {
        assert_eq!("uring".parse(), Ok(Transport::Uring));
        assert_eq!("auto".parse(), Ok(Transport::default()));
        assert!("io_uring".parse::<Transport>().is_err());
    }
}
