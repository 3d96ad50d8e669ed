//! A report as an SVG: intervals of uplifts around 0, readable on light and on dark, and without colour.

use std::fmt::Write;

use crate::experiment::report::Report;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 300.0;
const RIGHT: f64 = 110.0;
const TOP: f64 = 64.0;
const ROW: f64 = 26.0;
const STYLE: &str = "<style>.paper{fill:#fff}.ink{fill:#222}.bar{stroke:#0072B2;stroke-width:3}\
.sure{stroke-width:7}.point{fill:#0072B2}.zero{stroke:#D55E00;stroke-width:2;stroke-dasharray:6 4}\
text{font:12px sans-serif}@media(prefers-color-scheme:dark){.paper{fill:#161b22}.ink{fill:#ddd}}\
</style>";

/// Draws a report.
pub(super) fn svg(report: &Report) -> String {
    let mut svg = String::new();
    // Writing to a String cannot fail.
    let _ = draw(&mut svg, report);
    svg
}

fn draw(svg: &mut String, report: &Report) -> std::fmt::Result {
    let rows: Vec<_> = report
        .arms
        .iter()
        .flat_map(|arm| arm.measured.iter().map(move |measured| (arm, measured)))
        .filter_map(|(arm, measured)| Some((arm, measured.metric, measured.comparison?)))
        .collect();
    let reach = rows.iter().map(|(.., c)| c.lower.abs().max(c.upper.abs())).fold(0.01, f64::max);
    let height = TOP + ROW * rows.len().max(1) as f64 + 40.0;
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    let x = |uplift: f64| middle + uplift / reach * (WIDTH - RIGHT - LEFT) / 2.0;
    writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\">{STYLE}\
         <rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>\
         <text class=\"ink\" x=\"16\" y=\"24\">{}: uplift over {} ({} decides)</text>\
         <text class=\"ink\" x=\"16\" y=\"44\">intervals hold at any number of looks; thick: 0 is left \
         out</text>",
        report.name, report.arms[0].name, report.primary.name
    )?;
    if rows.is_empty() {
        writeln!(
            svg,
            "<text class=\"ink\" x=\"16\" y=\"{}\">too little is known yet</text>",
            TOP + 16.0
        )?;
    }
    for (n, (arm, metric, c)) in rows.iter().enumerate() {
        let y = TOP + ROW * (n as f64 + 0.5);
        let class = if c.is_decided() { "bar sure" } else { "bar" };
        writeln!(
            svg,
            "<text class=\"ink\" x=\"16\" y=\"{:.1}\">{} {}</text>\
             <path class=\"{class}\" d=\"M{:.1} {y:.1}H{:.1}\"/>\
             <circle class=\"point\" cx=\"{:.1}\" cy=\"{y:.1}\" r=\"5\"/>\
             <text class=\"ink\" x=\"{:.1}\" y=\"{:.1}\">{:+.1} %</text>",
            y + 4.0,
            arm.name,
            metric.name,
            x(c.lower),
            x(c.upper),
            x(c.uplift),
            WIDTH - RIGHT + 16.0,
            y + 4.0,
            c.uplift * 100.0
        )?;
    }
    let bottom = height - 40.0;
    writeln!(svg, "<path class=\"zero\" d=\"M{middle:.1} {TOP}V{bottom:.1}\"/>")?;
    for (at, anchor) in [(-reach, "start"), (0.0, "middle"), (reach, "end")] {
        writeln!(
            svg,
            "<text class=\"ink\" text-anchor=\"{anchor}\" x=\"{:.1}\" y=\"{:.1}\">{:+.1} %</text>",
            x(at),
            bottom + 20.0,
            at * 100.0
        )?;
    }
    writeln!(svg, "</svg>")
}
