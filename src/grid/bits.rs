//! Sets of small numbers as bits in 64-bit words.

use std::ops::Range;

const WORD: usize = u64::BITS as usize;

/// Words for `len` bits.
pub(super) const fn words(len: usize) -> usize {
    len.div_ceil(WORD)
}

pub(super) fn contains(bits: &[u64], bit: usize) -> bool {
    bits[bit / WORD] & (1 << (bit % WORD)) != 0
}

/// Adds `bit`; whether it was missing.
pub(super) fn insert(bits: &mut [u64], bit: usize) -> bool {
    let missing = !contains(bits, bit);
    bits[bit / WORD] |= 1 << (bit % WORD);
    missing
}

/// Takes `bit` out; whether it was there.
pub(super) fn remove(bits: &mut [u64], bit: usize) -> bool {
    let there = contains(bits, bit);
    bits[bit / WORD] &= !(1 << (bit % WORD));
    there
}

pub(super) fn count(bits: &[u64]) -> usize {
    bits.iter().map(|word| word.count_ones() as usize).sum()
}

/// Whether any number of the range is in the set.
pub(super) fn intersects(bits: &[u64], range: Range<usize>) -> bool {
    (range.start / WORD..words(range.end)).any(|word| bits[word] & mask(&range, word) != 0)
}

/// The lowest number at or above `from` that is not in the set, among the first `len`.
pub(super) fn first_missing(bits: &[u64], from: usize, len: usize) -> Option<usize> {
    (from / WORD..words(len)).find_map(|word| {
        let below = if word == from / WORD {
            (1 << (from % WORD)) - 1
        } else {
            0
        };
        let missing = !(bits[word] | below);
        let bit = word * WORD + missing.trailing_zeros() as usize;
        (missing != 0 && bit < len).then_some(bit)
    })
}

/// Runs of successive numbers in the set.
pub(super) fn runs(bits: &[u64]) -> impl Iterator<Item = Range<usize>> {
    let len = bits.len() * WORD;
    let mut next = 0;
    std::iter::from_fn(move || {
        let start = (next..len).find(|&bit| contains(bits, bit))?;
        next = (start..len).find(|&bit| !contains(bits, bit)).unwrap_or(len);
        Some(start..next)
    })
}

/// The bits of one word that lie in the range.
fn mask(range: &Range<usize>, word: usize) -> u64 {
    let start = range.start.saturating_sub(word * WORD).min(WORD);
    let end = range.end.saturating_sub(word * WORD).min(WORD);
    let ones = |n: usize| if n == WORD { u64::MAX } else { (1 << n) - 1 };
    ones(end) & !ones(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_bits_agrees_with_a_list() {
        let members = [0, 1, 63, 64, 100, 127, 190];
        let mut bits = [0; 3];
        for &bit in &members {
            assert!(insert(&mut bits, bit) && !insert(&mut bits, bit));
        }
        assert_eq!(count(&bits), members.len());
        for start in 0..192 {
            for end in start..=192 {
                let expected = members.iter().any(|bit| (start..end).contains(bit));
                assert_eq!(intersects(&bits, start..end), expected, "{start}..{end}");
            }
            let missing = (start..192).find(|bit| !members.contains(bit));
            assert_eq!(first_missing(&bits, start, 192), missing);
        }
        let expected = [0..2, 63..65, 100..101, 127..128, 190..191];
        assert_eq!(runs(&bits).collect::<Vec<_>>(), expected);
        for &bit in &members {
            assert!(remove(&mut bits, bit) && !remove(&mut bits, bit));
        }
        assert_eq!(bits, [0; 3]);
    }

    #[test]
    fn a_full_set_has_nothing_missing() {
        assert_eq!(first_missing(&[u64::MAX, 0b11], 0, 66), None);
        assert_eq!(first_missing(&[u64::MAX, 0b11], 0, 67), Some(66));
        assert_eq!(first_missing(&[0], 64, 64), None);
    }
}
