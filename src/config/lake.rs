//! The section `[lake]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, in_range};
use crate::lake::{ARCHIVED, CutRules};

/// The lake: event topics as Parquet files.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct LakeConfig {
    /// Topics that are archived, without the prefix; empty for all that can be.
    pub topics: Vec<String>,
    /// Records of a cut at most.
    pub cut_records: usize,
    /// Bytes of the records of a cut at most.
    pub cut_bytes: usize,
    /// Seconds that a record waits for its cut to fill.
    pub cut_seconds: u64,
    /// Bytes of records in memory, all partitions together.
    pub memory_bytes: usize,
    /// Threads that make and write files.
    pub threads: usize,
    /// Hours of event time after which an hour's files are made one.
    pub compact_after_hours: u32,
    /// Size from which on a file is left alone.
    pub compact_bytes: u64,
    /// Days of event time that are kept; 0: all.
    pub retention_days: u32,
}

impl Default for LakeConfig {
    fn default() -> Self {
        Self {
            topics: Vec::new(),
            cut_records: 250_000,
            cut_bytes: 64 << 20,
            cut_seconds: 600,
            memory_bytes: 512 << 20,
            threads: 1,
            compact_after_hours: 2,
            compact_bytes: 128 << 20,
            retention_days: 0,
        }
    }
}

impl LakeConfig {
    /// Topics that are archived, without the prefix.
    pub fn archived(&self) -> Vec<String> {
        if self.topics.is_empty() {
            return ARCHIVED.iter().map(|(topic, _)| (*topic).to_owned()).collect();
        }
        self.topics.clone()
    }

    /// When a cut ends.
    pub fn rules(&self) -> CutRules {
        CutRules {
            records: self.cut_records,
            bytes: self.cut_bytes,
            wait: Duration::from_secs(self.cut_seconds),
            memory: self.memory_bytes,
        }
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        for topic in &self.topics {
            if !ARCHIVED.iter().any(|(known, _)| known == topic) {
                let all: Vec<_> = ARCHIVED.iter().map(|(known, _)| *known).collect();
                let message = format!(
                    "lake.topics names {topic:?}; what can be archived: {}",
                    all.join(", ")
                );
                return Err(ConfigError::Invalid(message));
            }
        }
        in_range("lake.cut_records", self.cut_records, 1, 10_000_000)?;
        in_range("lake.cut_bytes", self.cut_bytes, 1 << 10, 1 << 30)?;
        in_range("lake.cut_seconds", self.cut_seconds, 1, 86_400)?;
        in_range("lake.memory_bytes", self.memory_bytes, 1 << 20, 1 << 40)?;
        in_range("lake.threads", self.threads, 1, 64)?;
        in_range("lake.compact_after_hours", self.compact_after_hours, 0, 8_760)?;
        in_range("lake.compact_bytes", self.compact_bytes, 1, 1 << 32)?;
        in_range("lake.retention_days", self.retention_days, 0, 36_500)
    }
}
