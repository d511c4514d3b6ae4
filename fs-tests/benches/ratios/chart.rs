//! The results as a drawing: a bar for each ratio, on a logarithmic scale, in colours for light and dark pages.

use crate::contender::RECIPES;
use crate::report::Row;
use crate::workload::Measure;
use fs_tests::bench::report::figure;
use std::fmt::Write as _;

/// Where a page shows the drawing.
pub(crate) const LINK: &str =
    "![The ratios to tmpfs with one client, as bars on a logarithmic scale](performance.svg)";

const WIDTH: f64 = 900.0;
/// Where the scale begins and how long it is.
const LEFT: f64 = 190.0;
const SCALE: f64 = 650.0;
const BAR: f64 = 9.0;
const LINE: f64 = 20.0;
/// One for each contender but the yardstick.
const COLOURS: [&str; RECIPES.len() - 1] = [
    "#2f81f7", "#1b9e77", "#8e6bd8", "#d95f02", "#c99a00", "#e7298a", "#00a3b4", "#7d8590", "#a0623d",
    "#6a9c1f",
];
const STYLE: &str = "\
text { font: 11px sans-serif; fill: #1f2328 } .value { font-size: 9px } .head { font-weight: bold }
line { stroke: #d1d9e0 } .one { stroke: #59636e; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } line { stroke: #3d444d } .one { stroke: #9198a1 }
}";

/// The rows with one client as SVG; the names are those of the contenders without the yardstick.
pub(crate) fn draw(rows: &[Row], names: &[&str]) -> String {
    let mut drawing = Drawing::default();
    drawing.legend(names);
    for (measure, title) in [
        (Measure::Time, "Time as a multiple of tmpfs's: shorter is better"),
        (Measure::Speed, "Speed as a multiple of tmpfs's: longer is better"),
    ] {
        let rows: Vec<_> = rows
            .iter()
            .filter(|row| row.measure == measure && row.clients == 1)
            .collect();
        if !rows.is_empty() {
            drawing.section(title, &rows);
        }
    }
    drawing.finish()
}

/// What is drawn so far, from the top.
#[derive(Default)]
struct Drawing {
    body: String,
    height: f64,
}

/// Places of ratios on the scale.
struct Scale {
    low: f64,
    high: f64,
}

impl Drawing {
    fn legend(&mut self, names: &[&str]) {
        let column = 220.0;
        for (number, name) in names.iter().enumerate() {
            let x = 10.0 + (number % 4) as f64 * column;
            let y = (number / 4) as f64 * LINE + 10.0;
            self.rect([x, y, BAR, BAR], COLOURS[number]);
            self.text([x + 15.0, y + BAR], "", name);
        }
        self.height = names.len().div_ceil(4) as f64 * LINE + 10.0;
    }

    fn section(&mut self, title: &str, rows: &[&Row]) {
        let scale = Scale::of(rows);
        self.height += LINE;
        self.text([10.0, self.height], "head", title);
        self.height += LINE;
        let bottom = self.height + rows.iter().map(|row| height_of(row)).sum::<f64>();
        for tick in scale.ticks() {
            let (x, class) = (scale.place(tick), if tick == 1.0 { "one" } else { "" });
            self.line(x, bottom, class);
            self.text([x - 4.0, self.height - 4.0], "value", &tick.to_string());
        }
        for row in rows {
            self.row(row, &scale);
            self.height += height_of(row);
        }
        self.height += LINE / 2.0;
    }

    /// The bars of a row, which begin where tmpfs is.
    fn row(&mut self, row: &Row, scale: &Scale) {
        self.text([10.0, self.height + height_of(row) / 2.0], "", &row.name);
        for (number, spread) in row.ratios.iter().enumerate() {
            let Some(spread) = spread else { continue };
            let y = self.height + number as f64 * BAR;
            let (from, to) = (scale.place(1.0), scale.place(spread.median));
            let width = (to - from).abs().max(1.0);
            self.rect([from.min(to), y, width, BAR - 1.0], COLOURS[number]);
            let behind = [from.max(to) + 4.0, y + BAR - 1.0];
            self.text(behind, "value", &figure(spread.median));
        }
    }

    fn rect(&mut self, [x, y, width, height]: [f64; 4], colour: &str) {
        self.push(format!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{colour}"/>"#
        ));
    }

    /// A line from here down to `bottom`.
    fn line(&mut self, x: f64, bottom: f64, class: &str) {
        let top = self.height;
        self.push(format!(
            r#"<line class="{class}" x1="{x:.1}" x2="{x:.1}" y1="{top:.1}" y2="{bottom:.1}"/>"#
        ));
    }

    /// Text without `<` and `&`.
    fn text(&mut self, [x, y]: [f64; 2], class: &str, text: &str) {
        self.push(format!(
            r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{text}</text>"#
        ));
    }

    fn push(&mut self, element: String) {
        writeln!(self.body, "{element}").expect("a string takes text");
    }

    fn finish(self) -> String {
        let Self { body, height } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
             aria-label=\"Ratios to tmpfs\">\n<style>\n{STYLE}\n</style>\n{body}</svg>\n"
        )
    }
}

/// The bars of a row, and a gap.
fn height_of(row: &Row) -> f64 {
    (row.ratios.len() + 1) as f64 * BAR
}

impl Scale {
    /// Takes in all medians, and 1.
    fn of(rows: &[&Row]) -> Self {
        let ratios = rows.iter().flat_map(|row| row.ratios.iter().flatten());
        let medians: Vec<_> = ratios.map(|spread| spread.median).collect();
        Self {
            low: medians.iter().copied().fold(1.0, f64::min) * 0.9,
            high: medians.iter().copied().fold(1.0, f64::max) * 1.1,
        }
    }

    fn place(&self, ratio: f64) -> f64 {
        LEFT + SCALE * (ratio / self.low).ln() / (self.high / self.low).ln()
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        [
            0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0,
        ]
        .into_iter()
        .filter(|tick| (self.low..self.high).contains(tick))
    }
}
