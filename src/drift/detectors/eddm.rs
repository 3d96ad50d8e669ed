//! Early drift detection method (Baena-García et al., 2006): errors come closer together. With mean
//! p and standard deviation s of the distances between errors, the level is (p + 2s) over its
//! greatest so far; below α is a warning, below β drift.

use serde::{Deserialize, Serialize};

use super::mean::Mean;
use super::{Refused, Rule, Verdict};

/// How it is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Parameters {
    /// Values, and errors, before the first verdict.
    pub warm_start: u32,
    /// Level of a warning, in (0, 1].
    pub alpha: f64,
    /// Level of drift, in (0, alpha].
    pub beta: f64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { warm_start: 30, alpha: 0.95, beta: 0.9 }
    }
}

/// Distances between errors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Eddm {
    parameters: Parameters,
    n: u64,
    last_error: u64,
    distance: Mean,
    /// Sum of squared deviations of the distances.
    scatter: f64,
    /// None before the first error after the warm start.
    greatest: Option<f64>,
    /// A warning stands until the next error.
    warning: bool,
}

impl Eddm {
    pub(super) fn new(parameters: &Parameters) -> Result<Self, Refused> {
        let rule = Rule("eddm");
        rule.share("alpha", parameters.alpha)?;
        rule.share("beta", parameters.beta)?;
        let in_order = parameters.beta <= parameters.alpha;
        rule.check("beta", parameters.beta, in_order, "at most alpha")?;
        Ok(Self::empty(parameters.clone()))
    }

    fn empty(parameters: Parameters) -> Self {
        Self {
            parameters,
            n: 0,
            last_error: 0,
            distance: Mean::default(),
            scatter: 0.0,
            greatest: None,
            warning: false,
        }
    }

    /// `error` is 0 or 1.
    pub(super) fn update(&mut self, error: f64) -> Verdict {
        self.n += 1;
        if error == 1.0 && self.is_drift() {
            *self = Self::empty(self.parameters.clone());
            return Verdict::Drift;
        }
        if self.warning { Verdict::Warning } else { Verdict::Stable }
    }

    /// Takes in an error at the newest place.
    fn is_drift(&mut self) -> bool {
        let distance = (self.n - self.last_error) as f64;
        self.last_error = self.n;
        let before = self.distance.get();
        self.distance.add(distance);
        self.scatter += (distance - before) * (distance - self.distance.get());
        let warm_start = u64::from(self.parameters.warm_start);
        if self.n <= warm_start {
            return false;
        }
        let errors = self.distance.n();
        let variance = if errors > 1 { self.scatter / (errors - 1) as f64 } else { 0.0 };
        let now = self.distance.get() + 2.0 * variance.sqrt();
        let Some(greatest) = self.greatest.filter(|greatest| now <= *greatest) else {
            self.greatest = Some(now);
            return false;
        };
        if errors <= warm_start {
            return false;
        }
        let level = now / greatest;
        self.warning = level < self.parameters.alpha;
        level < self.parameters.beta
    }
}
