//! What workers answered: errors, latency, what was missing. By the minute of wall time, as the
//! records say it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Settings;
use super::limit::Limit;
use crate::event::{MetricKind, ServingWindow};
use crate::time::{EventTime, MINUTE_MS};
use crate::trigger::Finding;

/// How long after its end a minute is told: workers tell theirs within seconds.
const HELD_MS: i64 = 2 * MINUTE_MS;
/// Requests of a minute from which their shares are judged.
const LEAST_REQUESTS: i64 = 50;
/// Minutes in which requests were answered and nothing new was told of lists from which that is a
/// finding. Longer than lists wait for the slowest topic.
const SILENT_MINUTES: i64 = 60;
/// Errors that are the client's own.
const OF_CLIENTS: [&str; 1] = ["bad_request"];

/// Sums of a minute over all workers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Sums {
    requests: i64,
    errors: i64,
    degraded: i64,
    latency: Vec<i64>,
    versions: BTreeMap<String, i64>,
}

/// Minutes of serving.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    settings: Settings,
    open: BTreeMap<i64, Sums>,
    /// The next minute that is told.
    next: Option<i64>,
    version: String,
    version_since: Option<EventTime>,
    /// Minutes with requests since something new was told of lists; none before anything was.
    silent: Option<i64>,
}

/// What is true of a minute.
pub struct Told {
    /// Its begin.
    pub now: EventTime,
    /// What is true.
    pub findings: Vec<Finding>,
}

impl Answers {
    /// Of nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            open: BTreeMap::new(),
            next: None,
            version: String::new(),
            version_since: None,
            silent: None,
        }
    }

    /// The version that answers most.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Since when, where another did before.
    pub fn version_since(&self) -> Option<EventTime> {
        self.version_since
    }

    /// Something new was told of lists.
    pub fn hear_of_lists(&mut self) {
        self.silent = Some(0);
    }

    /// Takes in what a worker tells. Returns whether it came in time.
    pub fn take(&mut self, window: &ServingWindow) -> bool {
        let start = window.start.div_euclid(MINUTE_MS) * MINUTE_MS;
        if self.next.is_some_and(|next| start < next) {
            return false;
        }
        let sums = self.open.entry(start).or_default();
        let of_ours = window.errors.iter().filter(|e| !OF_CLIENTS.contains(&e.name.as_str()));
        sums.requests += window.requests;
        sums.errors += of_ours.map(|error| error.count).sum::<i64>();
        // A list may lack several parts; what it lacks most often says how many lack any, at least.
        sums.degraded += window.degradations.iter().map(|part| part.count).max().unwrap_or(0);
        let bins = sums.latency.len().max(window.latency.len());
        sums.latency.resize(bins, 0);
        sums.latency.iter_mut().zip(&window.latency).for_each(|(sum, count)| *sum += count);
        *sums.versions.entry(window.model_version.clone()).or_default() += window.requests;
        true
    }

    /// The next minute that all workers have told of.
    pub fn next(&mut self) -> Option<Told> {
        let newest = *self.open.last_key_value()?.0;
        let start = *self.open.first_key_value()?.0;
        if start + HELD_MS > newest {
            return None;
        }
        let sums = self.open.remove(&start)?;
        self.next = Some(start + MINUTE_MS);
        let now = EventTime::from_millis(start);
        let most = sums.versions.iter().max_by(|a, b| a.1.cmp(b.1).then(b.0.cmp(a.0)));
        if let Some((version, _)) = most.filter(|(version, n)| **n > 0 && **version != self.version)
        {
            self.version_since = (!self.version.is_empty()).then_some(now);
            self.version = version.clone();
        }
        if let Some(silent) = &mut self.silent
            && sums.requests > 0
        {
            *silent += 1;
        }
        Some(Told { now, findings: self.judge(now, &sums) })
    }

    fn judge(&self, now: EventTime, sums: &Sums) -> Vec<Finding> {
        let n = sums.requests;
        let finding = |name, unit, kind, observed, limit, reason| {
            Limit { name, unit, kind, observed, limit, n, minutes: 1, reason }.finding(now)
        };
        let mut findings = Vec::new();
        if let Some(silent) = self.silent.filter(|silent| *silent > SILENT_MINUTES) {
            let reason = format!(
                "Requests were answered in {silent} minutes since anything new was told of lists: \
                 look at the join (driftline doctor)."
            );
            let (kind, limit) = (MetricKind::Quality, SILENT_MINUTES as f64);
            findings.push(finding("silent_minutes", "minutes", kind, silent as f64, limit, reason));
        }
        if n < LEAST_REQUESTS {
            return findings;
        }
        let system = |name, observed: f64, limit: f64, what: &str| {
            (observed > limit).then(|| {
                let reason = format!("{:.1} % of {n} requests {what}.", 100.0 * observed);
                finding(name, "ratio", MetricKind::System, observed, limit, reason)
            })
        };
        let share = |count: i64| count as f64 / n as f64;
        let Settings { max_error_share, max_degraded_share, max_p99_ms, .. } = self.settings;
        let errors = share(sums.errors);
        findings.extend(system(
            "error_share",
            errors,
            max_error_share,
            "were answered by an error",
        ));
        let degraded = share(sums.degraded);
        let what = "were answered without a part";
        findings.extend(system("degraded_requests", degraded, max_degraded_share, what));
        if let Some(p99) = quantile(&sums.latency, 0.99).filter(|p99| *p99 > max_p99_ms) {
            let reason = format!("The slowest hundredth of {n} requests took {p99:.0} ms or more.");
            let system = MetricKind::System;
            findings.push(finding("p99_latency", "milliseconds", system, p99, max_p99_ms, reason));
        }
        findings
    }
}

/// The lower end of the bin that holds a quantile, in milliseconds; none of nothing.
fn quantile(bins: &[i64], share: f64) -> Option<f64> {
    let all: i64 = bins.iter().sum();
    let mut left = (all as f64 * share).ceil() as i64;
    let bin = bins.iter().position(|count| {
        left -= count;
        left <= 0
    })?;
    (all > 0).then(|| 2f64.powf(bin as f64 / 2.0) / 1e3)
}
