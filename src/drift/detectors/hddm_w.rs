//! Hoeffding drift detection with weighted averages (Frías-Blanco et al., TKDE 2015), as MOA and
//! River have it: exponentially weighted means, held against each other by McDiarmid's bound.
//!
//! What came up to the place where the mean plus its bound was least is one sample, what came after
//! it the other. With squared weights that add up to c₁ and c₂, the mean has risen where it differs
//! by more than √((c₁ + c₂) ln(1/δ) / 2). Falls are the mirror image.

use serde::{Deserialize, Serialize};

use super::{Refused, Rule, Verdict};

/// How it is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Parameters {
    /// δ of drift, in (0, 1).
    pub drift_confidence: f64,
    /// δ of a warning, in [drift_confidence, 1).
    pub warning_confidence: f64,
    /// Weight of the newest value, in (0, 1].
    pub lambda: f64,
    /// Whether falls are told as well as rises.
    pub two_sided: bool,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { drift_confidence: 0.001, warning_confidence: 0.005, lambda: 0.05, two_sided: false }
    }
}

/// An exponentially weighted mean.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Sample {
    /// None before the first value.
    mean: Option<f64>,
    /// Sum of the squared weights: McDiarmid's c.
    squares: f64,
}

impl Sample {
    const EMPTY: Self = Self { mean: None, squares: 1.0 };

    fn add(&mut self, value: f64, lambda: f64) {
        self.mean = Some(self.mean.map_or(value, |mean| lambda * value + (1.0 - lambda) * mean));
        self.squares = lambda * lambda + (1.0 - lambda).powi(2) * self.squares;
    }
}

fn bound(squares: f64, confidence: f64) -> f64 {
    (squares * (1.0 / confidence).ln() / 2.0).sqrt()
}

/// What came up to the best place to cut, and what came after it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Cut {
    /// Mean plus (for falls: minus) bound there; none before the first value.
    at: Option<f64>,
    before: Sample,
    after: Sample,
}

impl Cut {
    const NONE: Self = Self { at: None, before: Sample::EMPTY, after: Sample::EMPTY };

    /// How far the mean after it lies above the mean before, and the bound of that.
    fn rise(&self, confidence: f64) -> Option<(f64, f64)> {
        let rise = self.after.mean? - self.before.mean?;
        Some((rise, bound(self.before.squares + self.after.squares, confidence)))
    }
}

/// The mean of all, and the cuts for rises and falls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HddmW {
    parameters: Parameters,
    all: Sample,
    rises: Cut,
    falls: Cut,
}

impl HddmW {
    pub(super) fn new(parameters: &Parameters) -> Result<Self, Refused> {
        let Parameters { drift_confidence, warning_confidence, lambda, two_sided } = *parameters;
        let rule = Rule("hddm_w");
        super::hddm_a::Parameters { drift_confidence, warning_confidence, two_sided }
            .check(&rule)?;
        rule.share("lambda", lambda)?;
        Ok(Self::empty(parameters.clone()))
    }

    fn empty(parameters: Parameters) -> Self {
        Self { parameters, all: Sample::EMPTY, rises: Cut::NONE, falls: Cut::NONE }
    }

    pub(super) fn update(&mut self, value: f64) -> Verdict {
        let lambda = self.parameters.lambda;
        self.all.add(value, lambda);
        let mean = self.all.mean.unwrap_or(value);
        let slack = bound(self.all.squares, self.parameters.drift_confidence);
        let (high, low) = (mean + slack, mean - slack);
        if self.rises.at.is_none_or(|at| high < at) {
            self.rises = Cut { at: Some(high), before: self.all, after: Sample::EMPTY };
        } else {
            self.rises.after.add(value, lambda);
        }
        if self.falls.at.is_none_or(|at| low > at) {
            self.falls = Cut { at: Some(low), before: self.all, after: Sample::EMPTY };
        } else {
            self.falls.after.add(value, lambda);
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
        let has_risen = self.rises.rise(confidence).is_some_and(|(rise, bound)| rise > bound);
        let has_fallen = self.falls.rise(confidence).is_some_and(|(rise, bound)| -rise > bound);
        has_risen || (self.parameters.two_sided && has_fallen)
    }
}
