//! Figures that agree when nothing is on its way from one to the other.

use std::thread;
use std::time::Duration;

/// How often two figures are compared.
const ATTEMPTS: u32 = 12;
/// Wait after the first time; each next one is twice as long, a second in all.
const PAUSE: Duration = Duration::from_micros(500);

/// Compares two figures while no change runs. Whoever has just let go of a content, or still reads bytes that were
/// replaced, holds more for a moment: so a difference counts only if it lasts, and the last one is the error.
pub(super) fn agree(mut look: impl FnMut() -> (u64, u64)) -> Result<(), (u64, u64)> {
    let mut found = look();
    for earlier in 0..ATTEMPTS - 1 {
        if found.0 == found.1 {
            return Ok(());
        }
        thread::sleep(PAUSE * (1 << earlier));
        found = look();
    }
    if found.0 == found.1 { Ok(()) } else { Err(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_difference_that_lasts_counts() {
        let mut late = (0..3).rev();
        assert_eq!(
            agree(|| (late.next().expect("it is over when they agree"), 0)),
            Ok(())
        );
        assert_eq!(agree(|| (7, 0)), Err((7, 0)));
    }
}
