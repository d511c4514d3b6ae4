//! Where contents differ: what is shared, what was written back, holes, lengths.

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
