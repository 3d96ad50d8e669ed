//! What an evaluation found, for people and for programs. Pure: returns text and JSON.
//!
//! Enters: an [`Evaluation`] and what was asked. Leaves: Markdown and JSON.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::bootstrap::Interval;
use super::impressions::{Gains, Verdict};
use super::metrics::{Metric, coverage, gini};
use super::{Evaluation, LeftOut, Standing};
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

/// The report as Markdown: what was asked, the means by arm, what the blend adds to each, what moving
/// vectors add, and how well arms tell what was taken of what was shown.
pub fn markdown(head: &Head, found: &Evaluation) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_head(&mut text, head, found);
    let _ = write_arms(&mut text, head, found);
    let _ = write_gains(&mut text, head, found);
    let _ = write_controls(&mut text, head, found);
    let _ = write_impressions(&mut text, head, found);
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
        found.standing(Standing::Unseen)
    )?;
    writeln!(text, "learning {:.1} µs an event; seed {}\n", learn_us(found), head.seed)
}

fn write_arms(text: &mut String, head: &Head, found: &Evaluation) -> std::fmt::Result {
    let metrics = Metric::all(head.top);
    let names: Vec<String> = metrics.iter().map(|m| m.name()).collect();
    writeln!(
        text,
        "| sources | {} | coverage | Gini | novelty | ILD | µs a list |",
        names.join(" | ")
    )?;
    writeln!(text, "|---|{}", "---|".repeat(metrics.len() + 5))?;
    for (arm, result) in found.arms.iter().enumerate() {
        let means = metrics.iter().map(|&m| format!("{:.4}", found.mean(arm, m)));
        writeln!(
            text,
            "| {} | {} | {:.3} | {:.3} | {:.2} | {:.3} | {:.0} |",
            result.arm.name,
            means.collect::<Vec<_>>().join(" | "),
            coverage(&result.shown, found.items),
            gini(&result.shown, found.items),
            found.novelty(arm),
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
        let gains = metrics.iter().map(|&m| cell(found.gain_over(arm, m, head.seed)));
        let cells: Vec<String> = gains.collect();
        writeln!(text, "| {} | {} |", found.arms[arm].arm.name, cells.join(" | "))?;
    }
    Ok(())
}

/// A difference and its interval; nothing where there is none.
fn cell(gain: Option<Interval>) -> String {
    gain.map(|g| format!("{:+.4} [{:+.4}, {:+.4}]", g.mean, g.low, g.high)).unwrap_or_default()
}

fn interval_json(gain: Option<Interval>) -> Value {
    gain.map_or(Value::Null, |g| json!({"mean": g.mean, "low": g.low, "high": g.high}))
}

/// What targets are told apart by, as reports name it.
const STANDINGS: [(Standing, &str); 2] = [(Standing::Trained, "trained"), (Standing::New, "new")];

fn write_controls(text: &mut String, head: &Head, found: &Evaluation) -> std::fmt::Result {
    let pairs: Vec<(usize, usize)> =
        (0..found.arms.len()).filter_map(|c| Some((found.arms[c].arm.control_of?, c))).collect();
    if pairs.is_empty() {
        return Ok(());
    }
    let metrics = [Metric::Recall(head.top), Metric::Mrr(head.top)];
    let names = metrics.map(|m| format!("{} | of the control | difference", m.name()));
    writeln!(
        text,
        "\nMoving vectors minus their control, with paired 95 % intervals, by whether the newest \
         basis was trained on the target's item ({} targets) or the item is newer ({}); {} targets \
         came before the first basis, {} were of items never seen:\n",
        found.standing(Standing::Trained),
        found.standing(Standing::New),
        found.standing(Standing::Untrained),
        found.standing(Standing::Unseen),
    )?;
    writeln!(text, "| sources | control | items | {} |", names.join(" | "))?;
    writeln!(text, "|---|---|---|{}", "---|".repeat(6))?;
    for (of, control) in pairs {
        let name = |arm: usize| &found.arms[arm].arm.name;
        for (standing, items) in STANDINGS {
            write!(text, "| {} | {} | {items} |", name(of), name(control))?;
            for metric in metrics {
                let mean = |arm| found.mean_of(arm, metric, standing).unwrap_or_default();
                let gain = found.gain_between(of, control, metric, Some(standing), head.seed);
                write!(text, " {:.4} | {:.4} | {} |", mean(of), mean(control), cell(gain))?;
            }
            writeln!(text)?;
        }
        write!(text, "| {} | {} | all |", name(of), name(control))?;
        for metric in metrics {
            let gain = found.gain_between(of, control, metric, None, head.seed);
            let (ours, theirs) = (found.mean(of, metric), found.mean(control, metric));
            write!(text, " {ours:.4} | {theirs:.4} | {} |", cell(gain))?;
        }
        writeln!(text)?;
    }
    Ok(())
}

fn control_json(head: &Head, found: &Evaluation, control: usize) -> Value {
    let Some(of) = found.arms[control].arm.control_of else { return Value::Null };
    let all = [(None, "all")];
    let split = STANDINGS.map(|(standing, name)| (Some(standing), name));
    let by_items = all.into_iter().chain(split).map(|(standing, name)| {
        let gain =
            |m: Metric| interval_json(found.gain_between(of, control, m, standing, head.seed));
        let gains = Metric::all(head.top).into_iter().map(|m| (m.name(), gain(m)));
        (name.to_owned(), Value::Object(gains.collect()))
    });
    json!({
        "of": found.arms[of].arm.name,
        "that_minus_this": Value::Object(by_items.collect()),
    })
}

fn write_impressions(text: &mut String, head: &Head, found: &Evaluation) -> std::fmt::Result {
    let impressions = &found.impressions;
    if impressions.shown.is_empty() {
        return Ok(());
    }
    let (users, sessions) = impressions.mixed_groups();
    writeln!(
        text,
        "\nOf {} impressions {} were taken; {users} users and {sessions} sessions took some and left \
         some. Scores are of what the user chooses next, out of all items; what no source put \
         forward has the share of any item. For log loss and calibration they are made \
         probabilities by p = 1 / (1 + exp(−(a·ln(s/(1−s)) + b))), one a and b a ranker, fitted on \
         the impressions before:\n",
        impressions.shown.len(),
        impressions.taken(),
    )?;
    writeln!(text, "| sources | AUC | GAUC | in sessions | log loss | Σp/Σy | a | b |")?;
    writeln!(text, "|---|---|---|---|---|---|---|---|")?;
    let share = |value: Option<f64>| value.map(|v| format!("{v:.4}")).unwrap_or_default();
    for (arm, result) in found.arms.iter().enumerate() {
        let Verdict { auc, gauc, session_gauc, log_loss, calibration, platt } =
            impressions.verdict(arm);
        writeln!(
            text,
            "| {} | {} | {} | {} | {log_loss:.4} | {} | {:.3} | {:.3} |",
            result.arm.name,
            share(auc),
            share(gauc),
            share(session_gauc),
            share(calibration),
            platt.a,
            platt.b
        )?;
    }
    if found.arms.len() > 1 {
        writeln!(text, "\nBlend minus each, with paired 95 % intervals (users resampled):\n")?;
        writeln!(text, "| sources | AUC | GAUC | in sessions | log loss |\n|---|---|---|---|---|")?;
    }
    for arm in 1..found.arms.len() {
        let Gains { auc, gauc, session_gauc, log_loss } = impressions.gains(0, arm, head.seed);
        let cells = [auc, gauc, session_gauc, log_loss].map(cell);
        writeln!(text, "| {} | {} |", found.arms[arm].arm.name, cells.join(" | "))?;
    }
    Ok(())
}

fn impressions_json(head: &Head, found: &Evaluation, arm: usize) -> Value {
    if found.impressions.shown.is_empty() {
        return Value::Null;
    }
    let verdict = found.impressions.verdict(arm);
    let gains = (arm > 0).then(|| {
        let gains = found.impressions.gains(0, arm, head.seed);
        json!({
            "auc": interval_json(gains.auc),
            "gauc": interval_json(gains.gauc),
            "session_gauc": interval_json(gains.session_gauc),
            "log_loss": interval_json(gains.log_loss),
        })
    });
    json!({
        "shown": found.impressions.shown.len(),
        "taken": found.impressions.taken(),
        "auc": verdict.auc,
        "gauc": verdict.gauc,
        "session_gauc": verdict.session_gauc,
        "log_loss": verdict.log_loss,
        "calibration": verdict.calibration,
        "platt": {"a": verdict.platt.a, "b": verdict.platt.b},
        "blend_minus_this": gains,
    })
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
            let gains: Map<String, Value> =
                gains.map(|(name, gain)| (name, interval_json(Some(gain)))).collect();
            json!({
                "name": result.arm.name,
                "sources": result.arm.sources.iter().map(|s| s.name()).collect::<Vec<_>>(),
                "metrics": values(&metrics, |m| found.mean(arm, m)),
                "coverage": coverage(&result.shown, found.items),
                "gini": gini(&result.shown, found.items),
                "novelty_bits": found.novelty(arm),
                "intra_list_diversity": found.diversity(arm),
                "microseconds_per_list": list_us(found, arm),
                "impressions": impressions_json(head, found, arm),
                "control": control_json(head, found, arm),
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
        "scored_of_new_items": found.standing(Standing::Unseen),
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

/// A metric over the targets as they come: the window is a twentieth of all, and at least 100.
pub fn curve(found: &Evaluation, arm: usize, metric: Metric) -> Vec<Point> {
    let placed = &found.arms[arm].placed;
    let window = (placed.len() / 20).max(100).min(placed.len());
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
