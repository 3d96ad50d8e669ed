//! The section `[snapshots]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, in_range};
use crate::state::snapshots::Retention;

/// Snapshots of shards in the object store.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotsConfig {
    /// Whether workers make them, and begin with them where they have no store.
    pub enabled: bool,
    /// Seconds from one snapshot of a shard to the next.
    pub interval_seconds: u64,
    /// Snapshots of a shard that are kept.
    pub keep: usize,
    /// Seconds after which what no snapshot uses may be deleted.
    pub grace_seconds: u64,
    /// Bytes that a worker reads and sends a second at most; 0 for as many as there can be.
    pub bytes_per_second: u64,
    /// Seconds that the last snapshots may take at shutdown; 0 for none.
    pub shutdown_seconds: u64,
}

impl Default for SnapshotsConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            interval_seconds: 600,
            keep: 3,
            grace_seconds: 86_400,
            bytes_per_second: 64 << 20,
            shutdown_seconds: 10,
        }
    }
}

impl SnapshotsConfig {
    /// From one snapshot of a shard to the next.
    pub fn interval(&self) -> Duration {
        Duration::from_secs(self.interval_seconds)
    }

    /// What is kept.
    pub fn retention(&self) -> Retention {
        let grace_ms = i64::try_from(self.grace_seconds).unwrap_or(i64::MAX / 1_000) * 1_000;
        Retention { keep: self.keep, grace_ms }
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        in_range("snapshots.interval_seconds", self.interval_seconds, 1, 604_800)?;
        in_range("snapshots.keep", self.keep, 1, 1_000)?;
        in_range("snapshots.grace_seconds", self.grace_seconds, 0, 31_536_000)?;
        in_range("snapshots.bytes_per_second", self.bytes_per_second, 0, 1 << 40)?;
        in_range("snapshots.shutdown_seconds", self.shutdown_seconds, 0, 3_600)
    }
}
