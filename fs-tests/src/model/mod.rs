//! The reference model: a filesystem so simple that it can be read and believed.
//!
//! No locks, no sharing, no blocks: inodes in a map, bytes in pages. What it answers is what POSIX and Linux ask;
//! where they leave a choice, an [`Expected`] holds every answer that is right.

mod apply;
mod compare;
mod data;
mod generate;
mod op;
mod pages;
mod rename;
mod sharing;
mod snapshot;
mod state;

pub use compare::{NodeDump, Segment, Times, TreeDump};
pub use generate::{Features, Generator};
pub use op::{
    Answer, AttrAnswer, Expected, Fallocation, Name, NodeKind, Op, Outcome, Place, RenameFlags, SLOTS, Span,
    Target, XattrFlag, pattern,
};
pub use pages::{FILE_END_MAX, PAGE, PageState, Pages};
pub use state::Model;
