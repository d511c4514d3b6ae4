//! docs/performance.md: the text is written by hand, what stands between two marks by the benchmark.

use std::fs;
use std::path::{Path, PathBuf};

/// The document, in memory.
pub(crate) struct Document {
    path: PathBuf,
    text: String,
}

impl Document {
    /// Reads it.
    pub(crate) fn open() -> Result<Self, String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/performance.md");
        let text = fs::read_to_string(&path).map_err(|err| format!("{}: {err}", path.display()))?;
        Ok(Self { path, text })
    }

    /// Puts `text` between the marks of that name.
    pub(crate) fn replace(&mut self, name: &str, text: &str) -> Result<(), String> {
        let (open, close) = (format!("<!-- {name}: "), format!("<!-- end of {name} -->"));
        let begin = self.text.find(&open);
        let begin = begin.and_then(|at| Some(at + self.text[at..].find("-->")? + "-->".len()));
        let end = begin.and_then(|begin| Some(begin + self.text[begin..].find(&close)?));
        let Some((begin, end)) = begin.zip(end) else {
            return Err(format!(
                "{}: there is no `{open}... -->` before a `{close}`",
                self.path.display()
            ));
        };
        self.text.replace_range(begin..end, &format!("\n\n{text}\n\n"));
        Ok(())
    }

    /// Writes it, and the chart beside it.
    pub(crate) fn save(&self, chart: &str) -> Result<(), String> {
        let write = |path: &Path, text: &str| {
            fs::write(path, text).map_err(|err| format!("{}: {err}", path.display()))
        };
        write(&self.path, &self.text)?;
        write(&self.path.with_extension("svg"), chart)
    }
}
