//! The frontends: siblings, blind to each other.
