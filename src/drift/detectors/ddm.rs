//! Drift detection method (Gama et al., "Learning with drift detection", SBIA 2004): an error rate
//! p of standard deviation s = √(p(1−p)/n) has risen where p + s > p_min + λ s_min, both of when p
//! + s was least.

use serde::{Deserialize, Serialize};

use super::mean::Mean;
use super::{Refused, Rule, Verdict};

/// How it is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Parameters {
    /// Values before the first verdict.
    pub warm_start: u32,
    /// λ of a warning, in standard deviations.
    pub warning_threshold: f64,
    /// λ of drift.
    pub drift_threshold: f64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { warm_start: 30, warning_threshold: 2.0, drift_threshold: 3.0 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Least {
    rate: f64,
    deviation: f64,
}

/// The error rate, and what it was at its least.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ddm {
    parameters: Parameters,
    rate: Mean,
    least: Option<Least>,
}

impl Ddm {
    pub(super) fn new(parameters: &Parameters) -> Result<Self, Refused> {
        let rule = Rule("ddm");
        rule.positive("warning_threshold", parameters.warning_threshold)?;
        rule.positive("drift_threshold", parameters.drift_threshold)?;
        let (warning, drift) = (parameters.warning_threshold, parameters.drift_threshold);
        rule.check("warning_threshold", warning, warning <= drift, "at most drift_threshold")?;
        Ok(Self::empty(parameters.clone()))
    }

    fn empty(parameters: Parameters) -> Self {
        Self { parameters, rate: Mean::default(), least: None }
    }

    pub(super) fn update(&mut self, error: f64) -> Verdict {
        self.rate.add(error);
        let (n, rate) = (self.rate.n(), self.rate.get());
        if n <= u64::from(self.parameters.warm_start) {
            return Verdict::Stable;
        }
        // Rounding may carry a mean of ones a little past 1.
        let deviation = (rate * (1.0 - rate) / n as f64).max(0.0).sqrt();
        let now = Least { rate, deviation };
        let is_least = |least: &Least| rate + deviation <= least.rate + least.deviation;
        let least = self.least.filter(|least| !is_least(least)).unwrap_or(now);
        self.least = Some(least);
        let above = |threshold: f64| rate + deviation > least.rate + threshold * least.deviation;
        if above(self.parameters.drift_threshold) {
            *self = Self::empty(self.parameters.clone());
            Verdict::Drift
        } else if above(self.parameters.warning_threshold) {
            Verdict::Warning
        } else {
            Verdict::Stable
        }
    }
}
