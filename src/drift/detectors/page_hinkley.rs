//! The Page–Hinkley test (Page, "Continuous inspection schemes", Biometrika 1954), with the mean of
//! all values so far as the reference, and fading, as River 0.26 has it:
//!
//! ```text
//! S⁺ ← α S⁺ + (x − x̄) − δ,  up where S⁺ − min S⁺ > λ
//! S⁻ ← α S⁻ + (x − x̄) + δ,  down where max S⁻ − S⁻ > λ
//! ```

use serde::{Deserialize, Serialize};

use super::mean::Mean;
use super::{Refused, Rule, Verdict};

/// Which changes are looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Of the mean, upwards.
    Up,
    /// Downwards.
    Down,
    /// Either.
    #[default]
    Both,
}

/// How it is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Parameters {
    /// Values before the first detection.
    pub min_instances: u32,
    /// Change of the mean that is let pass, δ, in units of the values.
    pub delta: f64,
    /// λ, in units of the values, summed up.
    pub threshold: f64,
    /// α: what is left of a sum at the next value, in (0, 1].
    pub alpha: f64,
    /// Which changes are looked for.
    pub direction: Direction,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            min_instances: 30,
            delta: 0.005,
            threshold: 50.0,
            alpha: 1.0 - 0.0001,
            direction: Direction::Both,
        }
    }
}

/// The mean and both sums with their extremes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PageHinkley {
    parameters: Parameters,
    mean: Mean,
    up: f64,
    down: f64,
    /// Before the first value there is none.
    least_up: Option<f64>,
    most_down: f64,
}

impl PageHinkley {
    pub(super) fn new(parameters: &Parameters) -> Result<Self, Refused> {
        let rule = Rule("page_hinkley");
        rule.at_least("min_instances", parameters.min_instances, 1)?;
        rule.not_negative("delta", parameters.delta)?;
        rule.positive("threshold", parameters.threshold)?;
        rule.share("alpha", parameters.alpha)?;
        Ok(Self::empty(parameters.clone()))
    }

    fn empty(parameters: Parameters) -> Self {
        // River's maximum begins at −1: the first sums below it do not lower it.
        let most_down = -1.0;
        Self { parameters, mean: Mean::default(), up: 0.0, down: 0.0, least_up: None, most_down }
    }

    pub(super) fn update(&mut self, value: f64) -> Verdict {
        let Parameters { min_instances, delta, threshold, alpha, direction } = self.parameters;
        self.mean.add(value);
        let off = value - self.mean.get();
        self.up = alpha * self.up + off - delta;
        self.down = alpha * self.down + off + delta;
        let least_up = self.least_up.map_or(self.up, |least| least.min(self.up));
        self.least_up = Some(least_up);
        self.most_down = self.most_down.max(self.down);
        let is_up = direction != Direction::Down && self.up - least_up > threshold;
        let is_down = direction != Direction::Up && self.most_down - self.down > threshold;
        if self.mean.n() < u64::from(min_instances) || !(is_up || is_down) {
            return Verdict::Stable;
        }
        *self = Self::empty(self.parameters.clone());
        Verdict::Drift
    }
}
