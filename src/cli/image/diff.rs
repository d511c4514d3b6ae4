//! `okapi image diff`.

use std::fmt::Write;

use serde::Serialize;

use crate::cli::outcome::{Outcome, json, print};
use crate::cli::progress::Progress;
use crate::cli::size::human;
use crate::error::Result;
use crate::serve::control::Client;

/// Where two images differ.
#[derive(Default, Serialize)]
struct Report {
    /// Bytes of both.
    sizes: [u64; 2],
    ranges: Vec<Range>,
}

/// Bytes that differ.
#[derive(Clone, Copy, Serialize)]
struct Range {
    offset: u64,
    length: u64,
}

pub(super) fn run(client: &mut Client, names: [&str; 2], as_json: bool) -> Outcome {
    let report = compare(client, names)?;
    print(match as_json {
        true => json(&report)?,
        false => table(&report),
    })
}

/// Has the images compared, step by step.
fn compare(client: &mut Client, names: [&str; 2]) -> Result<Report> {
    let mut progress = None;
    let mut report = Report::default();
    let mut offset = 0;
    loop {
        let step = client.diff_images(names, offset)?;
        report.sizes = step.sizes;
        step.ranges
            .iter()
            .for_each(|(start, end)| report.add(*start, *end));
        let Some(next) = step.next else {
            return Ok(report);
        };
        offset = next;
        progress
            .get_or_insert_with(|| Progress::new("comparing", step.sizes[0].max(step.sizes[1])))
            .at(offset);
    }
}

impl Report {
    /// Adds a range, which goes on with the last one where a step has ended in it.
    fn add(&mut self, start: u64, end: u64) {
        let length = end - start;
        match self.ranges.last_mut() {
            Some(last) if last.offset + last.length == start => last.length += length,
            _ => self.ranges.push(Range {
                offset: start,
                length,
            }),
        }
    }
}

fn table(report: &Report) -> String {
    let mut text = String::new();
    if !report.ranges.is_empty() {
        text += &format!("{:>20} {:>20}\n", "offset", "length");
    }
    for range in &report.ranges {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:>20} {:>20}", range.offset, range.length);
    }
    let bytes = report.ranges.iter().map(|range| range.length).sum();
    let [a, b] = report.sizes;
    let of = match a == b {
        true => human(a),
        false => format!("{} and {}", human(a), human(b)),
    };
    let _ = writeln!(text, "{} of {of} differ", human(bytes));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_steps_have_divided_are_one() {
        let mut report = Report {
            sizes: [8192, 16384],
            ..Report::default()
        };
        assert_eq!(table(&report), "0 B of 8 KiB and 16 KiB differ\n");
        report.add(0, 4096);
        report.add(4096, 8192);
        report.add(12288, 16384);
        let lines: Vec<String> = table(&report)
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            lines,
            [
                "offset length",
                "0 8192",
                "12288 4096",
                "12 KiB of 8 KiB and 16 KiB differ"
            ]
        );
    }
}
