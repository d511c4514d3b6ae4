//! docs/performance.md: the text is written by hand, what stands between two marks by a benchmark.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The document, in memory.
pub struct Document {
    path: PathBuf,
    text: String,
}

impl Document {
    /// Reads it; it must have the marks of all these sections.
    ///
    /// # Errors
    /// Which file, and what is wrong with it.
    pub fn open(sections: &[&str]) -> Result<Self, String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/performance.md");
        let text = fs::read_to_string(&path).map_err(|err| format!("{}: {err}", path.display()))?;
        let document = Self { path, text };
        for section in sections {
            document.between(section)?;
        }
        Ok(document)
    }

    /// Puts `text` between the marks of a section.
    ///
    /// # Errors
    /// Where the marks are missing.
    pub fn replace(&mut self, section: &str, text: &str) -> Result<(), String> {
        let range = self.between(section)?;
        self.text.replace_range(range, &format!("\n\n{text}\n\n"));
        Ok(())
    }

    fn between(&self, section: &str) -> Result<Range<usize>, String> {
        let marks = [
            format!("<!-- {section} -->"),
            format!("<!-- end of {section} -->"),
        ];
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

    /// Writes it.
    ///
    /// # Errors
    /// Which file, and what is wrong with it.
    pub fn save(&self) -> Result<(), String> {
        write(&self.path, &self.text)
    }

    /// Writes a drawing beside it, of the same name.
    ///
    /// # Errors
    /// Which file, and what is wrong with it.
    pub fn save_drawing(&self, svg: &str) -> Result<(), String> {
        write(&self.path.with_extension("svg"), svg)
    }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|err| format!("{}: {err}", path.display()))
}
