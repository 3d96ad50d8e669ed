//! The section `[global]`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ConfigError, in_range};
use crate::global::{
    GlobalTables, HalfLives, NeighboursConfig, TransitionLearner, TransitionsConfig,
};

/// Tables that every worker holds whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct GlobalConfig {
    /// Sessions held for session neighbours.
    pub sessions: usize,
    /// Most frequent items between which transitions are learned, say 3,000; 0 for none.
    pub transition_items: usize,
    /// Newest positive interactions that they are learned from.
    pub transition_rows: usize,
    /// Records of `interactions` read back at start, per partition.
    pub warm_records: i64,
    /// Hours in which trending counts halve.
    pub trending_half_life_hours: f64,
    /// The same for single surfaces: `{ search = 6.0 }`.
    pub trending_half_life_hours_by_surface: BTreeMap<String, f64>,
}

impl Default for GlobalConfig {
    fn default() -> Self {
        Self {
            sessions: 300_000,
            transition_items: 0,
            transition_rows: 1_000_000,
            warm_records: 20_000,
            trending_half_life_hours: 24.0,
            trending_half_life_hours_by_surface: BTreeMap::new(),
        }
    }
}

impl GlobalConfig {
    /// Empty tables of this configuration.
    pub fn tables(&self) -> GlobalTables {
        let by_surface = self.trending_half_life_hours_by_surface.clone().into_iter().collect();
        let half_lives = HalfLives { default_hours: self.trending_half_life_hours, by_surface };
        let neighbours = NeighboursConfig { max_sessions: self.sessions, ..Default::default() };
        GlobalTables::new(neighbours, half_lives)
    }

    /// What learns transitions; none where they are not wanted.
    pub fn transitions(&self) -> Option<TransitionLearner> {
        let (items, rows) = (self.transition_items, self.transition_rows);
        let config = TransitionsConfig { items, rows, ..TransitionsConfig::default() };
        (items > 0).then(|| TransitionLearner::new(config))
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        in_range("global.sessions", self.sessions, 1, usize::MAX)?;
        // 10,000 take 1.6 GB and minutes.
        in_range("global.transition_items", self.transition_items, 0, 10_000)?;
        in_range("global.transition_rows", self.transition_rows, 1_000, 100_000_000)?;
        in_range("global.warm_records", self.warm_records, 0, i64::MAX)?;
        let by_surface = self.trending_half_life_hours_by_surface.values();
        for &hours in by_surface.chain([&self.trending_half_life_hours]) {
            if !(hours.is_finite() && hours > 0.0) {
                return Err(ConfigError::Invalid(format!(
                    "global.trending_half_life_hours is {hours}; it must be above 0"
                )));
            }
        }
        Ok(())
    }
}
