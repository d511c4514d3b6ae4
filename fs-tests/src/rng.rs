//! A small seeded generator of random numbers, and the environment variables that replay and lengthen a test.

use std::time::{SystemTime, UNIX_EPOCH};

/// Random numbers from a seed (splitmix64): the same seed gives the same numbers on every machine.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator that begins at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `end - 1`; `end` is at least 1.
    pub fn below(&mut self, end: u64) -> u64 {
        assert!(end > 0, "a range to draw from holds a number");
        self.bits() % end
    }

    /// An index into something of `len` elements.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("an index below a usize fits one")
    }

    /// True in `percent` of 100 draws.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of `choices`.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }
}

/// The seed of a random test: `OKAPI_SEED` where set, else from the clock. Prints it, so that a failure replays.
///
/// # Panics
/// Where `OKAPI_SEED` is no number.
pub fn from_env_or_time(test: &str) -> u64 {
    let seed = number_from_env("OKAPI_SEED").unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::from(since.subsec_nanos()) ^ (since.as_secs() << 20)
    });
    println!("{test}: OKAPI_SEED={seed} replays this run");
    seed
}

/// How many operations a random test plays: `OKAPI_OPS` where set, else `default`, and a tenth of that without
/// optimisation.
///
/// # Panics
/// Where `OKAPI_OPS` is no number.
pub fn ops_from_env(default: u64) -> u64 {
    let unset = if cfg!(debug_assertions) {
        default / 10
    } else {
        default
    };
    number_from_env("OKAPI_OPS").unwrap_or(unset)
}

/// For how long a stress test runs: `OKAPI_SECONDS` where set, else `default`.
///
/// # Panics
/// Where `OKAPI_SECONDS` is no number.
pub fn seconds_from_env(default: u64) -> std::time::Duration {
    std::time::Duration::from_secs(number_from_env("OKAPI_SECONDS").unwrap_or(default))
}

fn number_from_env(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number")),
    )
}

#[cfg(test)]
mod tests {
    use super::Rng;

    #[test]
    fn a_seed_gives_the_same_numbers_each_time() {
        let draw = |seed| {
            let mut rng = Rng::new(seed);
            [rng.bits(), rng.below(10), rng.bits()]
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
