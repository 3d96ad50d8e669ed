//! What came of lists by the minute, judged as the monitor judges it, and what workers answered.
//!
//! The bands are those of the monitor's own code under the same settings, over the records read here:
//! where these are all there are, they are the monitor's to the last bit.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Map, Value, json};

use super::Live;
use super::feed::Listener;
use crate::config::Config;
use crate::event::{MetricsWindow, NamedCount, ServingWindow};
use crate::kafka::Record;
use crate::monitor::{Judged, METRICS, Settings, Watch};
use crate::quality::windows::{latency_quantile, merge, rates};
use crate::time::{HOUR_MS, MINUTE_MS};

/// Metrics that are drawn, by name.
const CHARTED: [&str; 4] =
    ["click_rate", "long_view_rate", "watch_seconds_per_impression", "click_log_loss"];
/// Minutes of event time that "now" is the sum of.
const NOW_MINUTES: usize = 60;
/// Minutes of wall time that a worker's figures are the sum of, and after which it is forgotten.
const WORKER_MS: i64 = 15 * MINUTE_MS;
/// Workers that are shown; more are a fault of whoever names them.
const WORKERS: usize = 256;
/// Segments of each kind that are shown, the busiest.
const SEGMENTS: usize = 8;

/// What is drawn, and which way is better.
pub fn charts() -> Value {
    let told = METRICS.iter().filter(|metric| CHARTED.contains(&metric.name)).map(|metric| {
        json!({"name": metric.name, "unit": metric.unit, "more_is_better": metric.more_is_better})
    });
    told.collect()
}

/// Sum, number, expectation and band of a metric, in its unit.
#[derive(Clone, Copy, Debug, Default)]
struct Value4 {
    sum: f64,
    n: f64,
    /// Σ n · baseline, and of how many.
    expected: f64,
    expected_n: f64,
    band: f64,
}

impl Value4 {
    fn add(&mut self, other: &Self) {
        self.sum += other.sum;
        self.n += other.n;
        self.expected += other.expected;
        self.expected_n += other.expected_n;
        self.band += other.band;
    }

    /// `[sum, n, baseline, band]`; the last two null where nothing was foretold.
    fn row(&self) -> Value {
        if self.expected_n > 0.0 {
            let (base, band) = (self.expected / self.expected_n, self.band / self.expected_n);
            json!([short(self.sum), self.n, short(base), short(band)])
        } else {
            json!([short(self.sum), self.n, null, null])
        }
    }
}

