//! Notices a client that has lost all brokers for good.
//!
//! A broker that is cut off from its controllers for a moment is named in no metadata. librdkafka
//! from 2.10 on forgets brokers that are not named; where none is left, its return to the bootstrap
//! servers can be stopped by that same answer (confluentinc/librdkafka#5301, open). Such a client
//! waits for ever, and nothing of its interface brings it back but a new client. So the process says so and
//! ends: what was folded is kept, and whoever supervises it starts it again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use serde::Deserialize;

/// How often clients tell of themselves, milliseconds.
pub(super) const STATISTICS_MS: &str = "10000";
/// How often in a row none was left: a client that is just returning to its bootstrap servers has none
/// for a moment.
const STRIKES: u32 = 3;

static LOST: AtomicBool = AtomicBool::new(false);

/// Whether a client of this process has lost all brokers for good.
pub fn has_lost_brokers() -> bool {
    LOST.load(Ordering::Acquire)
}

/// Of one client.
#[derive(Default)]
pub(super) struct Brokers(AtomicU32);

#[derive(Deserialize)]
struct Statistics {
    name: String,
    brokers: HashMap<String, Broker>,
}

#[derive(Deserialize)]
struct Broker {
    source: String,
}

impl Brokers {
    /// Looks at what a client tells of itself.
    pub fn look(&self, statistics: &[u8]) {
        if let Some(name) = self.count(statistics) {
            tracing::error!(
                client = name,
                "a Kafka client has lost all brokers and does not return to the bootstrap servers"
            );
            LOST.store(true, Ordering::Release);
        }
    }

    /// The name of a client that has lost all, the third time in a row.
    fn count(&self, statistics: &[u8]) -> Option<String> {
        let told: Statistics = match serde_json::from_slice(statistics) {
            Ok(told) => told,
            Err(error) => {
                tracing::warn!(%error, "a Kafka client's statistics cannot be read");
                return None;
            }
        };
        // "logical" is the coordinator of a group, which is found through the others.
        if told.brokers.values().any(|broker| broker.source != "logical") {
            self.0.store(0, Ordering::Relaxed);
            return None;
        }
        let strikes = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        (strikes == STRIKES).then_some(told.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(sources: &[&str]) -> Vec<u8> {
        let brokers: HashMap<String, serde_json::Value> = sources
            .iter()
            .map(|source| ((*source).to_owned(), serde_json::json!({ "source": source })))
            .collect();
        serde_json::json!({"name": "c", "type": "consumer", "brokers": brokers})
            .to_string()
            .into_bytes()
    }

    #[test]
    fn a_client_without_brokers_is_given_up_the_third_time_in_a_row() {
        let brokers = Brokers::default();
        let looks = |told: Vec<u8>| brokers.count(&told).is_some();
        assert!(!looks(told(&["logical"])));
        assert!(!looks(told(&[])));
        assert!(!looks(told(&["logical", "configured"])), "it is back at its bootstrap servers");
        assert!(!looks(told(&["logical"])));
        assert!(!looks(told(&["logical"])));
        assert!(!looks(b"no JSON".to_vec()));
        assert!(looks(told(&["logical"])));
        assert!(!looks(told(&["logical"])), "once is enough");
    }
}
