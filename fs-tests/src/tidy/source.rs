//! A file of the repository, and how all of them are read.

use std::path::Path;
use std::{fs, io};

use super::lexer;

/// A text file of the repository.
#[derive(Clone, Debug)]
pub struct Source {
    /// Path from the top of the repository, with slashes.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// Folders that hold nothing written by hand.
const SKIPPED_FOLDERS: [&str; 2] = ["target", ".git"];
const EXTENSIONS: [&str; 9] = ["rs", "md", "toml", "sh", "yml", "yaml", "json", "service", ""];
/// Not written here: licences, and what cargo writes.
const SKIPPED_FILES: [&str; 3] = ["LICENSE-MIT", "LICENSE-APACHE", "Cargo.lock"];

impl Source {
    /// A source with this path and text.
    pub fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.into(),
            text: text.into(),
        }
    }

    /// Whether it is Rust code.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether the whole file is test code.
    pub fn is_test(&self) -> bool {
        self.path.starts_with("fs-tests/")
            || self.path.ends_with("/tests.rs")
            || self.path.contains("/tests/")
    }

    /// The code without its test module, comments and literals blanked; lines keep their numbers.
    pub(super) fn code(&self) -> String {
        let code = lexer::blank_comments_and_literals(&self.text);
        match code.find("\n#[cfg(test)]\nmod tests {") {
            Some(tests) => code[..tests].into(),
            None => code,
        }
    }
}

/// Every source below a folder, sorted by path.
///
/// # Errors
/// What reading them came to.
pub fn sources_below(root: &Path) -> io::Result<Vec<Source>> {
    let mut sources = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() {
                if !SKIPPED_FOLDERS.contains(&name.as_str()) {
                    folders.push(path);
                }
                continue;
            }
            let extension = path
                .extension()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if name == ".git"
                || !EXTENSIONS.contains(&extension.as_str())
                || SKIPPED_FILES.contains(&name.as_str())
            {
                continue;
            }
            if let Ok(text) = fs::read_to_string(&path) {
                let below = path
                    .strip_prefix(root)
                    .unwrap_or(&path)
                    .to_string_lossy()
                    .replace('\\', "/");
                sources.push(Source { path: below, text });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}
