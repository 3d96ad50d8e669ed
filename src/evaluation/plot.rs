//! Metrics over time as an SVG: two panels of lines, readable on light and on dark.
//!
//! Enters: an [`Evaluation`]. Leaves: the text of an SVG file. Never touches a file.

use std::fmt::Write;

use super::Evaluation;
use super::metrics::Metric;
use super::report::{Point, curve};

const WIDTH: f64 = 860.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
/// Where the legend begins, how far its rows are apart, and how far below it a panel begins.
const LEGEND: f64 = 48.0;
const ROW: f64 = 20.0;
const BELOW_LEGEND: f64 = 36.0;
const PANEL: f64 = 200.0;
const GAP: f64 = 64.0;
/// Lines drawn: the blend, and what it is compared with. More cannot be told apart.
const LINES: usize = 6;
/// Okabe and Ito's colours (2008), told apart by the colour-blind, on white and on black.
const COLOURS: [&str; LINES] = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];
const STYLE: &str = "<style>.paper{fill:#fff}.ink{fill:#222}.line{fill:none;stroke-width:1.8}\
.axis{stroke:#888}.grid{stroke:#ddd}text{font:12px sans-serif}\
@media(prefers-color-scheme:dark){.paper{fill:#161b22}.ink{fill:#ddd}.grid{stroke:#333}}</style>";

/// Recall and mean reciprocal rank at `top`, each the mean over a sliding window of targets. The
/// title may hold any text.
pub fn sliding_svg(title: &str, found: &Evaluation, top: usize) -> String {
    let mut svg = String::new();
    // Writing to a String cannot fail.
    let _ = draw(&mut svg, title, found, top);
    svg
}

fn draw(svg: &mut String, title: &str, found: &Evaluation, top: usize) -> std::fmt::Result {
    let names: Vec<&str> = found.arms.iter().take(LINES).map(|r| r.arm.name.as_str()).collect();
    let legend = places(&names);
    let top_of_panels = legend.last().map_or(LEGEND, |place| place.1) + BELOW_LEGEND;
    let height = top_of_panels + 2.0 * PANEL + GAP + 56.0;
    writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\">{STYLE}\
         <rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>"
    )?;
    writeln!(svg, "<text class=\"ink\" x=\"{LEFT}\" y=\"24\">{}</text>", escaped(title))?;
    for ((colour, name), (x, y)) in COLOURS.iter().zip(&names).zip(&legend) {
        writeln!(
            svg,
            "<path class=\"line\" stroke=\"{colour}\" d=\"M{x} {}h18\"/>\
             <text class=\"ink\" x=\"{}\" y=\"{y}\">{}</text>",
            y - 4.0,
            x + 24.0,
            escaped(name)
        )?;
    }
    for (panel, metric) in [Metric::Recall(top), Metric::Mrr(top)].into_iter().enumerate() {
        draw_panel(svg, top_of_panels + panel as f64 * (PANEL + GAP), found, metric)?;
    }
    writeln!(
        svg,
        "<text class=\"ink\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">targets scored, in order \
         of time</text></svg>",
        LEFT + (WIDTH - LEFT - RIGHT) / 2.0,
        height - 16.0
    )
}

/// Where the names of a legend stand: in rows as long as the drawing is wide.
fn places(names: &[&str]) -> Vec<(f64, f64)> {
    let (mut x, mut y) = (LEFT, LEGEND);
    let place = |name: &&str| {
        let width = 40.0 + 7.0 * name.chars().count() as f64;
        if x > LEFT && x + width > WIDTH {
            (x, y) = (LEFT, y + ROW);
        }
        let place = (x, y);
        x += width;
        place
    };
    names.iter().map(place).collect()
}

fn draw_panel(svg: &mut String, y: f64, found: &Evaluation, metric: Metric) -> std::fmt::Result {
    let lines: Vec<Vec<Point>> =
        (0..found.arms.len().min(LINES)).map(|arm| curve(found, arm, metric)).collect();
    let values = lines.iter().flatten().map(|point| point.sliding);
    let highest = nice(values.fold(0.0, f64::max));
    let last = found.scored.len().max(1) as f64;
    let across = |scored: f64| LEFT + scored / last * (WIDTH - LEFT - RIGHT);
    let up = |value: f64| y + PANEL * (1.0 - value / highest);
    for quarter in 0..=4 {
        let value = highest * f64::from(quarter) / 4.0;
        writeln!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {0:.1}H{1}\"/><text class=\"ink\" x=\"{2}\" \
             y=\"{3:.1}\" text-anchor=\"end\">{value:.3}</text>",
            up(value),
            WIDTH - RIGHT,
            LEFT - 8.0,
            up(value) + 4.0
        )?;
    }
    let step = round_step(last);
    for tick in 0..=(last / step) as u32 {
        let scored = step * f64::from(tick);
        writeln!(
            svg,
            "<text class=\"ink\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{scored:.0}</text>",
            across(scored),
            y + PANEL + 18.0
        )?;
    }
    writeln!(
        svg,
        "<path class=\"axis\" fill=\"none\" d=\"M{LEFT} {y}v{PANEL}H{}\"/>",
        WIDTH - RIGHT
    )?;
    let label = metric.name();
    writeln!(svg, "<text class=\"ink\" x=\"{LEFT}\" y=\"{:.1}\">{label}, sliding</text>", y - 8.0)?;
    for (colour, line) in COLOURS.iter().zip(&lines) {
        let place = |p: &Point| format!("{:.1},{:.1}", across(p.scored as f64), up(p.sliding));
        let places: Vec<String> = line.iter().map(place).collect();
        writeln!(
            svg,
            "<polyline class=\"line\" stroke=\"{colour}\" points=\"{}\"/>",
            places.join(" ")
        )?;
    }
    Ok(())
}

/// The end of an axis: the next number above that is round in quarters, so that a panel is not
/// half empty.
fn nice(highest: f64) -> f64 {
    if highest <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(highest.log10().floor());
    [1.0, 1.2, 1.6, 2.0, 2.4, 3.2, 4.0, 4.8, 6.0, 8.0, 10.0]
        .into_iter()
        .map(|m| m * power)
        .find(|&m| m >= highest)
        .unwrap_or(highest)
}

/// The largest of 1, 2 or 5 times a power of ten that goes into `last` four times, at least 1.
fn round_step(last: f64) -> f64 {
    let power = 10f64.powf((last / 4.0).max(1.0).log10().floor());
    let fits = |step: &f64| step * 4.0 <= last;
    [5.0, 2.0].into_iter().map(|m| m * power).find(fits).unwrap_or(power)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
