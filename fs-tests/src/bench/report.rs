//! Medians with their spread, and tables in markdown.

/// Median and quartiles of what all rounds came to.
#[derive(Clone, Debug)]
pub struct Spread {
    first: f64,
    /// As many are above it as below.
    pub median: f64,
    third: f64,
}

impl Spread {
    /// Of these values; none where there are none.
    pub fn new(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let [first, median, third] = [1, 2, 3].map(|quarter| {
            let (below, above) = (last * quarter / 4, (last * quarter).div_ceil(4));
            let part = (last * quarter % 4) as f64 / 4.0;
            values[below] + (values[above] - values[below]) * part
        });
        Some(Self { first, median, third })
    }

    /// The median, and in brackets the quartiles where they read differently.
    pub fn show(&self, show: impl Fn(f64) -> String) -> String {
        let [first, median, third] = [self.first, self.median, self.third].map(show);
        match first == median && third == median {
            true => median,
            false => format!("{median} ({first} to {third})"),
        }
    }
}

/// A number with as many digits as mean something.
pub fn figure(number: f64) -> String {
    match number {
        ..1.0 => format!("{number:.2}"),
        ..10.0 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

/// A table whose first column has no heading, below a line that says what its cells mean; none where it would be empty.
pub fn table<'a>(
    meaning: &str,
    columns: &[&str],
    lines: impl Iterator<Item = (&'a str, Vec<String>)>,
) -> Option<String> {
    let lines: Vec<_> = lines
        .map(|(name, cells)| format!("| {name} | {} |", cells.join(" | ")))
        .collect();
    let rule = " --- |".repeat(columns.len());
    (!columns.is_empty() && !lines.is_empty()).then(|| {
        format!(
            "{meaning}\n\n| | {} |\n| --- |{rule}\n{}",
            columns.join(" | "),
            lines.join("\n")
        )
    })
}

/// What could not be measured and why, as a list; none where all was measured.
pub fn not_measured(missing: &[String]) -> Option<String> {
    (!missing.is_empty()).then(|| format!("Not measured:\n\n- {}", missing.join("\n- ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_values_where_need_be() {
        let spread = Spread::new(vec![4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((spread.first, spread.median, spread.third), (1.75, 2.5, 3.25));
        assert!(Spread::new(Vec::new()).is_none());
    }

    #[test]
    fn quartiles_that_read_like_the_median_are_not_shown() {
        let spread = Spread::new(vec![2.01, 2.02, 2.03]).unwrap();
        assert_eq!(spread.show(figure), "2.0");
        assert_eq!(
            Spread::new(vec![1.0, 2.0, 3.0]).unwrap().show(figure),
            "2.0 (1.5 to 2.5)"
        );
    }
}
