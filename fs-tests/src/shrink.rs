//! Makes a failing list of operations short, so that a person can read it.

use std::time::{Duration, Instant};

/// Leaves out operations as long as the rest still fails, for at most `patience`.
pub fn shrink<T: Clone>(ops: &[T], patience: Duration, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let deadline = Instant::now() + patience;
    let mut ops = ops.to_vec();
    let mut chunk = ops.len() / 2;
    while chunk > 0 {
        let mut start = 0;
        while start < ops.len() && Instant::now() < deadline {
            let end = (start + chunk).min(ops.len());
            let without: Vec<T> = [&ops[..start], &ops[end..]].concat();
            if fails(&without) {
                ops = without;
            } else {
                start = end;
            }
        }
        chunk /= 2;
    }
    ops
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Op;

    #[test]
    fn only_what_is_needed_to_fail_stays() {
        let ops: Vec<Op> = (0..100).map(|slot| Op::Close { slot }).collect();
        let needed = [Op::Close { slot: 13 }, Op::Close { slot: 77 }];
        let short = shrink(&ops, Duration::from_secs(10), |ops| {
            needed.iter().all(|op| ops.contains(op))
        });
        assert_eq!(short, needed);
    }
}
