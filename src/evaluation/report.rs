//! What an evaluation found, for people and for programs. Pure: returns text and JSON.
//!
//! Enters: an [`Evaluation`] and what was asked. Leaves: Markdown and JSON.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::metrics::{Metric, coverage, gini};
use super::{Evaluation, LeftOut};
use crate::time::EventTime;

/// What was asked, for the head of a report.
#[derive(Clone, Debug)]
pub struct Head {
    /// The data set, as it was named.
    pub data: String,
    /// The protocol's name.
    pub protocol: &'static str,
    /// The target's name.
    pub target: String,
    /// Length of the lists.
    pub top: usize,
    /// Whether lists may hold what the user has had.
    pub repeats: bool,
    /// The share of targets scored.
    pub sample: f64,
    /// Decides the sample and the intervals.
    pub seed: u64,
    /// Events read.
    pub events: usize,
    /// Users and items among them.
    pub users: usize,
    /// Items among them.
    pub items: usize,
    /// Targets that were not scored.
    pub left_out: LeftOut,
}

/// Points of a sliding curve.
const POINTS: usize = 200;

/// The report as Markdown: what was asked, the means by arm, and what the blend adds to each.
pub fn markdown(head: &Head, found: &Evaluation) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_head(&mut text, head, found);
    let _ = write_arms(&mut text, head, found);
    let _ = write_gains(&mut text, head, found);
    text
}

fn write_head(text: &mut String, head: &Head, found: &Evaluation) -> std::fmt::Result {
    let LeftOut { repeats, newcomers, not_drawn, by_protocol } = head.left_out;
    writeln!(
        text,
        "{}, {}, target {}: {} events, {} users, {} items",
        head.data, head.protocol, head.target, head.events, head.users, head.items
    )?;
    let policy = match head.repeats {
        true => "repeats kept: what a user has had may be on the list, and is scored",
        false => "repeats masked: what a user has had is not on the list, and not scored",
    };
    writeln!(text, "{policy}")?;
    writeln!(
        text,
        "scored {} targets ({} of items never seen before); left out: {repeats} repeats, \
         {newcomers} without history, {by_protocol} by the protocol, {not_drawn} not in the sample",
        found.scored.len(),
        found.new_items
    )?;
    writeln!(text, "learning {:.1} µs an event; seed {}\n", learn_us(found), head.seed)
}

fn write_arms(text: &mut String, head: &Head, found: &Evaluation) -> std::fmt::Result {
    let metrics = Metric::all(head.top);
    let names: Vec<String> = metrics.iter().map(|m| m.name()).collect();
    writeln!(text, "| sources | {} | coverage | Gini | ILD | µs a list |", names.join(" | "))?;
    writeln!(text, "|---|{}", "---|".repeat(metrics.len() + 4))?;
    for (arm, result) in found.arms.iter().enumerate() {
        let means = metrics.iter().map(|&m| format!("{:.4}", found.mean(arm, m)));
        writeln!(
            text,
            "| {} | {} | {:.3} | {:.3} | {:.3} | {:.0} |",
            result.arm.name,
            means.collect::<Vec<_>>().join(" | "),
            coverage(&result.shown, found.items),
            gini(&result.shown, found.items),
            found.diversity(arm),
            list_us(found, arm)
        )?;
    }
    Ok(())
}

fn write_gains(text: &mut String, head: &Head, found: &Evaluation) -> std::fmt::Result {
    if found.arms.len() < 2 {
        return Ok(());
    }
    let metrics = [Metric::Recall(head.top), Metric::Mrr(head.top)];
    let names: Vec<String> = metrics.iter().map(|m| m.name()).collect();
    writeln!(text, "\nBlend minus each, with paired 95 % intervals (users resampled):\n")?;
    writeln!(text, "| sources | {} |\n|---|---|---|", names.join(" | "))?;
    for arm in 1..found.arms.len() {
        let gains = metrics.iter().filter_map(|&m| found.gain_over(arm, m, head.seed));
        let cells = gains.map(|g| format!("{:+.4} [{:+.4}, {:+.4}]", g.mean, g.low, g.high));
        let cells: Vec<String> = cells.collect();
        writeln!(text, "| {} | {} |", found.arms[arm].arm.name, cells.join(" | "))?;
    }
    Ok(())
}

