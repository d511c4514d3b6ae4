//! Rules that the repository keeps about itself: layers, cycles, unsafe code, sizes, headings, words.
//!
//! Each rule takes sources and returns what breaks it, so that each can be shown to fail on a made-up tree.

mod imports;
mod layers;
mod lexer;
mod rules;
mod source;

pub use layers::{cycles, upward_imports};
pub use rules::{foreign_words, long_files, missing_headings, unfinished, unlisted_unsafe, unwraps};
pub use source::{Source, sources_below};
