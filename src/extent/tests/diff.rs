//! Where contents differ: what is shared, what was written back, holes, lengths.

use super::super::Differences;
use super::*;

fn differences(a: &Content, b: &Content) -> Vec<(u64, u64)> {
    let ranges = a.differences(b);
    assert_eq!(ranges, b.differences(a), "it is the same from both sides");
    ranges.iter().map(|range| (range.start, range.end)).collect()
}

#[test]
fn a_clone_differs_where_it_was_written_to() {
    let namespace = namespace(16 << 20);
    let mut base = Content::new();
    write(&mut base, &namespace, 0, 300 * KIB);
    let mut clone = base.clone();
    assert_eq!(differences(&base, &clone), []);
    clone.write(&namespace, 5000, b"\0").unwrap();
    clone.write(&namespace, 70 * KIB, &[0; 8192]).unwrap();
    assert_eq!(
        differences(&base, &clone),
        [(4 * KIB, 8 * KIB), (68 * KIB, 80 * KIB)],
        "whole pages"
    );
    write(&mut clone, &namespace, 0, 300 * KIB);
    assert_eq!(differences(&base, &clone), [], "the same bytes were written back");
}

#[test]
fn zeros_do_not_differ_from_a_hole() {
    let namespace = namespace(16 << 20);
    let (mut hole, mut zeros) = (Content::new(), Content::new());
    hole.set_len(1 << 40);
    zeros.set_len(1 << 40);
    zeros.write(&namespace, 10 * KIB, &[0; 100_000]).unwrap();
    assert_eq!(differences(&hole, &zeros), []);
    zeros.write(&namespace, (1 << 40) - 1, b"x").unwrap();
    assert_eq!(differences(&hole, &zeros), [((1 << 40) - 4 * KIB, 1 << 40)]);
}

#[test]
fn what_only_one_is_long_enough_for_differs() {
    let namespace = namespace(16 << 20);
    let (mut short, mut long) = (Content::new(), Content::new());
    assert_eq!(differences(&short, &long), []);
    write(&mut short, &namespace, 0, 10_000);
    write(&mut long, &namespace, 0, 10_500);
    assert_eq!(differences(&short, &long), [(10_000, 10_500)]);
    long.write(&namespace, 9_999, b"\0").unwrap();
    assert_eq!(differences(&short, &long), [(8 * KIB, 10_500)]);
    assert_eq!(differences(&Content::new(), &short), [(0, 10_000)]);
}

/// All differences in a range, found in steps; each must come forward.
fn in_steps(a: &Content, b: &Content, within: ByteRange, most: usize) -> Vec<(u64, u64)> {
    let mut found: Vec<(u64, u64)> = Vec::new();
    let mut at = within.start;
    while at < within.end {
        let step = a.differences_in(b, range(at, within.end), most);
        assert!(step.end > at && step.end <= within.end && step.ranges.len() <= most);
        for ByteRange { start, end } in step.ranges {
            assert!(at <= start && start < end && end <= step.end);
            match found.last_mut().filter(|last| last.1 == start) {
                Some(last) => last.1 = end,
                None => found.push((start, end)),
            }
        }
        at = step.end;
    }
    found
}

#[test]
fn differences_are_found_in_steps_of_any_size() {
    let namespace = namespace(16 << 20);
    let base = filled(&namespace, 300 * KIB);
    let mut clone = base.clone();
    for page in [0, 2, 3, 15, 16, 40, 74] {
        clone.write(&namespace, page * 4096 + 7, b"\0").unwrap();
    }
    let whole = range(0, 300 * KIB);
    let expected = differences(&base, &clone);
    for most in 1..9 {
        assert_eq!(in_steps(&base, &clone, whole, most), expected);
        assert_eq!(in_steps(&clone, &base, whole, most), expected);
    }
    let inside = range(2 * 4096 + 5, 3 * 4096 + 50);
    assert_eq!(in_steps(&base, &clone, inside, 4), [(inside.start, inside.end)]);
    assert_eq!(
        base.differences_in(&clone, range(9, 9), 1),
        Differences {
            ranges: Vec::new(),
            end: 9
        }
    );
}

#[test]
fn a_shorter_content_goes_on_with_zeros() {
    let namespace = namespace(16 << 20);
    let base = filled(&namespace, 10_000);
    let mut longer = base.clone();
    longer.set_len(1 << 40);
    assert_eq!(in_steps(&base, &longer, range(0, 1 << 40), 8), []);
    longer.write(&namespace, 10_000, b"x").unwrap();
    longer.write(&namespace, 1 << 39, b"x").unwrap();
    assert_eq!(
        in_steps(&base, &longer, range(0, 1 << 40), 8),
        [(8 * KIB, 12 * KIB), (1 << 39, (1 << 39) + 4 * KIB)]
    );
}

#[test]
fn one_look_is_bounded() {
    let namespace = namespace(16 << 20);
    let (a, b) = (filled(&namespace, 2 << 20), filled(&namespace, 2 << 20));
    let step = a.differences_in(&b, range(0, 2 << 20), 1);
    assert!(step.end >= crate::limits::DIFF_PIN_BYTES / 2 && step.end < 2 << 20);
    assert_eq!(step.ranges, []);
}
