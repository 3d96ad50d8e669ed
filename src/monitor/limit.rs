//! A number beyond its limit, as a finding.

use crate::event::{
    MetricKind, TriggerDetector, TriggerDirection, TriggerMetric, TriggerReference, TriggerWindow,
};
use crate::time::{EventTime, MINUTE_MS};
use crate::trigger::{ALL, Finding};

/// A number that is beyond its limit.
pub struct Limit {
    /// Name of the metric.
    pub name: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// What kind of thing.
    pub kind: MetricKind,
    /// The number.
    pub observed: f64,
    /// What it may be.
    pub limit: f64,
    /// Values that it is of.
    pub n: i64,
    /// Minutes that they are of.
    pub minutes: usize,
    /// For people.
    pub reason: String,
}

impl Limit {
    /// The finding, up to the end of the minute `now`.
    pub fn finding(self, now: EventTime) -> Finding {
        let Self { name, unit, kind, observed, limit, n, minutes, reason } = self;
        let end = now.millis() + MINUTE_MS;
        let parameters = [("limit".to_owned(), limit.to_string())];
        // What is missing lies below.
        let is_less = observed < limit;
        let direction = if is_less { TriggerDirection::Down } else { TriggerDirection::Up };
        Finding {
            segment: ALL.into(),
            metric: TriggerMetric { name: name.into(), kind, unit: unit.into(), direction },
            detector: TriggerDetector {
                name: "threshold".into(),
                version: env!("CARGO_PKG_VERSION").into(),
                parameters: parameters.into(),
            },
            statistic: observed,
            threshold: limit,
            e_value: 0.0,
            observed,
            baseline: limit,
            effect: if limit > 0.0 { observed / limit - 1.0 } else { 0.0 },
            window: TriggerWindow {
                start: end - minutes as i64 * MINUTE_MS,
                end,
                n,
                offsets: Vec::new(),
            },
            reference: TriggerReference { kind: "limit".into(), ..TriggerReference::default() },
            windows_breached: minutes as i64,
            by_outcome: true,
            harmful: true,
            reason,
        }
    }
}
