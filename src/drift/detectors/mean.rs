//! A running mean, updated in the order of operations that the conformance vectors were made with.

use serde::{Deserialize, Serialize};

/// Mean of the values so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Mean {
    n: u64,
    mean: f64,
}

impl Mean {
    pub(super) fn add(&mut self, value: f64) {
        self.n += 1;
        self.mean += 1.0 / self.n as f64 * (value - self.mean);
    }

    /// 0 before the first value.
    pub(super) fn get(self) -> f64 {
        self.mean
    }

    /// Values so far.
    pub(super) fn n(self) -> u64 {
        self.n
    }
}
