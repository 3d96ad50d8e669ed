//! A trigger as an SVG: the metric around the window in which it was found, what was expected of it
//! there, readable on light and on dark, and without colour.
//!
//! Enters: a trigger and minutes of its metric. Leaves: the text of an SVG file.

use std::fmt::Write;

use crate::event::RetrainTrigger;
use crate::time::MINUTE_MS;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 56.0;
/// Points of the line at most: about one for three pixels.
const POINTS: i64 = 240;
const STYLE: &str = "<style>.paper{fill:#fff}.ink{fill:#222}.line{fill:none;stroke:#0072B2;\
stroke-width:1.8}.base{stroke:#D55E00;stroke-width:2;stroke-dasharray:6 4}.window{fill:#E69F00;\
opacity:.18}.axis{stroke:#888}text{font:12px sans-serif}\
@media(prefers-color-scheme:dark){.paper{fill:#161b22}.ink{fill:#ddd}}</style>";

/// A minute of a metric: a sum of values in its unit, and how many they are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Begin, milliseconds since the Unix epoch.
    pub at: i64,
    /// Sum.
    pub sum: f64,
    /// How many.
    pub n: f64,
}

/// Draws a trigger. Minutes are in order; of many, several are one point.
pub fn svg(trigger: &RetrainTrigger, minutes: &[Point]) -> String {
    let mut svg = String::new();
    // Writing to a String cannot fail.
    let _ = draw(&mut svg, trigger, minutes);
    svg
}

/// Means over equal stretches of time: (middle, mean), without those that hold nothing.
fn means(minutes: &[Point]) -> Vec<(f64, f64)> {
    let (Some(first), Some(last)) = (minutes.first(), minutes.last()) else { return Vec::new() };
    let stretch = (last.at - first.at) / POINTS / MINUTE_MS * MINUTE_MS + MINUTE_MS;
    minutes
        .chunk_by(|a, b| a.at.div_euclid(stretch) == b.at.div_euclid(stretch))
        .filter_map(|part| {
            let (sum, n) = part.iter().fold((0.0, 0.0), |all, p| (all.0 + p.sum, all.1 + p.n));
            let middle = (part.first()?.at + part.last()?.at + MINUTE_MS) as f64 / 2.0;
            (n > 0.0).then(|| (middle, sum / n))
        })
        .collect()
}

fn draw(svg: &mut String, trigger: &RetrainTrigger, minutes: &[Point]) -> std::fmt::Result {
    let means = means(minutes);
    let window = &trigger.window;
    let begin = minutes.first().map_or(window.start, |p| p.at.min(window.start)) as f64;
    let end = minutes.last().map_or(window.end, |p| (p.at + MINUTE_MS).max(window.end)) as f64;
    let values = means.iter().map(|(_, value)| *value).chain([trigger.baseline, trigger.observed]);
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
    let room = ((high - low) * 0.1).max(1e-9);
    let (low, high) = ((low - room).max(0.0), high + room);
    let x = |at: f64| LEFT + (at - begin) / (end - begin).max(1.0) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM);
    writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\">{STYLE}\
         <rect class=\"paper\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\
         <text class=\"ink\" x=\"{LEFT}\" y=\"24\">{}</text>\
         <text class=\"ink\" x=\"{LEFT}\" y=\"44\">line: {}; dashed: what was expected; \
         shaded: where it was found</text>",
        escaped(&trigger.reason),
        escaped(&trigger.metric.name)
    )?;
    let (from, to) = (x(window.start as f64), x(window.end as f64));
    writeln!(
        svg,
        "<rect class=\"window\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"/>",
        to - from,
        HEIGHT - TOP - BOTTOM
    )?;
    writeln!(
        svg,
        "<path class=\"base\" d=\"M{from:.1} {0:.1}H{to:.1}\"/>\
         <path class=\"axis\" fill=\"none\" d=\"M{LEFT} {TOP}V{1}H{2}\"/>",
        y(trigger.baseline),
        HEIGHT - BOTTOM,
        WIDTH - RIGHT
    )?;
    let mut path = String::new();
    for (n, (at, value)) in means.iter().enumerate() {
        let step = if n == 0 { 'M' } else { 'L' };
        write!(path, "{step}{:.1} {:.1}", x(*at), y(*value))?;
    }
    writeln!(svg, "<path class=\"line\" d=\"{path}\"/>")?;
    for value in [low, (low + high) / 2.0, high] {
        let at = y(value) + 4.0;
        writeln!(svg, "<text class=\"ink\" x=\"8\" y=\"{at:.1}\">{value:.4}</text>")?;
    }
    for (at, anchor) in [(begin, "start"), ((begin + end) / 2.0, "middle"), (end, "end")] {
        let time = chrono::DateTime::from_timestamp_millis(at as i64);
        let time = time.map_or_else(String::new, |at| at.format("%Y-%m-%d %H:%M").to_string());
        writeln!(
            svg,
            "<text class=\"ink\" text-anchor=\"{anchor}\" x=\"{:.1}\" y=\"{}\">{time}</text>",
            x(at),
            HEIGHT - BOTTOM + 20.0
        )?;
    }
    writeln!(svg, "</svg>")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::TriggerWindow;

    #[test]
    fn a_plot_has_a_point_for_each_stretch_and_nothing_of_a_name_is_markup() {
        let minute = |n: i64| Point { at: n * MINUTE_MS, sum: 5.0, n: 100.0 };
        let minutes: Vec<Point> = (0..1_000).map(minute).collect();
        let trigger = RetrainTrigger {
            reason: "a < b & c".into(),
            baseline: 0.05,
            window: TriggerWindow { end: 5 * MINUTE_MS, ..TriggerWindow::default() },
            ..RetrainTrigger::default()
        };
        let drawn = svg(&trigger, &minutes);
        assert!(drawn.contains("a &lt; b &amp; c"), "{drawn}");
        let line = drawn.lines().find(|line| line.contains("class=\"line\"")).unwrap();
        let points = line.matches('L').count() + 1;
        assert!((190..=250).contains(&points), "{points} points");
        assert!(!drawn.contains("NaN") && !svg(&trigger, &[]).contains("NaN"));
    }
}
