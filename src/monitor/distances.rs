//! What goes in and what is predicted, against the first day of the reference: the population
//! stability index of each feature and of the predictions, four times a day over the last day.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Settings;
use crate::drift::distribution::{Check, Comparison, Statistic, compare_categories};
use crate::event::{
    MetricKind, MetricsWindow, TriggerDetector, TriggerDirection, TriggerMetric, TriggerReference,
    TriggerWindow,
};
use crate::ranking::names;
use crate::time::{EventTime, HOUR_MS, MINUTE_MS};
use crate::trigger::{ALL, Finding};

/// How often distributions are compared.
const BLOCK_MS: i64 = 6 * HOUR_MS;
/// Blocks of the reference, and of what is compared with it: both a day, so that the hours of the
/// day do not differ.
const BLOCKS: usize = 4;
/// Probability of a false alarm of all comparisons of one time together.
const FALSE_ALARM: f64 = 0.001;

/// Counts by bin: predictions, then features.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counts {
    scores: Vec<i64>,
    features: Vec<i64>,
    from: i64,
    to: i64,
}

fn add(into: &mut Vec<i64>, other: &[i64]) {
    into.resize(into.len().max(other.len()), 0);
    into.iter_mut().zip(other).for_each(|(sum, count)| *sum += count);
}

impl Counts {
    fn merge(&mut self, other: &Self) {
        add(&mut self.scores, &other.scores);
        add(&mut self.features, &other.features);
        self.to = other.to;
    }

    fn sum<'a>(blocks: impl Iterator<Item = &'a Self>) -> Self {
        let mut sum: Option<Self> = None;
        for block in blocks {
            match &mut sum {
                None => sum = Some(block.clone()),
                Some(sum) => sum.merge(block),
            }
        }
        sum.unwrap_or_default()
    }
}

/// Distributions of one reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distances {
    settings: Settings,
    /// Names the features that are counted.
    schema: String,
    block: Counts,
    /// The block that is being counted.
    number: Option<i64>,
    reference: Vec<Counts>,
    live: VecDeque<Counts>,
    findings: Vec<Finding>,
}

impl Distances {
    /// Of nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            schema: String::new(),
            block: Counts::default(),
            number: None,
            reference: Vec::new(),
            live: VecDeque::new(),
            findings: Vec::new(),
        }
    }

    /// Forgets what was the reference.
    pub fn begin_reference(&mut self) {
        *self = Self::new(self.settings.clone());
    }

    /// Takes in a minute of all traffic. `reference` names the reference.
    pub fn update(&mut self, now: EventTime, all: &MetricsWindow, reference: &str) {
        if !all.feature_schema.is_empty() && all.feature_schema != self.schema {
            // Bins of other features say nothing of these.
            self.begin_reference();
            self.schema = all.feature_schema.clone();
        }
        let number = now.millis().div_euclid(BLOCK_MS);
        if *self.number.get_or_insert(number) != number {
            self.end_block(reference);
            self.number = Some(number);
        }
        if self.block.from == 0 {
            self.block.from = now.millis();
        }
        self.block.to = now.millis() + MINUTE_MS;
        add(&mut self.block.scores, &all.scores);
        add(&mut self.block.features, &all.feature_counts);
    }

    /// What was true when it was last looked.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    fn end_block(&mut self, reference: &str) {
        let block = std::mem::take(&mut self.block);
        if self.reference.len() < BLOCKS {
            self.reference.push(block);
            return;
        }
        self.live.push_back(block);
        if self.live.len() > BLOCKS {
            self.live.pop_front();
        }
        if self.live.len() == BLOCKS {
            let before = Counts::sum(self.reference.iter());
            let live = Counts::sum(self.live.iter());
            self.findings = self.compare(reference, &before, &live);
        }
    }

    fn compare(&self, reference: &str, before: &Counts, live: &Counts) -> Vec<Finding> {
        let names = names();
        let bins = before.features.len() / names.len();
        let mut pairs =
            vec![("predicted_clicks", MetricKind::Score, &before.scores[..], &live.scores[..])];
        // Of features of another build nothing is known but their number.
        if bins > 0 && bins * names.len() == before.features.len() {
            let features = before.features.chunks(bins).zip(live.features.chunks(bins));
            for (name, (before, live)) in names.iter().zip(features) {
                pairs.push((name, MetricKind::Feature, before, live));
            }
        }
        let check = Check {
            statistic: Statistic::Psi,
            false_alarm: FALSE_ALARM / pairs.len() as f64,
            min_effect: self.settings.min_distance,
        };
        let counts = |all: &[i64]| all.iter().map(|n| (*n).max(0) as u64).collect::<Vec<_>>();
        let mut findings = Vec::new();
        for (name, kind, old, new) in pairs {
            // Too few values give no verdict: a day without traffic is a gap, and told as one.
            let Ok(found) = compare_categories(&check, &counts(old), &counts(new)) else {
                continue;
            };
            if found.drift {
                findings.push(finding(name, kind, reference, &check, &found, (before, live)));
            }
        }
        findings
    }
}

fn finding(
    name: &str,
    kind: MetricKind,
    reference: &str,
    check: &Check,
    found: &Comparison,
    (before, live): (&Counts, &Counts),
) -> Finding {
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let parameters = [("false_alarm", check.false_alarm), ("min_effect", check.min_effect)];
    Finding {
        segment: ALL.into(),
        metric: TriggerMetric {
            name: name.to_owned(),
            kind,
            unit: found.statistic.name().into(),
            direction: TriggerDirection::None,
        },
        detector: TriggerDetector {
            name: found.statistic.name().into(),
            version: env!("CARGO_PKG_VERSION").into(),
            parameters: parameters.map(|(name, value)| (name.to_owned(), value.to_string())).into(),
        },
        statistic: found.value,
        threshold: found.threshold.max(found.min_effect),
        e_value: 0.0,
        observed: found.value,
        baseline: 0.0,
        effect: found.effect,
        window: TriggerWindow {
            start: live.from,
            end: live.to,
            n: count(found.m),
            offsets: Vec::new(),
        },
        reference: TriggerReference {
            id: reference.to_owned(),
            kind: "window".into(),
            start: before.from,
            end: before.to,
            n: count(found.n),
        },
        windows_breached: 0,
        by_outcome: false,
        harmful: true,
        reason: format!(
            "{name} is distributed otherwise than in the first day of its reference: a {} of \
             {:.3}, from {:.3} on.",
            found.statistic.name(),
            found.value,
            found.threshold.max(found.min_effect)
        ),
    }
}