/// Six digits: more are noise, and bytes for every page.
fn short(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let scale = 10f64.powi(5 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}

/// Version, arm and surface, and what was counted of them.
type Segment = ((String, String, String), MetricsWindow);

/// An hour of rows.
type Hour = [Value4; CHARTED.len()];

/// What is known of lists and workers.
pub struct Measures {
    watch: Watch,
    minutes: Vec<(i64, Value)>,
    hour: Option<(i64, Hour)>,
    hours: Vec<(i64, Value)>,
    lately: VecDeque<Vec<Segment>>,
    newest: Option<i64>,
    workers: BTreeMap<String, VecDeque<ServingWindow>>,
    newest_answer: i64,
    refused: u64,
    is_new: bool,
}

impl Measures {
    /// Of nothing yet.
    ///
    /// # Errors
    /// Where a setting of `[monitor]` makes no sense.
    pub fn new(config: &Config) -> Result<Self, String> {
        let settings = Settings::of(&config.monitor).map_err(|e| e.to_string())?;
        Ok(Self {
            watch: Watch::new(settings).map_err(|e| e.to_string())?,
            minutes: Vec::new(),
            hour: None,
            hours: Vec::new(),
            lately: VecDeque::new(),
            newest: None,
            workers: BTreeMap::new(),
            newest_answer: 0,
            refused: 0,
            is_new: false,
        })
    }

    fn hear_lists(&mut self, partition: i32, window: MetricsWindow) {
        let mut judged = Vec::new();
        let taken = self.watch.take_outcomes_telling(partition, window, &mut |told| {
            judged.push(minute_of(told));
        });
        match taken {
            Ok(_) => judged.into_iter().for_each(|minute| self.add(minute)),
            Err(error) => {
                self.refused += 1;
                tracing::debug!(%error, "a window of metrics is not shown");
            }
        }
    }

    fn add(&mut self, minute: Minute) {
        self.newest = Some(minute.start);
        let rows = minute.values.iter().map(Value4::row);
        let row: Vec<Value> = [json!(minute.start)].into_iter().chain(rows).collect();
        self.minutes.push((minute.start, Value::from(row)));
        let start = minute.start.div_euclid(HOUR_MS) * HOUR_MS;
        if self.hour.as_ref().is_some_and(|(hour, _)| *hour != start) {
            self.end_hour();
        }
        let (_, hour) = self.hour.get_or_insert((start, Hour::default()));
        hour.iter_mut().zip(&minute.values).for_each(|(sum, value)| sum.add(value));
        self.lately.push_back(minute.segments);
        while self.lately.len() > NOW_MINUTES {
            self.lately.pop_front();
        }
    }

    /// Notes the hour: no minute of it comes any more.
    fn end_hour(&mut self) {
        if let Some((start, values)) = self.hour.take() {
            self.hours.push(hour_row(start, &values));
        }
    }

    fn hear_answers(&mut self, window: ServingWindow) {
        self.watch.take_answers(&window);
        self.newest_answer = self.newest_answer.max(window.start);
        if self.workers.len() >= WORKERS && !self.workers.contains_key(&window.worker) {
            return;
        }
        let windows = self.workers.entry(window.worker.clone()).or_default();
        windows.push_back(window);
        let before = self.newest_answer - WORKER_MS;
        self.workers.retain(|_, windows| {
            windows.retain(|window| window.start > before);
            !windows.is_empty()
        });
    }

    /// What the last hour of event time shows: all, and by surface, arm and version.
    fn now(&self) -> Value {
        let mut all = MetricsWindow::default();
        let mut parts: [BTreeMap<&str, MetricsWindow>; 3] = Default::default();
        for ((version, arm, surface), window) in self.lately.iter().flatten() {
            merge(&mut all, window);
            for (part, name) in parts.iter_mut().zip([surface, arm, version]) {
                merge(part.entry(name).or_default(), window);
            }
        }
        let [surfaces, arms, versions] = parts.map(|part| {
            let mut told: Vec<_> = part.into_iter().collect();
            told.sort_by_key(|(_, window)| std::cmp::Reverse(window.impressions));
            told.truncate(SEGMENTS);
            told.into_iter().map(|(name, window)| rates(name, &window)).collect::<Vec<_>>()
        });
        json!({"at": self.newest, "minutes": self.lately.len(), "all": rates("all", &all),
            "surfaces": surfaces, "arms": arms, "versions": versions, "refused": self.refused})
    }

    /// Evidence for a change, as shares of what makes an alarm.
    fn evidence(&self) -> Value {
        let outcomes = self.watch.outcomes();
        let mut told: Vec<_> = outcomes.evidence().collect();
        told.sort_by(|a, b| b.2.total_cmp(&a.2));
        let told: Vec<Value> = told
            .into_iter()
            .take(12)
            .map(|(segment, metric, share)| json!([segment, metric, (share * 1e3).round() / 1e3]))
            .collect();
        let pooled = outcomes.pooled().ok().map(|p| (p.log_e / p.threshold * 1e3).round() / 1e3);
        let now = self.newest.map(crate::time::EventTime::from_millis);
        let champion = outcomes.champion();
        json!({
            "pooled": pooled,
            "warming_up": now.is_none_or(|now| outcomes.is_warming_up(now)),
            "version": champion.map(|champion| &champion.version),
            "since": champion.map(|champion| champion.since.millis()),
            "metrics": told,
        })
    }

    fn workers(&self) -> Vec<Value> {
        let told = self.workers.iter().map(|(name, windows)| worker(name, windows));
        told.collect()
    }
}

impl Listener for Measures {
    fn hear(&mut self, record: &Record<'_>) {
        if !self.watch.pass(record.partition(), record.offset()) {
            return;
        }
        self.is_new = true;
        if let Ok(window) = MetricsWindow::decode(record.value()) {
            self.hear_lists(record.partition(), window);
        } else if let Ok(window) = ServingWindow::decode(record.value()) {
            self.hear_answers(window);
        } else {
            self.refused += 1;
        }
    }

    fn publish(&mut self, live: &Live) {
        if !std::mem::take(&mut self.is_new) {
            return;
        }
        let mut hours = std::mem::take(&mut self.hours);
        hours.extend(self.hour.as_ref().map(|(start, values)| hour_row(*start, values)));
        live.grow(std::mem::take(&mut self.minutes), hours);
        live.set("now", &self.now());
        live.set("evidence", &self.evidence());
        live.set("workers", &self.workers());
    }
}

/// A minute as it is shown.
struct Minute {
    start: i64,
    values: Hour,
    segments: Vec<Segment>,
}

fn minute_of(told: &Judged<'_>) -> Minute {
    let mut values = Hour::default();
    for (definition, judgement) in &told.metrics {
        let Some(place) = CHARTED.iter().position(|name| *name == definition.name) else {
            continue;
        };
        let (sum, n) = (definition.of)(told.all);
        let n = n.max(0) as f64;
        let mut value = Value4 { sum: sum * definition.scale, n, ..Value4::default() };
        // A minute without lists still says what was expected of it.
        if let Some(baseline) = judgement.baseline {
            let weight = n.max(1e-3);
            value.expected = baseline * definition.scale * weight;
            value.expected_n = weight;
            value.band = judgement.band * weight;
        }
        values[place] = value;
    }
    let segments = told.minute.segments.iter().map(|(key, window)| {
        let mut window = window.clone();
        // Not shown, and most of what is left of a window.
        (window.scores, window.feature_counts) = (Vec::new(), Vec::new());
        (key.clone(), window)
    });
    Minute { start: told.minute.start.millis(), values, segments: segments.collect() }
}

fn hour_row(start: i64, values: &Hour) -> (i64, Value) {
    let rows = values.iter().map(Value4::row);
    (start, [json!(start)].into_iter().chain(rows).collect::<Vec<_>>().into())
}

fn worker(name: &str, windows: &VecDeque<ServingWindow>) -> Value {
    let all: Vec<&ServingWindow> = windows.iter().collect();
    let requests: i64 = all.iter().map(|window| window.requests).sum();
    let length_ms: i64 = all.iter().map(|window| window.length_ms).sum();
    let last = all.last();
    let [p50, p99] = [0.5, 0.99].map(|share| latency_quantile(&all, share));
    json!({
        "worker": name,
        "model": last.map(|window| &window.model_version),
        "newest": last.map(|window| window.start + window.length_ms),
        "minutes": all.len(),
        "requests": requests,
        "per_second": short(requests as f64 / (length_ms.max(1) as f64 / 1e3)),
        "empty": all.iter().map(|window| window.empty_lists).sum::<i64>(),
        "p50_ms": p50.map(short),
        "p99_ms": p99.map(short),
        "errors": counts(&all, |window| &window.errors),
        "missing": counts(&all, |window| &window.degradations),
    })
}

fn counts(all: &[&ServingWindow], of: fn(&ServingWindow) -> &[NamedCount]) -> Value {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    for one in all.iter().flat_map(|window| of(window)) {
        *counts.entry(&one.name).or_default() += one.count;
    }
    let told = counts.into_iter().map(|(name, count)| (name.to_owned(), count.into()));
    Value::Object(told.collect::<Map<_, _>>())
}
