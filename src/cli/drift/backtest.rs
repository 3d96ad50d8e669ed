//! `driftline drift backtest`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::super::{Failure, metrics, output};
use crate::config::Config;
use crate::drift::detectors::{Detector, Parameters, Verdict};
use crate::drift::seasonal::{self, Seasonal, Window};
use crate::event::MetricsWindow;
use crate::monitor::METRICS;
use crate::quality::windows;
use crate::time::{EventTime, MINUTE_MS};

/// The name of the monitor's own detector here.
const SEASONAL: &str = "seasonal";

#[derive(clap::Args)]
pub struct Args {
    /// Minutes as `driftline metrics --by minute --json` writes them; the topic metrics without it
    #[arg(long)]
    file: Option<PathBuf>,
    /// What is watched: click_rate, long_view_rate, completion_rate; from the topic also
    /// watch_seconds_per_impression, click_log_loss, long_view_log_loss
    #[arg(long, default_value = "click_rate")]
    metric: String,
    /// seasonal, with the settings of [monitor], or adwin, page_hinkley, ddm, eddm, hddm_a, hddm_w,
    /// kswin with their defaults, on the metric's value in each minute
    #[arg(long, default_value = SEASONAL)]
    detector: String,
    /// When something is known to have changed: how long until it was found
    #[arg(long, value_name = "RFC 3339")]
    change_at: Option<String>,
    /// JSON for programs, a line an alarm
    #[arg(long)]
    json: bool,
}

/// A minute: begin, sum of values in [0, 1], number of values.
type Minute = (i64, f64, u64);

/// What was told of a minute.
struct Alarm {
    at: i64,
    observed: f64,
    /// What was expected, where the detector knows.
    baseline: Option<f64>,
}

pub fn run(args: &Args, config: &Config) -> Result<ExitCode, Failure> {
    let minutes = match &args.file {
        Some(file) => from_file(file, &args.metric)?,
        None => from_topic(config, &args.metric)?,
    };
    let (Some(first), Some(last)) = (minutes.first(), minutes.last()) else {
        return Err("there are no minutes to go through".into());
    };
    let change_at = args.change_at.as_deref().map(parse_time).transpose()?;
    let alarms = match args.detector.as_str() {
        SEASONAL => by_season(&minutes, config)?,
        name => by_name(&minutes, name)?,
    };
    let days = (last.0 - first.0 + MINUTE_MS) as f64 / crate::time::DAY_MS as f64;
    let delay = change_at.and_then(|change| {
        alarms.iter().find(|alarm| alarm.at >= change).map(|alarm| (alarm.at - change) / MINUTE_MS)
    });
    if args.json {
        for Alarm { at, observed, baseline } in &alarms {
            let at = metrics::time(*at);
            println!("{}", json!({"at": at, "observed": observed, "baseline": baseline}));
        }
    } else {
        let rows: Vec<_> = alarms.iter().map(row).collect();
        output::table(&["alarm at", "observed", "expected"], &rows);
        println!(
            "{} alarms in {} minutes over {days:.1} days: {:.2} a week",
            alarms.len(),
            minutes.len(),
            alarms.len() as f64 / days * 7.0
        );
    }
    if let Some(change) = change_at {
        let before = alarms.iter().filter(|alarm| alarm.at < change).count();
        match delay {
            Some(delay) => eprintln!("found after {delay} minutes; {before} alarms before"),
            None => eprintln!("not found; {before} alarms before"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(alarm: &Alarm) -> Vec<String> {
    let expected = alarm.baseline.map_or("-".into(), |baseline| format!("{baseline:.5}"));
    vec![metrics::time(alarm.at), format!("{:.5}", alarm.observed), expected]
}

fn parse_time(text: &str) -> Result<i64, Failure> {
    chrono::DateTime::parse_from_rfc3339(text).map(|at| at.timestamp_millis()).map_err(|error| {
        format!("{text:?} is no time such as 2026-04-12T08:00:00Z: {error}").into()
    })
}

fn from_topic(config: &Config, metric: &str) -> Result<Vec<Minute>, Failure> {
    let definition = METRICS.iter().find(|known| known.name == metric).ok_or_else(|| {
        let known: Vec<_> = METRICS.iter().map(|known| known.name).collect();
        format!("{metric} is no metric; there are {}", known.join(", "))
    })?;
    let mut all: BTreeMap<i64, MetricsWindow> = BTreeMap::new();
    for ((start, ..), window) in metrics::read(config)?.windows {
        windows::merge(all.entry(start).or_default(), &window);
    }
    let minute = |(at, window)| {
        let (sum, n) = (definition.of)(&window);
        (at, sum, n.max(0) as u64)
    };
    Ok(all.into_iter().map(minute).collect())
}

/// The rates of a minute and how many impressions they are of.
fn from_file(file: &Path, metric: &str) -> Result<Vec<Minute>, Failure> {
    let rates = ["click_rate", "long_view_rate", "completion_rate"];
    if !rates.contains(&metric) {
        return Err(format!("of a file, --metric can be {}", rates.join(", ")).into());
    }
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let mut minutes = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let bad = |why: String| format!("{}:{number}: {why}", file.display());
        let line: Value = serde_json::from_str(line).map_err(|error| bad(error.to_string()))?;
        let at = line["group"].as_str().ok_or_else(|| {
            bad("no group: write it with `driftline metrics --by minute --json`".into())
        })?;
        let at = parse_time(at).map_err(|error| bad(error.to_string()))?;
        let n = line["impressions"].as_u64().ok_or_else(|| bad("no impressions".into()))?;
        let rate = line[metric].as_f64().unwrap_or(0.0);
        minutes.push((at, (rate * n as f64).clamp(0.0, n as f64), n));
    }
    minutes.sort_by_key(|minute| minute.0);
    Ok(minutes)
}

/// Where evidence first made an alarm; the next one is counted when it was over in between.
fn by_season(minutes: &[Minute], config: &Config) -> Result<Vec<Alarm>, Failure> {
    let settings = &config.monitor;
    let mut metric = Seasonal::new(seasonal::Config {
        windows_to_false_alarm: settings.minutes_to_false_alarm,
        min_effect: settings.min_effect,
        warm_up_windows: settings.warm_up_minutes,
        offset_minutes: settings.utc_offset_minutes,
        ..seasonal::Config::default()
    })?;
    let mut alarms = Vec::new();
    let mut fired = false;
    for (at, sum, n) in minutes {
        let window = Window::mean(EventTime::from_millis(*at), *sum, *n)?;
        let judged = metric.update(&window)?;
        if judged.fires && !fired {
            let evidence = metric.evidence();
            let observed = evidence.map_or(sum / (*n).max(1) as f64, |told| told.observed);
            let baseline = evidence.map(|told| told.baseline);
            alarms.push(Alarm { at: *at, observed, baseline });
        }
        fired = judged.fires;
    }
    Ok(alarms)
}

fn by_name(minutes: &[Minute], name: &str) -> Result<Vec<Alarm>, Failure> {
    let parameters = Parameters::by_name(name)
        .map_err(|error| format!("{error}, or {SEASONAL}, the monitor's own"))?;
    let mut detector = Detector::new(&parameters)?;
    let mut alarms = Vec::new();
    for (at, sum, n) in minutes.iter().filter(|(_, _, n)| *n > 0) {
        let observed = sum / *n as f64;
        if detector.update(observed)? == Verdict::Drift {
            alarms.push(Alarm { at: *at, observed, baseline: None });
        }
    }
    Ok(alarms)
}