/// The report as JSON, with means by period where there are several, and sliding and cumulative
/// curves.
pub fn json(head: &Head, found: &Evaluation) -> Value {
    let metrics = Metric::all(head.top);
    let arms: Vec<Value> = (0..found.arms.len())
        .map(|arm| {
            let result = &found.arms[arm];
            let gain = |m: Metric| found.gain_over(arm, m, head.seed);
            let gains = metrics.iter().filter_map(|&m| Some((m.name(), gain(m)?)));
            let gains: Map<String, Value> = gains
                .map(|(name, g)| (name, json!({"mean": g.mean, "low": g.low, "high": g.high})))
                .collect();
            json!({
                "name": result.arm.name,
                "sources": result.arm.sources.iter().map(|s| s.name()).collect::<Vec<_>>(),
                "metrics": values(&metrics, |m| found.mean(arm, m)),
                "coverage": coverage(&result.shown, found.items),
                "gini": gini(&result.shown, found.items),
                "intra_list_diversity": found.diversity(arm),
                "microseconds_per_list": list_us(found, arm),
                "blend_minus_this": if arm == 0 { Value::Null } else { Value::Object(gains) },
                "periods": by_period(found, arm, &metrics),
                "sliding": curve_json(found, arm, head.top),
            })
        })
        .collect();
    json!({
        "data": head.data,
        "protocol": head.protocol,
        "target": head.target,
        "top": head.top,
        "repeats": if head.repeats { "keep" } else { "mask" },
        "sample": head.sample,
        "seed": head.seed,
        "events": head.events,
        "users": head.users,
        "items": head.items,
        "scored": found.scored.len(),
        "scored_of_new_items": found.new_items,
        "left_out": head.left_out,
        "microseconds_per_event_learnt": learn_us(found),
        "arms": arms,
    })
}

fn values(metrics: &[Metric], of: impl Fn(Metric) -> f64) -> Map<String, Value> {
    metrics.iter().map(|&m| (m.name(), json!(of(m)))).collect()
}

fn by_period(found: &Evaluation, arm: usize, metrics: &[Metric]) -> Vec<Value> {
    let mut periods: Vec<u32> = found.scored.iter().map(|one| one.period).collect();
    periods.sort_unstable();
    periods.dedup();
    if periods.len() < 2 {
        return Vec::new();
    }
    let one_period = |period: u32| {
        let there: Vec<_> = found.arms[arm]
            .placed
            .iter()
            .zip(&found.scored)
            .filter(|(_, scored)| scored.period == period)
            .map(|(placed, _)| placed)
            .collect();
        let mean = |m: Metric| there.iter().map(|p| m.of(p)).sum::<f64>() / there.len() as f64;
        json!({"period": period, "scored": there.len(), "metrics": values(metrics, mean)})
    };
    periods.into_iter().map(one_period).collect()
}

/// A point of a curve over time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// How many targets have been scored.
    pub scored: usize,
    /// When the newest of them was.
    pub at: EventTime,
    /// The mean over the window that ends there.
    pub sliding: f64,
    /// The mean over all up to there.
    pub cumulative: f64,
}

/// A metric over the targets as they come: the window is a fiftieth of all, and at least 100.
pub fn curve(found: &Evaluation, arm: usize, metric: Metric) -> Vec<Point> {
    let placed = &found.arms[arm].placed;
    let window = (placed.len() / 50).max(100).min(placed.len());
    let mut sums = vec![0.0];
    for one in placed {
        sums.push(sums[sums.len() - 1] + metric.of(one));
    }
    let step = (placed.len() / POINTS).max(1);
    let ends = (window..=placed.len()).step_by(step).filter(|&end| end > 0);
    ends.map(|end| Point {
        scored: end,
        at: found.scored[end - 1].at,
        sliding: (sums[end] - sums[end - window]) / window as f64,
        cumulative: sums[end] / end as f64,
    })
    .collect()
}

fn curve_json(found: &Evaluation, arm: usize, top: usize) -> Vec<Value> {
    let recall = curve(found, arm, Metric::Recall(top));
    let mrr = curve(found, arm, Metric::Mrr(top));
    let point = |(r, m): (Point, Point)| {
        json!({
            "scored": r.scored,
            "event_time": r.at.millis(),
            "recall": r.sliding,
            "mrr": m.sliding,
            "cumulative_recall": r.cumulative,
            "cumulative_mrr": m.cumulative,
        })
    };
    recall.into_iter().zip(mrr).map(point).collect()
}

fn learn_us(found: &Evaluation) -> f64 {
    found.learning_took.as_secs_f64() * 1e6 / found.learnt.max(1) as f64
}

fn list_us(found: &Evaluation, arm: usize) -> f64 {
    found.arms[arm].took.as_secs_f64() * 1e6 / found.scored.len().max(1) as f64
}
