//! A training takes as long as it takes, by the wall's clock, and a compressed world goes through days
//! meanwhile. So that what comes of a loop does not depend on the machine, the world may wait: a
//! training that was asked for then takes a stated time of the world, however long it takes here.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::cli::{Failure, cluster};
use crate::config::Config;
use crate::event::{RetrainTrigger, TrainingRun, TriggerAction};
use crate::kafka::WholeTopic;
use crate::time::EventTime;

/// How often the topics are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long a training may take by the wall's clock before the world gives up: nobody trains.
const PATIENCE: Duration = Duration::from_secs(900);

/// What was asked for and is not answered.
struct Open {
    /// When the world heard of it.
    at: EventTime,
    since: Instant,
}

/// Follows what asks for a training, and what came of it.
pub struct Trainings {
    triggers: WholeTopic,
    runs: WholeTopic,
    /// What a training takes, in milliseconds of event time.
    takes_ms: i64,
    open: HashMap<String, Open>,
    looked: Instant,
}

impl Trainings {
    /// Hears what is asked from now on.
    ///
    /// # Errors
    /// Where the broker does not answer or a topic is missing.
    pub fn follow(config: &Config, takes_ms: i64) -> Result<Self, Failure> {
        let names = [config.topics.retrain_triggers(), config.topics.training_runs()];
        let needed = [names[0].as_str(), &names[1]];
        cluster::require(&cluster::connect(config)?.1, &needed)?;
        let [triggers, runs] = names.map(|name| from_its_end(config, &name));
        Ok(Self {
            triggers: triggers?,
            runs: runs?,
            takes_ms,
            open: HashMap::new(),
            looked: Instant::now(),
        })
    }

    /// Whether the world has to wait at `now`.
    ///
    /// # Errors
    /// Where nothing came of a training for too long.
    pub fn hold(&mut self, now: EventTime) -> Result<bool, Failure> {
        if self.looked.elapsed() >= LOOK {
            self.looked = Instant::now();
            self.look(now);
        }
        if let Some((trigger, _)) =
            self.open.iter().find(|(_, open)| open.since.elapsed() > PATIENCE)
        {
            return Err(format!(
                "no training answered {trigger} within {PATIENCE:?}: run `driftline train --watch` \
                 beside, or leave --training-takes out"
            )
            .into());
        }
        Ok(self.open.values().any(|open| now.since(open.at) >= self.takes_ms))
    }

    fn look(&mut self, now: EventTime) {
        while let Some(record) = self.triggers.poll(Duration::ZERO) {
            let Ok(trigger) = RetrainTrigger::decode(record.value()) else { continue };
            if trigger.action == TriggerAction::Retrain {
                let since = Instant::now();
                self.open.entry(trigger.event_id).or_insert(Open { at: now, since });
            }
        }
        while let Some(record) = self.runs.poll(Duration::ZERO) {
            let Ok(run) = TrainingRun::decode(record.value()) else { continue };
            if run.state.is_final() {
                self.open.remove(&run.trigger);
            }
        }
    }
}

/// A topic from where it ends now.
///
/// # Errors
/// Where the broker does not answer or has no such topic.
pub fn from_its_end(config: &Config, name: &str) -> Result<WholeTopic, Failure> {
    let mut topic = WholeTopic::open(&config.kafka.client(), name, "driftline-simulation")?;
    for partition in 0..topic.partitions() {
        let (_, end) = topic.bounds(partition)?;
        topic.start_at(partition, end);
    }
    topic.mark_end()?;
    Ok(topic)
}
