//! Paths as people read them.

use crate::serve::control::PathReply;

/// A path on one line of a terminal.
pub(super) fn on_one_line(path: &PathReply) -> String {
    match path {
        PathReply::Text(text) if text.is_empty() => "/".into(),
        PathReply::Text(text) if text.chars().any(char::is_control) => text.escape_debug().to_string(),
        PathReply::Text(text) => text.clone(),
        PathReply::Bytes(bytes) => bytes.escape_ascii().to_string(),
    }
}
