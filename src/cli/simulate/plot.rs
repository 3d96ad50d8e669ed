//! A scenario as an SVG: click rates over event time, with what happened and what was done about it.
//! Readable on light and on dark, and without colour.

use std::fmt::Write;

use super::verdict::{Hour, Verdict, World};
use crate::time::{DAY_MS, HOUR_MS};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 72.0;
const BOTTOM: f64 = 60.0;
/// Hours of a point: fewer are noise.
const SPAN: i64 = 3;
const STYLE: &str = "<style>.paper{fill:#fff}.ink{fill:#222}.line{fill:none;stroke-width:1.8}\
.served{stroke:#0072B2}.best{stroke:#009E73;stroke-dasharray:2 3}.oracle{stroke:#D55E00;\
stroke-dasharray:7 4}.mark{stroke:#888;stroke-width:1.2}.axis{stroke:#888;fill:none}\
text{font:12px sans-serif}@media(prefers-color-scheme:dark){.paper{fill:#161b22}.ink{fill:#ddd}}\
</style>";

/// Draws a judged world.
pub fn svg(world: &World, oracle: Option<&World>, verdict: &Verdict) -> String {
    let mut svg = String::new();
    // Writing to a String cannot fail.
    let _ = draw(&mut svg, world, oracle, verdict);
    svg
}

/// Rates of stretches of hours: (middle, rate), without those that hold nothing.
fn points(hours: &[Hour], of: impl Fn(&Hour) -> (f64, f64)) -> Vec<(f64, f64)> {
    let stretch = |hour: &Hour| hour.start.div_euclid(SPAN * HOUR_MS);
    let rate = |part: &[Hour]| {
        let (sum, n) = part.iter().map(&of).fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        let middle = (part.first()?.start + part.last()?.start + HOUR_MS) as f64 / 2.0;
        (n > 0.0).then(|| (middle, sum / n))
    };
    hours.chunk_by(|a, b| stretch(a) == stretch(b)).filter_map(rate).collect()
}

fn clicks(hour: &Hour) -> (f64, f64) {
    (hour.clicks as f64, hour.shown as f64)
}

fn best(hour: &Hour) -> (f64, f64) {
    (hour.best_click_rate * hour.sampled as f64, hour.sampled as f64)
}

fn draw(
    svg: &mut String,
    world: &World,
    oracle: Option<&World>,
    verdict: &Verdict,
) -> std::fmt::Result {
    let mut lines = vec![
        ("served", "clicked of what was shown", points(&world.hours, clicks)),
        ("best", "the best there is", points(&world.hours, best)),
    ];
    if let Some(oracle) = oracle {
        let name = "people who always had the new tastes";
        lines.push(("oracle", name, points(&oracle.hours, clicks)));
    }
    let all = || lines.iter().flat_map(|(.., points)| points);
    let times = || all().map(|point| point.0);
    let begin = times().reduce(f64::min).unwrap_or_default();
    let end = times().reduce(f64::max).unwrap_or_default();
    let high = all().map(|point| point.1).fold(0.0, f64::max).max(1e-6) * 1.1;
    let x = |at: f64| LEFT + (at - begin) / (end - begin).max(1.0) * (WIDTH - LEFT - RIGHT);
    let y = |rate: f64| HEIGHT - BOTTOM - rate / high * (HEIGHT - TOP - BOTTOM);
    writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\">{STYLE}\
         <rect class=\"paper\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\
         <text class=\"ink\" x=\"{LEFT}\" y=\"20\">{}: click rate over event time</text>\
         <path class=\"axis\" d=\"M{LEFT} {TOP}V{1}H{2}\"/>",
        verdict.scenario,
        HEIGHT - BOTTOM,
        WIDTH - RIGHT
    )?;
    for (n, (class, name, points)) in lines.iter().enumerate() {
        let left = LEFT + 250.0 * n as f64;
        let steps = points.iter().enumerate().map(|(n, (at, rate))| {
            format!("{}{:.1} {:.1}", if n == 0 { 'M' } else { 'L' }, x(*at), y(*rate))
        });
        writeln!(
            svg,
            "<path class=\"line {class}\" d=\"M{left} 38h22\"/>\
             <text class=\"ink\" x=\"{}\" y=\"42\">{name}</text>\
             <path class=\"line {class}\" d=\"{}\"/>",
            left + 28.0,
            steps.collect::<String>()
        )?;
    }
    for (n, (at, what)) in marks(verdict).iter().enumerate() {
        let (at, top) = (x(*at as f64).clamp(LEFT, WIDTH - RIGHT), TOP - 4.0);
        // Marks may be close together: names at three heights.
        let text = HEIGHT - BOTTOM - 8.0 - 14.0 * (n % 3) as f64;
        writeln!(
            svg,
            "<path class=\"mark\" d=\"M{at:.1} {top}V{}\"/>\
             <text class=\"ink\" x=\"{:.1}\" y=\"{text}\">{what}</text>",
            HEIGHT - BOTTOM,
            at + 4.0
        )?;
    }
    for rate in [0.0, high / 2.0, high] {
        let at = y(rate) + 4.0;
        writeln!(svg, "<text class=\"ink\" x=\"8\" y=\"{at:.1}\">{:.1} %</text>", 100.0 * rate)?;
    }
    let first = (begin as i64).div_euclid(DAY_MS);
    for day in (1..).take_while(|day| ((first + day) * DAY_MS) as f64 <= end) {
        let at = x(((first + day) * DAY_MS) as f64);
        let down = HEIGHT - BOTTOM + 20.0;
        writeln!(
            svg,
            "<text class=\"ink\" text-anchor=\"middle\" x=\"{at:.1}\" y=\"{down}\">day {}</text>",
            day + 1
        )?;
    }
    writeln!(svg, "</svg>")
}

/// What happened, in order.
fn marks(verdict: &Verdict) -> Vec<(i64, String)> {
    let mut marks = vec![(verdict.at, verdict.scenario.clone())];
    marks.extend(verdict.detected.iter().map(|alarm| (alarm.at, alarm.action.clone())));
    marks.extend(verdict.false_alarms.iter().map(|alarm| (alarm.at, format!("{}?", alarm.action))));
    let named = verdict.versions.iter().filter(|served| served.version != "untrained");
    marks.extend(named.map(|served| {
        let short: String = served.version.chars().take(6).collect();
        (served.first, format!("model {short}"))
    }));
    marks.sort();
    marks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::simulate::verdict::{Began, Served, judge};

    #[test]
    fn a_plot_has_a_line_for_each_world_and_a_mark_for_what_happened() {
        let hour = |n: i64| Hour {
            start: n * HOUR_MS,
            shown: if n == 50 { 0 } else { 100 },
            clicks: 5,
            sampled: 1,
            best_click_rate: 0.2,
            ..Hour::default()
        };
        let world = World {
            scenarios: vec![Began { scenario: "taste-shift".into(), at: 72 * HOUR_MS }],
            hours: (0..96).map(hour).collect(),
            mixed_versions: 0,
        };
        let version = "0123456789abcdef".into();
        let served = Served { version, first: 5, last: 9, lists: 1, most: None };
        let verdict = judge(&world, &[], vec![served], Some(&world)).unwrap();
        let drawn = svg(&world, Some(&world), &verdict);
        assert_eq!(drawn.matches("class=\"line oracle\"").count(), 2, "legend and line");
        assert!(drawn.contains("model 012345") && drawn.contains(">taste-shift<"));
        assert!(drawn.contains(">day 4<") && !drawn.contains("NaN"));
        assert!(!svg(&World::default(), None, &verdict).contains("NaN"));
    }
}
