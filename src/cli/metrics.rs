//! `driftline metrics`

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::{Failure, cluster, output};
use crate::config::Config;
use crate::event::{MetricsWindow, ServingWindow};
use crate::kafka::WholeTopic;
use crate::quality::windows::{self, latency_quantile, rates};
use crate::time::MINUTE_MS;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline metrics                     what came of the lists of the last day, by surface
  driftline metrics --by model --last 7d
  driftline metrics --by minute --last 2h --json | jq .click_rate
  driftline metrics --workers           what workers answered, how fast, what was missing

A list counts when its label windows have passed (quality.watch_window_ms). Times are those of
events; the last day ends with the newest minute told. With --workers, wall time.")]
pub struct Args {
    /// How far back from the newest minute
    #[arg(long, default_value = "24h", value_parser = super::parse_duration, value_name = "DURATION")]
    last: Duration,
    /// One row for each
    #[arg(long, value_enum, default_value = "surface")]
    by: By,
    /// What workers answered instead
    #[arg(long)]
    workers: bool,
    /// JSON for programs, a line each
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum By {
    /// Where lists were shown
    Surface,
    /// Experiment arm
    Arm,
    /// Version of the model
    Model,
    /// Minute of event time
    Minute,
    /// All in one
    All,
}

/// What the topic holds: of each window its last revision.
#[derive(Default)]
pub(super) struct Told {
    pub windows: BTreeMap<(i64, i32, String, String, String), MetricsWindow>,
    workers: Vec<ServingWindow>,
}

pub fn run(args: &Args, config: &Config) -> Result<ExitCode, Failure> {
    let mut told = read(config)?;
    let back = i64::try_from(args.last.as_millis()).unwrap_or(i64::MAX);
    if args.workers {
        let newest = told.workers.iter().map(|window| window.start).max().unwrap_or(0);
        told.workers.retain(|window| window.start > newest.saturating_sub(back));
        show_workers(&told.workers, args.json);
        return Ok(ExitCode::SUCCESS);
    }
    let newest = told.windows.last_key_value().map_or(0, |(key, _)| key.0);
    let mut groups: BTreeMap<String, MetricsWindow> = BTreeMap::new();
    for (key, window) in told.windows {
        if key.0 > newest.saturating_sub(back) {
            windows::merge(groups.entry(group(args.by, &window)).or_default(), &window);
        }
    }
    if groups.is_empty() {
        eprintln!(
            "No minute is told yet: a list counts {} minutes of event time after it was wanted.",
            (config.quality.watch_window_ms.max(config.quality.click_window_ms)
                + config.quality.lateness_ms)
                / MINUTE_MS
        );
    }
    if args.json {
        groups.iter().for_each(|(name, window)| println!("{}", rates(name, window)));
    } else if !groups.is_empty() {
        show(args.by, &groups);
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn read(config: &Config) -> Result<Told, Failure> {
    let Told { mut windows, mut workers } = Told::default();
    let came = |window: MetricsWindow| {
        let MetricsWindow { start, shard, .. } = window;
        let key = (
            start,
            shard,
            window.model_version.clone(),
            window.arm.clone(),
            window.surface.clone(),
        );
        match windows.entry(key) {
            Entry::Occupied(known) if known.get().revision >= window.revision => {}
            Entry::Occupied(mut known) => drop(known.insert(window)),
            Entry::Vacant(free) => drop(free.insert(window)),
        }
    };
    each(config, came, |window| workers.push(window))?;
    Ok(Told { windows, workers })
}

/// Reads the topic as it was told, revisions and repetitions too: what came of lists, and what workers
/// answered.
pub(super) fn each(
    config: &Config,
    mut came: impl FnMut(MetricsWindow),
    mut answered: impl FnMut(ServingWindow),
) -> Result<(), Failure> {
    let topic = config.topics.metrics();
    cluster::require(&cluster::connect(config)?.1, &[&topic])?;
    let mut reader = WholeTopic::open(&config.kafka.client(), &topic, "driftline-metrics")?;
    reader.mark_end()?;
    while !reader.is_at_mark() {
        let Some(record) = reader.poll(Duration::from_millis(100)) else { continue };
        if let Ok(window) = MetricsWindow::decode(record.value()) {
            came(window);
        } else {
            match ServingWindow::decode(record.value()) {
                Ok(window) => answered(window),
                Err(error) => {
                    let (partition, offset) = (record.partition(), record.offset());
                    eprintln!("{topic}-{partition}@{offset} is passed over: {error}");
                }
            }
        }
    }
    Ok(())
}

fn group(by: By, window: &MetricsWindow) -> String {
    match by {
        By::Surface => window.surface.clone(),
        By::Arm => window.arm.clone(),
        By::Model => window.model_version.clone(),
        By::Minute => time(window.start),
        By::All => "all".into(),
    }
}

/// RFC 3339, in UTC.
pub(super) fn time(millis: i64) -> String {
    chrono::DateTime::from_timestamp_millis(millis).map_or_else(String::new, |at| at.to_rfc3339())
}

fn ratio(part: i64, whole: i64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn show(by: By, groups: &BTreeMap<String, MetricsWindow>) {
    let name = match by {
        By::Surface => "surface",
        By::Arm => "arm",
        By::Model => "model",
        By::Minute => "minute",
        By::All => "",
    };
    let header = [
        name,
        "lists",
        "shown",
        "clicked",
        "viewed long",
        "seconds",
        "predicted/clicked",
        "log loss",
        "items",
        "gini",
        "newcomers",
    ];
    let percent =
        |part, whole| ratio(part, whole).map_or("-".into(), |r| format!("{:.2} %", r * 100.0));
    let rows = groups.iter().map(|(name, window)| {
        let told = rates(name, window);
        let number = |field: &str, digits: usize| {
            told[field].as_f64().map_or("-".into(), |value| format!("{value:.digits$}"))
        };
        vec![
            name.clone(),
            window.lists.to_string(),
            window.impressions.to_string(),
            percent(window.clicks, window.impressions),
            percent(window.long_views, window.impressions),
            number("watch_seconds_per_impression", 2),
            number("click_calibration", 3),
            number("click_log_loss", 4),
            number("items_shown", 0),
            number("gini", 2),
            percent(window.newcomer_lists, window.lists),
        ]
    });
    output::table(&header, &rows.collect::<Vec<_>>());
}

fn show_workers(all: &[ServingWindow], as_json: bool) {
    let mut workers: BTreeMap<&str, Vec<&ServingWindow>> = BTreeMap::new();
    all.iter().for_each(|window| workers.entry(&window.worker).or_default().push(window));
    let mut rows = Vec::new();
    for (worker, windows) in workers {
        let requests: i64 = windows.iter().map(|window| window.requests).sum();
        let named = |of: fn(&ServingWindow) -> &[crate::event::NamedCount]| {
            let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
            for one in windows.iter().flat_map(|window| of(window)) {
                *counts.entry(&one.name).or_default() += one.count;
            }
            counts
        };
        let errors = named(|window| &window.errors);
        let degradations = named(|window| &window.degradations);
        let [p50, p99] = [0.5, 0.99].map(|share| latency_quantile(&windows, share));
        if as_json {
            let told = json!({"worker": worker, "requests": requests, "errors": errors,
                "degradations": degradations, "p50_ms": p50, "p99_ms": p99});
            println!("{told}");
        }
        let list = |counts: BTreeMap<&str, i64>| {
            let counts: Vec<_> = counts.iter().map(|(name, n)| format!("{name} {n}")).collect();
            if counts.is_empty() { "-".into() } else { counts.join(", ") }
        };
        let ms = |ms: Option<f64>| ms.map_or("-".into(), |ms| format!("{ms:.1} ms"));
        let requests = requests.to_string();
        rows.push(vec![
            worker.to_owned(),
            requests,
            ms(p50),
            ms(p99),
            list(errors),
            list(degradations),
        ]);
    }
    if !as_json {
        output::table(
            &["worker", "requests", "p50 below", "p99 below", "errors", "missing"],
            &rows,
        );
    }
}
