//! `driftline drift explain|backtest`

mod backtest;

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Failure, metrics, triggers};
use crate::config::Config;
use crate::event::{Encoding, RetrainTrigger, TriggerState};
use crate::monitor::METRICS;
use crate::monitor::plot::{self, Point};
use crate::quality::windows;
use crate::time::HOUR_MS;
use crate::trigger::ALL;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline drift explain 36a239e2b09444ac-firing-1776125220000
  driftline drift explain 36a239e2b09444ac --plot why.svg      the newest of this finding
  driftline drift backtest                                     what the monitor's detector tells
  driftline drift backtest --detector adwin --metric long_view_rate
  driftline metrics --by minute --last 30d --json > minutes.jsonl
  driftline drift backtest --file minutes.jsonl --change-at 2026-04-12T08:00:00Z

`driftline triggers` lists what was told.")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Show window, baseline, statistic and threshold of a trigger
    Explain {
        /// Event id, or dedup key for the newest of a finding
        #[arg(value_name = "EVENT_ID|KEY")]
        id: String,
        /// Draw it, as SVG
        #[arg(long, value_name = "FILE")]
        plot: Option<PathBuf>,
        /// The record, as JSON
        #[arg(long)]
        json: bool,
    },
    /// See what a detector would have told of recorded minutes
    Backtest(backtest::Args),
}

pub fn run(args: &Args, config: &Config) -> Result<ExitCode, Failure> {
    match &args.action {
        Action::Explain { id, plot, json } => explain(id, plot.as_ref(), *json, config),
        Action::Backtest(args) => backtest::run(args, config),
    }
}

fn explain(
    id: &str,
    plot: Option<&PathBuf>,
    as_json: bool,
    config: &Config,
) -> Result<ExitCode, Failure> {
    let (_, all) = triggers::read(config)?;
    let trigger = find(&all, id)
        .ok_or_else(|| format!("{id} is no trigger: `driftline triggers` lists them"))?;
    if as_json {
        println!("{}", String::from_utf8(trigger.encode(Encoding::Json)?)?);
    } else {
        show(trigger);
    }
    if let Some(file) = plot {
        let minutes = minutes(trigger, config)?;
        std::fs::write(file, plot::svg(trigger, &minutes))
            .map_err(|error| format!("{}: {error}", file.display()))?;
        eprintln!("{} shows {} minutes.", file.display(), minutes.len());
    }
    Ok(ExitCode::SUCCESS)
}

/// The event of this id, or of this key the newest that fires, or the newest.
fn find<'a>(all: &'a [RetrainTrigger], id: &str) -> Option<&'a RetrainTrigger> {
    let of_key = || all.iter().rev().filter(|trigger| trigger.dedup_key == id);
    all.iter()
        .find(|trigger| trigger.event_id == id)
        .or_else(|| of_key().find(|trigger| trigger.state == TriggerState::Firing))
        .or_else(|| of_key().next())
}

fn show(trigger: &RetrainTrigger) {
    let RetrainTrigger { metric, detector, window, reference, .. } = trigger;
    let time = |ms: i64| if ms == 0 { "-".into() } else { metrics::time(ms) };
    let held = match trigger.suppressed_by.as_str() {
        "" => String::new(),
        why => format!(" ({} is held back by {why})", trigger.wanted_action.name()),
    };
    let quality = match trigger.data_quality.passed {
        true => "passed".to_owned(),
        false => format!("failing: {}", trigger.data_quality.failing.join(", ")),
    };
    let parameters: Vec<String> =
        detector.parameters.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let minutes = (window.end - window.start) / 60_000;
    println!("{}", trigger.reason);
    let rows = [
        ("event", trigger.event_id.clone()),
        ("decided", time(trigger.emitted_at)),
        ("state", format!("{}, {}", trigger.state.name(), trigger.severity.name())),
        ("asks for", format!("{}{held}", trigger.action.name())),
        ("model", format!("{} {}", trigger.model, trigger.model_version)),
        ("metric", format!("{} of {}, {}", metric.name, trigger.segment, metric.kind.name())),
        ("window", format!("{} to {}", time(window.start), time(window.end))),
        (
            "",
            format!("{minutes} minutes, {} outside, {} values", trigger.windows_breached, window.n),
        ),
        ("observed", format!("{:.6} {}", trigger.observed, metric.unit)),
        ("baseline", format!("{:.6} {}", trigger.baseline, metric.unit)),
        ("effect", format!("{:+.1} %", 100.0 * trigger.effect)),
        ("statistic", format!("{:.3}, threshold {:.3}", trigger.statistic, trigger.threshold)),
        ("e-value", format!("{:.3e}", trigger.e_value)),
        ("detector", format!("{} {}: {}", detector.name, detector.version, parameters.join(", "))),
        ("reference", format!("{} {}", reference.kind, reference.id)),
        ("", format!("{} to {}", time(reference.start), time(reference.end))),
        ("data quality", quality),
        ("cooldown", format!("until {}", time(trigger.cooldown_until))),
        ("metrics read to", format!("{:?}", window.offsets)),
    ];
    for (name, value) in rows {
        println!("{name:<16} {value}");
    }
}

/// Minutes of the trigger's metric around its window.
fn minutes(trigger: &RetrainTrigger, config: &Config) -> Result<Vec<Point>, Failure> {
    let name = &trigger.metric.name;
    let definition = METRICS.iter().find(|known| known.name == name).ok_or_else(|| {
        let known: Vec<_> = METRICS.iter().map(|known| known.name).collect();
        format!("{name} is no metric by the minute; a plot can be made of {}", known.join(", "))
    })?;
    let length = trigger.window.end - trigger.window.start;
    let from = trigger.window.start - (2 * length).max(6 * HOUR_MS);
    let to = trigger.window.end + HOUR_MS;
    let mut all: std::collections::BTreeMap<i64, crate::event::MetricsWindow> = Default::default();
    for ((start, ..), window) in metrics::read(config)?.windows {
        let names = [
            ALL.to_owned(),
            format!("surface={}", window.surface),
            format!("arm={}", window.arm),
            format!("model_version={}", window.model_version),
        ];
        if (from..to).contains(&start) && names.contains(&trigger.segment) {
            windows::merge(all.entry(start).or_default(), &window);
        }
    }
    let point = |(at, window)| {
        let (sum, n) = (definition.of)(&window);
        Point { at, sum: sum * definition.scale, n: n as f64 }
    };
    Ok(all.into_iter().map(point).collect())
}
