//! The section `[monitor]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ConfigError, in_range};
use crate::drift::seasonal;
use crate::time::MINUTE_MS;
use crate::trigger::{Rules, Schedule};

/// What watches the topic `metrics`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct MonitorConfig {
    /// Folder of its state.
    pub data_dir: PathBuf,
    /// Name of the model that triggers are about.
    pub model: String,
    /// Whether triggers are told as JSON too.
    pub json: bool,
    /// Minutes of event time after which a shard that tells nothing is not waited for.
    pub idle_minutes: i64,
    /// Minutes in which is learnt and nothing told: at first, and after the model has changed.
    pub warm_up_minutes: u64,
    /// Minutes from one false alarm to the next, at least, over all metrics together.
    pub minutes_to_false_alarm: f64,
    /// Relative change that is never told.
    pub min_effect: f64,
    /// Minutes east of Greenwich of the day that people live by.
    pub utc_offset_minutes: i32,
    /// Segments that are watched beside all traffic.
    pub segments: usize,
    /// Least distance (PSI) from the reference that is drift of a feature or of predictions.
    pub min_distance: f64,
    /// Minutes that a finding has to be true before it fires.
    pub pending_minutes: i64,
    /// Minutes that it has to be untrue before it is resolved.
    pub keep_firing_minutes: i64,
    /// Minutes after a RETRAIN in which no other is asked for.
    pub cooldown_minutes: i64,
    /// How often one finding asks for a RETRAIN before it asks for people.
    pub retrain_attempts: u32,
    /// Minutes after a change of version in which a system metric asks for ROLLBACK.
    pub rollback_minutes: i64,
    /// Cron expression of the timer; empty for none.
    pub schedule: String,
    /// Minutes in a row without a list from which they are a gap.
    pub gap_minutes: u64,
    /// Share of lists from which a part may be missing.
    pub max_degraded_share: f64,
    /// Share of watches and clicks that may come too late.
    pub max_late_share: f64,
    /// Share of requests that may be answered by an error.
    pub max_error_share: f64,
    /// Milliseconds that the slowest hundredth of requests may take.
    pub max_p99_ms: f64,
    /// Seconds between two checkpoints.
    pub checkpoint_seconds: u64,
}

impl Default for MonitorConfig {
    fn default() -> Self {
        let seasonal = seasonal::Config::default();
        Self {
            data_dir: ".driftline/monitor".into(),
            model: "default".into(),
            json: false,
            idle_minutes: 10,
            warm_up_minutes: seasonal.warm_up_windows,
            minutes_to_false_alarm: seasonal.windows_to_false_alarm,
            min_effect: seasonal.min_effect,
            utc_offset_minutes: 0,
            segments: 4,
            min_distance: 0.25,
            pending_minutes: 2,
            keep_firing_minutes: 30,
            cooldown_minutes: 360,
            retrain_attempts: 3,
            rollback_minutes: 60,
            schedule: "0 4 * * *".into(),
            gap_minutes: 5,
            max_degraded_share: 0.5,
            max_late_share: 0.2,
            max_error_share: 0.05,
            max_p99_ms: 500.0,
            checkpoint_seconds: 5,
        }
    }
}

impl MonitorConfig {
    /// How findings become triggers.
    ///
    /// # Errors
    /// [`ConfigError`] where the schedule is no cron expression.
    pub fn rules(&self) -> Result<Rules, ConfigError> {
        let schedule = match self.schedule.trim() {
            "" => None,
            text => Some(
                Schedule::new(text, self.utc_offset_minutes)
                    .map_err(|error| ConfigError::Invalid(format!("monitor.schedule: {error}")))?,
            ),
        };
        Ok(Rules {
            model: self.model.clone(),
            pending_ms: self.pending_minutes * MINUTE_MS,
            keep_firing_ms: self.keep_firing_minutes * MINUTE_MS,
            cooldown_ms: self.cooldown_minutes * MINUTE_MS,
            attempts: self.retrain_attempts,
            rollback_ms: self.rollback_minutes * MINUTE_MS,
            schedule,
        })
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        const WEEK: i64 = 7 * 24 * 60;
        if self.model.is_empty() {
            return Err(ConfigError::Invalid("monitor.model is empty; give it a name".into()));
        }
        in_range("monitor.idle_minutes", self.idle_minutes, 1, WEEK)?;
        in_range("monitor.warm_up_minutes", self.warm_up_minutes, 60, 4 * WEEK as u64)?;
        in_range("monitor.minutes_to_false_alarm", self.minutes_to_false_alarm, 60.0, 1e7)?;
        in_range("monitor.min_effect", self.min_effect, 0.001, 0.9)?;
        in_range("monitor.utc_offset_minutes", self.utc_offset_minutes, -1_439, 1_439)?;
        in_range("monitor.segments", self.segments, 0, 64)?;
        in_range("monitor.min_distance", self.min_distance, 0.001, 100.0)?;
        in_range("monitor.pending_minutes", self.pending_minutes, 0, WEEK)?;
        in_range("monitor.keep_firing_minutes", self.keep_firing_minutes, 0, WEEK)?;
        in_range("monitor.cooldown_minutes", self.cooldown_minutes, 1, 4 * WEEK)?;
        in_range("monitor.retrain_attempts", self.retrain_attempts, 1, 1_000)?;
        in_range("monitor.rollback_minutes", self.rollback_minutes, 0, WEEK)?;
        in_range("monitor.gap_minutes", self.gap_minutes, 1, WEEK as u64)?;
        in_range("monitor.max_degraded_share", self.max_degraded_share, 0.0, 1.0)?;
        in_range("monitor.max_late_share", self.max_late_share, 0.0, 1.0)?;
        in_range("monitor.max_error_share", self.max_error_share, 0.0, 1.0)?;
        in_range("monitor.max_p99_ms", self.max_p99_ms, 1.0, 1e6)?;
        in_range("monitor.checkpoint_seconds", self.checkpoint_seconds, 1, 3_600)?;
        self.rules().map(|_| ())
    }
}
