//! Adaptive windowing (Bifet and Gavaldà, "Learning from time-changing data with adaptive
//! windowing", SDM 2007), as River 0.26 has it.
//!
//! The window is an exponential histogram: row r holds up to `max_buckets` buckets of 2^r values,
//! each by its sum and its sum of squared deviations. A cut into an older part of n₀ values and a
//! newer one of n₁ is a change where
//!
//! ```text
//! |μ₀ − μ₁| > √(2 σ² δ′ / m) + 2 δ′ / 3m,   δ′ = ln(2 ln n / δ)
//! 1/m = 1/(n₀ − min_window + 1) + 1/(n₁ − min_window + 1)
//! ```
//!
//! with n and σ² of the whole window. Then the oldest bucket goes, until no cut is a change.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Refused, Rule, Verdict};

/// What becomes of the window after a detection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterDrift {
    /// It begins anew, as River does.
    #[default]
    Reset,
    /// It only loses its oldest part, as in the paper and in MOA: one change may be told twice.
    Shrink,
}

/// How it is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Parameters {
    /// Probability of a false detection at one cut, in (0, 1).
    pub delta: f64,
    /// Values from one check to the next.
    pub clock: u32,
    /// Buckets of a size before two of them become one of the next.
    pub max_buckets: u32,
    /// Values that both parts of a cut have at least.
    pub min_window: u32,
    /// Values before the first check.
    pub grace: u32,
    /// What becomes of the window.
    pub after_drift: AfterDrift,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            delta: 0.002,
            clock: 32,
            max_buckets: 5,
            min_window: 5,
            grace: 10,
            after_drift: AfterDrift::Reset,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Bucket {
    total: f64,
    /// Sum of squared deviations from the bucket's mean.
    scatter: f64,
}

/// The window and when it is looked at next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adwin {
    parameters: Parameters,
    /// Row r: buckets of 2^r values, the oldest first.
    rows: Vec<VecDeque<Bucket>>,
    width: u64,
    total: f64,
    scatter: f64,
    tick: u64,
}

/// A part of the window: how many values, and their sum.
#[derive(Clone, Copy)]
struct Part {
    n: f64,
    total: f64,
}

impl Part {
    fn mean(self) -> f64 {
        self.total / self.n
    }
}

/// What joining two parts adds to their sums of squared deviations.
fn between(a: Part, b: Part) -> f64 {
    let apart = a.mean() - b.mean();
    a.n * b.n * apart * apart / (a.n + b.n)
}

/// Values in a bucket of a row.
fn bucket_size(row: usize) -> f64 {
    (row as f64).exp2()
}

impl Adwin {
    pub(super) fn new(parameters: &Parameters) -> Result<Self, Refused> {
        let rule = Rule("adwin");
        rule.probability("delta", parameters.delta)?;
        rule.at_least("clock", parameters.clock, 1)?;
        rule.at_least("max_buckets", parameters.max_buckets, 2)?;
        rule.at_least("min_window", parameters.min_window, 1)?;
        Ok(Self::empty(parameters.clone()))
    }

    fn empty(parameters: Parameters) -> Self {
        let rows = vec![VecDeque::new()];
        Self { parameters, rows, width: 0, total: 0.0, scatter: 0.0, tick: 0 }
    }

    /// Values in the window.
    pub fn width(&self) -> u64 {
        self.width
    }

    /// Mean of the window; 0 while it is empty.
    pub fn mean(&self) -> f64 {
        if self.width == 0 { 0.0 } else { self.total / self.width as f64 }
    }

    pub(super) fn update(&mut self, value: f64) -> Verdict {
        self.insert(value);
        self.tick += 1;
        let due = self.tick.is_multiple_of(u64::from(self.parameters.clock));
        let mut drift = false;
        if due && self.width > u64::from(self.parameters.grace) {
            while self.has_changed() {
                drift = true;
                self.drop_oldest();
            }
        }
        if !drift {
            return Verdict::Stable;
        }
        if self.parameters.after_drift == AfterDrift::Reset {
            *self = Self::empty(self.parameters.clone());
        }
        Verdict::Drift
    }

    fn insert(&mut self, value: f64) {
        let before = Part { n: self.width as f64, total: self.total };
        if self.width > 0 {
            self.scatter += between(before, Part { n: 1.0, total: value });
        }
        self.width += 1;
        self.total += value;
        self.rows[0].push_back(Bucket { total: value, scatter: 0.0 });
        self.merge();
    }

    /// Joins the two oldest buckets of each row that has too many.
    fn merge(&mut self) {
        for row in 0.. {
            if self.rows[row].len() <= self.parameters.max_buckets as usize {
                break;
            }
            let (Some(a), Some(b)) = (self.rows[row].pop_front(), self.rows[row].pop_front())
            else {
                unreachable!("a row that is too long has two buckets: max_buckets is at least 2");
            };
            let part = |bucket: Bucket| Part { n: bucket_size(row), total: bucket.total };
            let scatter = a.scatter + b.scatter + between(part(a), part(b));
            if row + 1 == self.rows.len() {
                self.rows.push(VecDeque::new());
            }
            self.rows[row + 1].push_back(Bucket { total: a.total + b.total, scatter });
        }
    }

    /// Whether the window falls into two that differ, at a cut between two of its buckets.
    fn has_changed(&self) -> bool {
        let least = f64::from(self.parameters.min_window);
        let mut old = Part { n: 0.0, total: 0.0 };
        let mut new = Part { n: self.width as f64, total: self.total };
        for (row, buckets) in self.rows.iter().enumerate().rev() {
            let size = bucket_size(row);
            for bucket in buckets {
                old = Part { n: old.n + size, total: old.total + bucket.total };
                new = Part { n: new.n - size, total: new.total - bucket.total };
                if old.n >= least && new.n >= least && self.is_change(old, new) {
                    return true;
                }
            }
        }
        false
    }

    fn is_change(&self, old: Part, new: Part) -> bool {
        let least = f64::from(self.parameters.min_window);
        let n = self.width as f64;
        let delta = (2.0 * n.ln() / self.parameters.delta).ln();
        let per_m = 1.0 / (old.n - least + 1.0) + 1.0 / (new.n - least + 1.0);
        let variance = self.scatter / n;
        let epsilon = (2.0 * per_m * variance * delta).sqrt() + 2.0 / 3.0 * delta * per_m;
        (old.mean() - new.mean()).abs() > epsilon
    }

    fn drop_oldest(&mut self) {
        let row = self.rows.len() - 1;
        let Some(bucket) = self.rows[row].pop_front() else {
            unreachable!("the last row is never empty while the window is not");
        };
        let gone = Part { n: bucket_size(row), total: bucket.total };
        self.width -= gone.n as u64;
        self.total -= gone.total;
        let left = Part { n: self.width as f64, total: self.total };
        self.scatter -= bucket.scatter + between(gone, left);
        while self.rows.len() > 1 && self.rows.last().is_some_and(VecDeque::is_empty) {
            self.rows.pop();
        }
    }
}
