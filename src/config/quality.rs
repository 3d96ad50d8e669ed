//! The section `[quality]`.

use serde::{Deserialize, Serialize};

use super::{ConfigError, in_range};
use crate::quality::Rules;
use crate::time::{DAY_MS, HOUR_MS, MINUTE_MS};

/// Examples of what was shown and what came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct QualityConfig {
    /// Whether workers join impressions with what came of them.
    pub enabled: bool,
    /// Milliseconds after a list in which a click is held to come of it.
    pub click_window_ms: i64,
    /// The same for a watch.
    pub watch_window_ms: i64,
    /// Milliseconds of event time by which records of a topic may be out of order.
    pub lateness_ms: i64,
    /// Milliseconds of event time after which a topic that brings nothing is not waited for.
    pub idle_ms: i64,
    /// Milliseconds after it closed in which a list is corrected.
    pub correction_ms: i64,
    /// Milliseconds of a watch from which it is a long view; less where the item is shorter.
    pub long_view_ms: u64,
    /// Bytes of open lists and held outcomes in memory, all shards together.
    pub max_bytes: usize,
}

impl Default for QualityConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            click_window_ms: 30 * MINUTE_MS,
            watch_window_ms: 2 * HOUR_MS,
            lateness_ms: MINUTE_MS,
            idle_ms: 10 * MINUTE_MS,
            correction_ms: HOUR_MS,
            long_view_ms: 18_000,
            max_bytes: 256 << 20,
        }
    }
}

impl QualityConfig {
    /// What decides about the windows of one of `shards` shards.
    pub fn rules(&self, shards: usize) -> Rules {
        Rules {
            click_window_ms: self.click_window_ms,
            watch_window_ms: self.watch_window_ms,
            lateness_ms: self.lateness_ms,
            idle_ms: self.idle_ms,
            correction_ms: self.correction_ms,
            max_bytes: self.max_bytes / shards.max(1),
        }
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        in_range("quality.click_window_ms", self.click_window_ms, 1, 30 * DAY_MS)?;
        in_range("quality.watch_window_ms", self.watch_window_ms, 1, 30 * DAY_MS)?;
        in_range("quality.lateness_ms", self.lateness_ms, 0, DAY_MS)?;
        in_range("quality.idle_ms", self.idle_ms, 0, 30 * DAY_MS)?;
        in_range("quality.correction_ms", self.correction_ms, 0, 30 * DAY_MS)?;
        in_range("quality.long_view_ms", self.long_view_ms, 1, DAY_MS as u64)?;
        in_range("quality.max_bytes", self.max_bytes, 1 << 16, 1 << 40)
    }
}
