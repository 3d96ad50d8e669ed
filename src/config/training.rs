//! The section `[training]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ConfigError, in_range};
use crate::embedding::FirstBasisLimits;

/// Models trained on the lake.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainingConfig {
    /// Folder of what runs that were killed have finished.
    pub work_dir: PathBuf,
    /// The newest share of what was liked that is held out to judge by.
    pub hold_out: f64,
    /// Held out targets that are ranked, at most.
    pub max_targets: usize,
    /// Held out targets, at least.
    pub min_targets: usize,
    /// The share of the champion's recall that a candidate may lose and still serve.
    pub tolerance: f64,
    /// Likes, at least.
    pub min_positives: usize,
    /// Users that they are of, at least.
    pub min_users: usize,
    /// Items that they are about, at least.
    pub min_items: usize,
    /// Most frequent items that a model holds.
    pub max_items: usize,
    /// Bytes of memory for what is read of the lake, of likes and of events each.
    pub memory_bytes: usize,
    /// The factor by which the liked share and likes a day may differ from the champion's data.
    pub max_rate_change: f64,
    /// Decides samples and intervals.
    pub seed: u64,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            work_dir: ".driftline/training".into(),
            hold_out: 0.1,
            max_targets: 5_000,
            min_targets: 100,
            tolerance: 0.02,
            min_positives: 1_000,
            min_users: 50,
            min_items: 50,
            max_items: 500_000,
            memory_bytes: 4 << 30,
            max_rate_change: 5.0,
            seed: 1,
        }
    }
}

impl TrainingConfig {
    /// From how much a model is trained, and of how many items it is.
    pub fn limits(&self) -> FirstBasisLimits {
        FirstBasisLimits {
            min_positives: self.min_positives,
            min_users: self.min_users,
            min_items: self.min_items,
            max_positives: usize::MAX,
            max_items: self.max_items,
        }
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        in_range("training.hold_out", self.hold_out, 0.01, 0.5)?;
        in_range("training.max_targets", self.max_targets, 1, 10_000_000)?;
        in_range("training.min_targets", self.min_targets, 1, self.max_targets)?;
        in_range("training.tolerance", self.tolerance, 0.0, 1.0)?;
        in_range("training.min_positives", self.min_positives, 10, 1 << 40)?;
        in_range("training.min_users", self.min_users, 2, 1 << 40)?;
        in_range("training.min_items", self.min_items, 2, 1 << 40)?;
        in_range("training.max_items", self.max_items, 2, 100_000_000)?;
        in_range("training.memory_bytes", self.memory_bytes, 1 << 20, 1 << 45)?;
        in_range("training.max_rate_change", self.max_rate_change, 1.0, 1e6)
    }
}
