//! Behaviour of the volume through the `Vfs` trait.
