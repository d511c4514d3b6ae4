//! A bar on a terminal that shows how far a long command has come; nothing elsewhere.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Time between two pictures: the eye needs no more, and the work goes on.
const INTERVAL: Duration = Duration::from_millis(100);
/// Characters of the bar itself.
const WIDTH: u64 = 30;

/// A bar on stderr, as long as this lives and if that is a terminal.
pub(super) struct Progress {
    what: &'static str,
    total: u64,
    is_shown: bool,
    /// The last picture.
    drawn: Option<Instant>,
}

impl Progress {
    /// A bar for so much work, named by what is done.
    pub(super) fn new(what: &'static str, total: u64) -> Self {
        let mut bar = Self {
            what,
            total,
            is_shown: io::stderr().is_terminal(),
            drawn: None,
        };
        bar.at(0);
        bar
    }

    /// Shows how much of the work is done.
    pub(super) fn at(&mut self, done: u64) {
        let is_due = self.drawn.is_none_or(|drawn| drawn.elapsed() >= INTERVAL);
        if self.is_shown && is_due {
            draw(&picture(self.what, done, self.total));
            self.drawn = Some(Instant::now());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_shown {
            draw("");
        }
    }
}

/// Puts a text in the place of the line in which the cursor is.
fn draw(text: &str) {
    let mut out = io::stderr().lock();
    // Where stderr is closed there is nobody to look.
    let _ = write!(out, "\r{text}\x1b[K").and_then(|()| out.flush());
}

fn picture(what: &str, done: u64, total: u64) -> String {
    let total = u128::from(total.max(1));
    let done = u128::from(done).min(total);
    let part = |whole: u64| usize::try_from(done * u128::from(whole) / total).unwrap_or(usize::MAX);
    let full = part(WIDTH);
    let mut line = format!("{what} [{}", "#".repeat(full));
    // Writing to a String cannot fail.
    let _ = write!(line, "{}] {:>3}%", "-".repeat(WIDTH as usize - full), part(100));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_grows_from_empty_to_full() {
        let (empty, full) = ("-".repeat(30), "#".repeat(30));
        assert_eq!(picture("x", 0, 7), format!("x [{empty}]   0%"));
        assert_eq!(picture("x", 7, 7), format!("x [{full}] 100%"));
        assert_eq!(picture("x", 9, 7), format!("x [{full}] 100%"));
        assert_eq!(picture("x", 0, 0), format!("x [{empty}]   0%"));
        assert_eq!(picture("x", u64::MAX / 2, u64::MAX).matches('#').count(), 14);
    }
}
