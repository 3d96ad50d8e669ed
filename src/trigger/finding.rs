//! Something that is true at a minute, with its evidence.

use serde::{Deserialize, Serialize};

use crate::event::{
    MetricKind, TriggerDetector, TriggerMetric, TriggerReference, TriggerType, TriggerWindow,
};
use crate::ids::stable_hash;

/// The segment of all traffic.
pub const ALL: &str = "all";

/// What a detector says of a metric now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What part of the traffic.
    pub segment: String,
    /// What was measured.
    pub metric: TriggerMetric,
    /// What judged.
    pub detector: TriggerDetector,
    /// What it compares with the threshold.
    pub statistic: f64,
    /// From which on it is a finding.
    pub threshold: f64,
    /// Evidence; 0 where the detector has none.
    pub e_value: f64,
    /// What was measured over the window.
    pub observed: f64,
    /// What was expected of it.
    pub baseline: f64,
    /// Size of the change.
    pub effect: f64,
    /// What it was found in.
    pub window: TriggerWindow,
    /// What it was compared with.
    pub reference: TriggerReference,
    /// Minutes that lay outside of what is let pass.
    pub windows_breached: i64,
    /// Whether it was measured by what came of lists, rather than by what went in.
    pub by_outcome: bool,
    /// Whether it is for the worse.
    pub harmful: bool,
    /// For people.
    pub reason: String,
}

impl Finding {
    /// Names the finding of a model: the same as long as it is compared with the same reference.
    pub fn key(&self, model: &str) -> String {
        let Self { segment, metric, detector, reference, .. } = self;
        // A rise and a fall of one metric are two findings.
        let metric = format!("{}/{}", metric.name, metric.direction.name());
        dedup_key(model, segment, &metric, &detector.name, &reference.id)
    }

    pub(super) fn trigger_type(&self) -> TriggerType {
        let by_kind = matches!(
            self.metric.kind,
            MetricKind::Business | MetricKind::System | MetricKind::Quality
        );
        if by_kind || self.by_outcome { TriggerType::Performance } else { TriggerType::Drift }
    }

    /// How strongly it speaks, whatever its detector.
    pub(super) fn strength(&self) -> f64 {
        if self.threshold > 0.0 { self.statistic / self.threshold } else { self.statistic }
    }
}

/// Sixteen hexadecimal digits that name a finding, stable across processes and versions: XXH3-64 of
/// the parts with a zero byte between them.
pub fn dedup_key(
    model: &str,
    segment: &str,
    metric: &str,
    detector: &str,
    reference: &str,
) -> String {
    let parts = [model, segment, metric, detector, reference].join("\0");
    format!("{:016x}", stable_hash(parts.as_bytes()))
}
