//! The section `[registry]`.

use serde::{Deserialize, Serialize};

use super::{ConfigError, in_range};
use crate::registry::KeepRules;
use crate::time::{DAY_MS, HOUR_MS};

/// Versions of the model in the object store.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct RegistryConfig {
    /// Newest changes of the aliases whose versions stay.
    pub keep_epochs: usize,
    /// Days for which a version stays after it was registered.
    pub keep_days: u32,
    /// Hours after which what a registration that died has left may go.
    pub grace_hours: u32,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self { keep_epochs: 10, keep_days: 30, grace_hours: 24 }
    }
}

impl RegistryConfig {
    /// What is kept.
    pub fn rules(&self) -> KeepRules {
        KeepRules {
            epochs: self.keep_epochs,
            young_ms: i64::from(self.keep_days) * DAY_MS,
            grace_ms: i64::from(self.grace_hours) * HOUR_MS,
        }
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        in_range("registry.keep_epochs", self.keep_epochs, 1, 1_000_000)?;
        in_range("registry.keep_days", self.keep_days, 0, 36_500)?;
        in_range("registry.grace_hours", self.grace_hours, 0, 87_600)
    }
}
