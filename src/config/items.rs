//! The section `[items]`.

use serde::{Deserialize, Serialize};

use super::{ConfigError, in_range};
use crate::embedding::{FirstBasisLimits, LmsConfig, TablesConfig};
use crate::time::HOUR_MS;

/// Item vectors and statistics.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct ItemsConfig {
    /// Whether interactions name what the user had liked before, from which vectors learn.
    pub learn_vectors: bool,
    /// Bytes of what recently active users have liked, all shards together.
    pub history_cache_bytes: usize,
    /// Milliseconds between two records of an item.
    pub publish_interval_ms: u64,
    /// Most items in the tables.
    pub max_items: usize,
    /// Hours in which what a trained item has learnt since halves.
    pub half_life_hours: f64,
    /// The same of new items; 0: they forget nothing.
    pub new_half_life_hours: f64,
    /// The gain that stays however often an item was seen.
    pub min_gain: f64,
    /// The first basis, learnt by the workers themselves.
    pub first_basis: FirstBasisConfig,
}

impl Default for ItemsConfig {
    fn default() -> Self {
        Self {
            learn_vectors: true,
            history_cache_bytes: 64 << 20,
            publish_interval_ms: 1_000,
            max_items: TablesConfig::default().max_items,
            half_life_hours: 24.0,
            new_half_life_hours: 72.0,
            min_gain: 0.2,
            first_basis: FirstBasisConfig::default(),
        }
    }
}

/// The first basis, learnt by the workers themselves.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct FirstBasisConfig {
    /// Whether one is learnt.
    pub enabled: bool,
    /// Positive interactions from which one is learnt.
    pub min_positives: usize,
    /// Users that they are of, at least.
    pub min_users: usize,
    /// Items that they are about, at least.
    pub min_items: usize,
    /// Newest positive interactions that it is learnt from.
    pub max_positives: usize,
    /// Most frequent items that it holds.
    pub max_items: usize,
}

impl Default for FirstBasisConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            min_positives: 1_000,
            min_users: 50,
            min_items: 20,
            max_positives: 2_000_000,
            max_items: 50_000,
        }
    }
}

impl ItemsConfig {
    /// How live vectors move.
    pub fn lms(&self) -> LmsConfig {
        let ms = |hours: f64| (hours * HOUR_MS as f64) as i64;
        LmsConfig {
            min_gain: self.min_gain as f32,
            half_life_ms: ms(self.half_life_hours),
            new_half_life_ms: (self.new_half_life_hours > 0.0)
                .then(|| ms(self.new_half_life_hours)),
            ..LmsConfig::VIDEOS
        }
    }

    /// How the tables are bounded.
    pub fn tables(&self) -> TablesConfig {
        TablesConfig { max_items: self.max_items, lms: self.lms() }
    }

    /// From how much a first basis is trained.
    pub fn first_basis_limits(&self) -> FirstBasisLimits {
        let FirstBasisConfig {
            min_positives, min_users, min_items, max_positives, max_items, ..
        } = self.first_basis;
        FirstBasisLimits { min_positives, min_users, min_items, max_positives, max_items }
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        in_range("items.history_cache_bytes", self.history_cache_bytes, 1 << 16, 1 << 40)?;
        in_range("items.publish_interval_ms", self.publish_interval_ms, 1, 600_000)?;
        in_range("items.max_items", self.max_items, 1, u32::MAX as usize)?;
        in_range("items.half_life_hours", self.half_life_hours, 0.01, 87_600.0)?;
        in_range("items.new_half_life_hours", self.new_half_life_hours, 0.0, 87_600.0)?;
        in_range("items.min_gain", self.min_gain, 0.001, 1.0)?;
        let first = &self.first_basis;
        in_range("items.first_basis.min_positives", first.min_positives, 1, usize::MAX)?;
        in_range("items.first_basis.min_users", first.min_users, 2, usize::MAX)?;
        in_range("items.first_basis.min_items", first.min_items, 2, usize::MAX)?;
        in_range("items.first_basis.max_positives", first.max_positives, 1, 100_000_000)?;
        in_range("items.first_basis.max_items", first.max_items, 2, 1_000_000)
    }
}
