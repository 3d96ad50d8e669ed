//! What is asked of a running world, on the topic `simulation-control`: JSON records such as
//! `{"action": "taste-shift"}`, where an action is the name of a scenario, which begins at once.

use std::str::FromStr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::trainings::from_its_end;
use crate::cli::{Failure, cluster};
use crate::config::Config;
use crate::kafka::{Delivery, Outgoing, Producer, ProducerKind, WholeTopic};
use crate::simulation::Scenario;

/// How often the topic is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long the broker may take to take a record.
const DELIVERY_LIMIT: Duration = Duration::from_secs(30);

/// A record of the topic.
#[derive(Serialize, Deserialize)]
struct Wish {
    action: String,
}

/// Hears what is asked from now on.
pub struct Control {
    topic: WholeTopic,
    looked: Instant,
}

impl Control {
    /// Begins where the topic ends now.
    ///
    /// # Errors
    /// Where the broker does not answer or has no such topic.
    pub fn listen(config: &Config) -> Result<Self, Failure> {
        let name = config.topics.simulation_control();
        cluster::require(&cluster::connect(config)?.1, &[&name])?;
        Ok(Self { topic: from_its_end(config, &name)?, looked: Instant::now() })
    }

    /// The scenarios that were asked for since the last look. What cannot be read is said and passed
    /// over.
    pub fn asked(&mut self) -> Vec<Scenario> {
        let mut asked = Vec::new();
        if self.looked.elapsed() < LOOK {
            return asked;
        }
        self.looked = Instant::now();
        while let Some(record) = self.topic.poll(Duration::ZERO) {
            match parse(record.value()) {
                Ok(scenario) => asked.push(scenario),
                Err(why) => tracing::warn!(offset = record.offset(), why, "simulation-control"),
            }
        }
        asked
    }
}

fn parse(value: &[u8]) -> Result<Scenario, String> {
    let wish: Wish = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    Scenario::from_str(&wish.action)
}

/// Asks for a scenario.
///
/// # Errors
/// Where the topic is not there or the record is not delivered.
pub fn inject(config: &Config, scenario: Scenario) -> Result<(), Failure> {
    let name = config.topics.simulation_control();
    cluster::require(&cluster::connect(config)?.1, &[&name])?;
    let producer =
        Producer::new(&config.kafka.client(), ProducerKind::Durable, "driftline-simulation")?;
    let value = serde_json::to_vec(&Wish { action: scenario.name().into() })?;
    let outgoing = Outgoing { topic: &name, value: &value, ..Outgoing::default() };
    let tracker = std::sync::Arc::new(crate::kafka::Tracker::default());
    producer.send(&outgoing, Delivery::Tracked(std::sync::Arc::clone(&tracker)))?;
    Ok(tracker.wait(DELIVERY_LIMIT)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_a_scenario_by_its_name() {
        assert_eq!(parse(br#"{"action":"taste-shift"}"#), Ok(Scenario::TasteShift));
        assert_eq!(parse(br#"{"action":"gradual","by":"ann"}"#), Ok(Scenario::Gradual));
        for bad in ["", "taste-shift", "{}", r#"{"action":"rain"}"#, r#"{"action":3}"#] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
