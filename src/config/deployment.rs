//! The section `[deployment]`.

use serde::{Deserialize, Serialize};

use super::{ConfigError, in_range};
use crate::deployment::{ALL_USERS, Plan};

/// How a new version is let in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct DeploymentConfig {
    /// Milliseconds between two words of a worker.
    pub heartbeat_ms: u64,
    /// Milliseconds for which a worker counts as alive without a word.
    pub lease_ms: u64,
    /// Seconds without the broker after which a worker is not ready.
    pub isolation_seconds: u64,
    /// Fewest workers that must have loaded a version.
    pub min_workers: usize,
    /// Seconds that loading may take.
    pub prepare_seconds: u64,
    /// Share of requests for which a list is made that nobody sees.
    pub shadow_share: f64,
    /// Lists that nobody sees, before anybody sees one.
    pub shadow_requests: i64,
    /// Shares of users, one step after the other.
    pub steps: Vec<f64>,
    /// Minutes of event time of a step, at least.
    pub step_minutes: i64,
    /// Items that the candidate's lists have to show in a step.
    pub step_impressions: i64,
    /// Minutes of event time after which a step that has not what it needs is given up.
    pub patience_minutes: i64,
    /// Relative loss that counts as none.
    pub margin: f64,
    /// Probability that a version no worse than that is turned down.
    pub alpha: f64,
    /// Lists at which intervals are narrowest.
    pub tuning: f64,
    /// How many times slower a version's lists may be.
    pub max_slowdown: f64,
    /// How much larger the share of failed or empty lists may be.
    pub max_failures: f64,
}

impl Default for DeploymentConfig {
    fn default() -> Self {
        Self {
            heartbeat_ms: 5_000,
            lease_ms: 15_000,
            isolation_seconds: 60,
            min_workers: 1,
            prepare_seconds: 600,
            shadow_share: 0.1,
            shadow_requests: 1_000,
            steps: vec![0.01, 0.05, 0.1, 0.25, 0.5],
            step_minutes: 60,
            step_impressions: 1_000,
            patience_minutes: 2_880,
            margin: 0.05,
            alpha: 0.05,
            tuning: 5_000.0,
            max_slowdown: 4.0,
            max_failures: 0.01,
        }
    }
}

impl DeploymentConfig {
    /// What decides.
    pub fn plan(&self) -> Plan {
        let parts = |share: &f64| (share * f64::from(ALL_USERS)).round() as i32;
        Plan {
            min_workers: self.min_workers,
            prepare_ms: self.prepare_seconds * 1_000,
            shadow_requests: self.shadow_requests,
            steps: self.steps.iter().map(parts).collect(),
            step_minutes: self.step_minutes,
            step_impressions: self.step_impressions,
            patience_minutes: self.patience_minutes,
            margin: self.margin,
            alpha: self.alpha,
            tuning: self.tuning,
            max_slowdown: self.max_slowdown,
            max_failures: self.max_failures,
        }
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        in_range("deployment.heartbeat_ms", self.heartbeat_ms, 50, 60_000)?;
        in_range("deployment.lease_ms", self.lease_ms, 2 * self.heartbeat_ms, 600_000)?;
        in_range("deployment.isolation_seconds", self.isolation_seconds, 1, 86_400)?;
        in_range("deployment.min_workers", self.min_workers, 1, 100_000)?;
        in_range("deployment.prepare_seconds", self.prepare_seconds, 1, 86_400)?;
        in_range("deployment.shadow_share", self.shadow_share, 0.0001, 1.0)?;
        in_range("deployment.shadow_requests", self.shadow_requests, 100, 1_000_000_000)?;
        for share in &self.steps {
            in_range("deployment.steps", *share, 0.0001, 0.9999)?;
        }
        if self.steps.is_empty() || !self.steps.is_sorted_by(|a, b| a < b) {
            let wanted =
                "deployment.steps must name shares of users, each larger than the one before";
            return Err(ConfigError::Invalid(wanted.into()));
        }
        in_range("deployment.step_minutes", self.step_minutes, 1, 1_000_000)?;
        in_range("deployment.step_impressions", self.step_impressions, 1, 1_000_000_000)?;
        in_range("deployment.patience_minutes", self.patience_minutes, 1, 10_000_000)?;
        in_range("deployment.margin", self.margin, 0.0001, 1.0)?;
        in_range("deployment.alpha", self.alpha, 1e-9, 0.5)?;
        in_range("deployment.tuning", self.tuning, 1.0, 1e12)?;
        in_range("deployment.max_slowdown", self.max_slowdown, 1.0, 1e6)?;
        in_range("deployment.max_failures", self.max_failures, 0.0, 1.0)
    }
}
