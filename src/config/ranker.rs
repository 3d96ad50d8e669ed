//! The section `[ranker]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, in_range};
use crate::serving::RankerRules;

/// What learns to rank from what came of lists.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct RankerConfig {
    /// Whether a ranker learns and, once it has learnt enough, ranks; needs `quality.enabled`.
    pub enabled: bool,
    /// Best candidates that it sees of each request.
    pub candidates: usize,
    /// Examples that it learns from before it is heard.
    pub min_examples: u64,
    /// What the probability of a click counts.
    pub click: f64,
    /// What the probability of a long view counts.
    pub long_view: f64,
    /// How much it counts next to the mixture of the sources; 0 for not at all.
    pub strength: f64,
    /// Seconds between two versions of what it learnt.
    pub publish_seconds: u64,
    /// Records of `training-examples` read back at start, per partition.
    pub warm_records: i64,
}

impl Default for RankerConfig {
    fn default() -> Self {
        let RankerRules { candidates, min_examples, click, long_view, strength, .. } =
            RankerRules::default();
        Self {
            enabled: true,
            candidates,
            min_examples,
            click,
            long_view,
            strength,
            publish_seconds: 60,
            warm_records: 20_000,
        }
    }
}

impl RankerConfig {
    /// How it is heard. `long_view_ms` is `quality.long_view_ms`.
    pub fn rules(&self, long_view_ms: u64) -> RankerRules {
        let Self { candidates, min_examples, click, long_view, strength, .. } = *self;
        RankerRules { candidates, min_examples, click, long_view, strength, long_view_ms }
    }

    /// How often a version is published.
    pub fn publish_interval(&self) -> Duration {
        Duration::from_secs(self.publish_seconds)
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        in_range("ranker.candidates", self.candidates, 1, 10_000)?;
        in_range("ranker.publish_seconds", self.publish_seconds, 1, 86_400)?;
        in_range("ranker.warm_records", self.warm_records, 0, i64::MAX)?;
        let weights = [
            ("ranker.click", self.click),
            ("ranker.long_view", self.long_view),
            ("ranker.strength", self.strength),
        ];
        for (key, value) in weights {
            // Not a number is in no range.
            if !(0.0..=100.0).contains(&value) {
                return Err(ConfigError::Invalid(format!(
                    "{key} is {value}; 0 to 100 are allowed"
                )));
            }
        }
        if self.click + self.long_view == 0.0 {
            return Err(ConfigError::Invalid(
                "ranker.click and ranker.long_view are 0: nothing to rank by; set one of them, or \
                 ranker.enabled = false"
                    .into(),
            ));
        }
        Ok(())
    }
}
