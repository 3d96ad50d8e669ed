//! Hoeffding drift detection with averages (Frías-Blanco et al., "Online and non-parametric drift
//! detection methods based on Hoeffding's bounds", TKDE 2015), as MOA and River have it.
//!
//! The mean of all n values is held against the mean of the first m, m being where that mean plus
//! its bound √(ln(1/δ)/2m) was least. It has risen where the difference is at least √((n − m)
//! ln(2/δ) / (2 m n)). Falls are the mirror image.

use serde::{Deserialize, Serialize};

use super::mean::Mean;
use super::{Refused, Rule, Verdict};

/// How it is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Parameters {
    /// δ of drift, in (0, 1).
    pub drift_confidence: f64,
    /// δ of a warning, in [drift_confidence, 1).
    pub warning_confidence: f64,
    /// Whether falls are told as well as rises.
    pub two_sided: bool,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { drift_confidence: 0.001, warning_confidence: 0.005, two_sided: false }
    }
}

impl Parameters {
    pub(super) fn check(&self, rule: &Rule) -> Result<(), Refused> {
        rule.probability("drift_confidence", self.drift_confidence)?;
        rule.probability("warning_confidence", self.warning_confidence)?;
        let in_order = self.drift_confidence <= self.warning_confidence;
        let (name, value) = ("warning_confidence", self.warning_confidence);
        rule.check(name, value, in_order, "at least drift_confidence")
    }
}

/// The mean of all, and the means up to where it was least and greatest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HddmA {
    parameters: Parameters,
    all: Mean,
    lowest: Mean,
    highest: Mean,
}

/// The bound on how far `later`, which begins with `first`, lies above it by chance.
fn bound(first: Mean, later: Mean, confidence: f64) -> f64 {
    let (m, n) = (first.n() as f64, later.n() as f64);
    let share = (n - m) / m * (1.0 / n);
    (share / 2.0 * (2.0 / confidence).ln()).sqrt()
}

impl HddmA {
    pub(super) fn new(parameters: &Parameters) -> Result<Self, Refused> {
        parameters.check(&Rule("hddm_a"))?;
        Ok(Self::empty(parameters.clone()))
    }

    fn empty(parameters: Parameters) -> Self {
        let none = Mean::default();
        Self { parameters, all: none, lowest: none, highest: none }
    }

    pub(super) fn update(&mut self, value: f64) -> Verdict {
        self.all.add(value);
        if self.all.n() == 1 {
            (self.lowest, self.highest) = (self.all, self.all);
        }
        let log = (1.0 / self.parameters.drift_confidence).ln();
        let slack = |mean: Mean| (1.0 / (2 * mean.n()) as f64 * log).sqrt();
        if self.lowest.get() + slack(self.lowest) >= self.all.get() + slack(self.all) {
            self.lowest = self.all;
        }
        if self.highest.get() - slack(self.highest) <= self.all.get() - slack(self.all) {
            self.highest = self.all;
        }
        let is_drift = self.has_changed(self.parameters.drift_confidence);
        let is_warning = self.has_changed(self.parameters.warning_confidence);
        if is_drift {
            *self = Self::empty(self.parameters.clone());
            Verdict::Drift
        } else if is_warning {
            Verdict::Warning
        } else {
            Verdict::Stable
        }
    }

    fn has_changed(&self, confidence: f64) -> bool {
        let Self { all, lowest, highest, .. } = *self;
        let has_risen =
            lowest.n() < all.n() && all.get() - lowest.get() >= bound(lowest, all, confidence);
        let has_fallen = self.parameters.two_sided
            && highest.n() < all.n()
            && highest.get() - all.get() >= bound(highest, all, confidence);
        has_risen || has_fallen
    }
}
