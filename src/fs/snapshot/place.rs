//! Inode numbers of what snapshots show: the snapshot's number stands in the high bits.

use crate::limits::{INO_BITS, SNAPSHOTS_MAX};
use crate::vfs::Ino;

/// Name below the root, which listings of the root do not show.
pub(in crate::fs) const CONTROL_NAME: &[u8] = b".okapi";
/// Name of the list of snapshots in it.
pub(in crate::fs) const LIST_NAME: &[u8] = b"snapshots";

/// The number that no snapshot gets.
const CONTROL: u64 = SNAPSHOTS_MAX + 1;

/// What a number of this space stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fs) enum Place {
    /// The directory `.okapi`.
    Control,
    /// The directory `.okapi/snapshots`.
    List,
    /// An inode in a snapshot.
    In {
        /// The snapshot's number.
        snapshot: u64,
        /// The inode's own number.
        ino: Ino,
    },
}

impl Place {
    /// What a number stands for; `None` for an inode of the living volume.
    pub(in crate::fs) fn of(ino: Ino) -> Option<Self> {
        let own = Ino(ino.0 & ((1 << INO_BITS) - 1));
        match (ino.0 >> INO_BITS, own.0) {
            (0, _) => None,
            (CONTROL, 1) => Some(Self::Control),
            (CONTROL, _) => Some(Self::List),
            (snapshot, _) => Some(Self::In { snapshot, ino: own }),
        }
    }

    /// The number.
    pub(in crate::fs) fn ino(self) -> Ino {
        let (high, low) = match self {
            Self::Control => (CONTROL, 1),
            Self::List => (CONTROL, 2),
            Self::In { snapshot, ino } => (snapshot, ino.0),
        };
        Ino(high << INO_BITS | low)
    }
}

/// Whether a number is one of what snapshots show, where nothing can be changed.
pub(in crate::fs) fn is_shown(ino: Ino) -> bool {
    ino.0 >> INO_BITS != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_tells_its_place() {
        let places = [
            Place::Control,
            Place::List,
            Place::In {
                snapshot: 1,
                ino: Ino::ROOT,
            },
            Place::In {
                snapshot: SNAPSHOTS_MAX,
                ino: Ino((1 << INO_BITS) - 1),
            },
        ];
        for place in places {
            assert_eq!(Place::of(place.ino()), Some(place));
            assert!(is_shown(place.ino()));
        }
        assert_eq!(Place::of(Ino((1 << INO_BITS) - 1)), None);
    }
}
