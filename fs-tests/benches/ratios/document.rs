//! docs/performance.md: the text is written by hand, what stands between two marks by the benchmark.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Names of the marks around the ratios.
pub(crate) const RATIOS: &str = "ratios";
/// Names of the marks around the table of memory.
pub(crate) const MEMORY: &str = "memory";

/// The document, in memory.
pub(crate) struct Document {
    path: PathBuf,
    text: String,
}

impl Document {
    /// Reads it; it must have all marks.
    pub(crate) fn open() -> Result<Self, String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/performance.md");
        let text = fs::read_to_string(&path).map_err(|err| format!("{}: {err}", path.display()))?;
        let document = Self { path, text };
        document.between(RATIOS)?;
        document.between(MEMORY)?;
        Ok(document)
    }

    /// Puts `text` between the marks of that name.
    pub(crate) fn replace(&mut self, name: &str, text: &str) -> Result<(), String> {
        let range = self.between(name)?;
        self.text.replace_range(range, &format!("\n\n{text}\n\n"));
        Ok(())
    }

    fn between(&self, name: &str) -> Result<Range<usize>, String> {
        let marks = [format!("<!-- {name} -->"), format!("<!-- end of {name} -->")];
        let [begin, end] = marks.each_ref().map(|mark| self.text.find(mark));
        match begin.zip(end) {
            Some((begin, end)) if begin < end => Ok(begin + marks[0].len()..end),
            _ => Err(format!(
                "{}: there is no '{}' before a '{}'",
                self.path.display(),
                marks[0],
                marks[1]
            )),
        }
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
