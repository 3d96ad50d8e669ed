//! What decides about verdicts.

use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, MonitorConfig};
use crate::trigger::Rules;

/// What decides about verdicts. Another makes another history: it is kept with the state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub(super) idle_minutes: i64,
    pub(super) warm_up_minutes: u64,
    pub(super) minutes_to_false_alarm: f64,
    pub(super) min_effect: f64,
    pub(super) utc_offset_minutes: i32,
    pub(super) segments: usize,
    pub(super) min_distance: f64,
    pub(super) gap_minutes: u64,
    pub(super) max_degraded_share: f64,
    pub(super) max_late_share: f64,
    pub(super) max_error_share: f64,
    pub(super) max_p99_ms: f64,
    pub(super) rules: Rules,
}

impl Settings {
    /// Those of a configuration.
    ///
    /// # Errors
    /// [`ConfigError`] where the schedule is no cron expression.
    pub fn of(config: &MonitorConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            idle_minutes: config.idle_minutes,
            warm_up_minutes: config.warm_up_minutes,
            minutes_to_false_alarm: config.minutes_to_false_alarm,
            min_effect: config.min_effect,
            utc_offset_minutes: config.utc_offset_minutes,
            segments: config.segments,
            min_distance: config.min_distance,
            gap_minutes: config.gap_minutes,
            max_degraded_share: config.max_degraded_share,
            max_late_share: config.max_late_share,
            max_error_share: config.max_error_share,
            max_p99_ms: config.max_p99_ms,
            rules: config.rules()?,
        })
    }
}
