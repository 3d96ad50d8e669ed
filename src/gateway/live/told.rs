//! What triggers, training runs, decisions, workers' acknowledgements, experiments and dead letters
//! say, the newest of each.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::Live;
use super::feed::Listener;
use crate::event::{ExperimentRecord, ModelAck, ModelControl, RetrainTrigger, TrainingRun};
use crate::kafka::Record;
use crate::worker::{CLASS_HEADER, TOPIC_HEADER};

/// How many of each are kept.
const KEPT: usize = 60;
/// Longest text of a class or topic name that is shown, in characters.
const LONGEST: usize = 80;

/// The newest of something, by its id.
#[derive(Default)]
struct Newest {
    all: VecDeque<(String, Value)>,
    is_new: bool,
}

impl Newest {
    /// The last word on an id; where it is new, the oldest goes.
    fn put(&mut self, id: &str, value: Value) {
        self.is_new = true;
        self.all.retain(|(known, _)| known != id);
        self.all.push_back((id.to_owned(), value));
        while self.all.len() > KEPT {
            self.all.pop_front();
        }
    }

    fn knows(&self, id: &str) -> bool {
        self.all.iter().any(|(known, _)| known == id)
    }

    /// The newest first, where there is news.
    fn take(&mut self) -> Option<Vec<&Value>> {
        std::mem::take(&mut self.is_new)
            .then(|| self.all.iter().rev().map(|(_, value)| value).collect())
    }
}

fn passed_over(record: &Record<'_>, error: &dyn std::fmt::Display) {
    let place = format!("{}-{}@{}", record.topic(), record.partition(), record.offset());
    tracing::debug!(%error, place, "not shown on the page");
}

/// Triggers, each event once.
#[derive(Default)]
pub struct Triggers(Newest);

impl Listener for Triggers {
    fn hear(&mut self, record: &Record<'_>) {
        let trigger = match RetrainTrigger::decode(record.value()) {
            Ok(trigger) => trigger,
            Err(error) => return passed_over(record, &error),
        };
        if self.0.knows(&trigger.event_id) {
            return;
        }
        let told = json!({
            "id": trigger.event_id, "at": trigger.emitted_at, "key": trigger.dedup_key,
            "type": trigger.trigger_type.name(), "state": trigger.state.name(),
            "severity": trigger.severity.name(), "action": trigger.action.name(),
            "wanted": trigger.wanted_action.name(), "held_by": trigger.suppressed_by,
            "segment": trigger.segment, "metric": trigger.metric.name,
            "direction": trigger.metric.direction.name(), "effect": trigger.effect,
            "observed": trigger.observed, "baseline": trigger.baseline,
            "since": trigger.window.start, "version": trigger.model_version,
            "reason": trigger.reason,
        });
        self.0.put(&trigger.event_id, told);
    }

    fn publish(&mut self, live: &Live) {
        if let Some(all) = self.0.take() {
            live.set("triggers", &all);
        }
    }
}

/// Training runs: of each trigger where its run stands.
#[derive(Default)]
pub struct Runs(Newest);

impl Listener for Runs {
    fn hear(&mut self, record: &Record<'_>) {
        match TrainingRun::decode(record.value()) {
            Ok(run) => self.0.put(&run.trigger, json!(run)),
            Err(error) => passed_over(record, &error),
        }
    }

    fn publish(&mut self, live: &Live) {
        if let Some(all) = self.0.take() {
            live.set("runs", &all);
        }
    }
}

/// Decisions on which model serves, the newest first.
#[derive(Default)]
pub struct Control(Newest);

impl Listener for Control {
    fn hear(&mut self, record: &Record<'_>) {
        match ModelControl::decode(record.value()) {
            Ok(control) => self.0.put(&control.epoch.to_string(), json!(control)),
            Err(error) => passed_over(record, &error),
        }
    }

    fn publish(&mut self, live: &Live) {
        if let Some(all) = self.0.take() {
            live.set("control", &all);
        }
    }
}

/// What each worker made of the last decision.
#[derive(Default)]
pub struct Acks(Newest);

impl Listener for Acks {
    fn hear(&mut self, record: &Record<'_>) {
        if record.is_tombstone() {
            return;
        }
        let ack = match ModelAck::decode(record.value()) {
            Ok(ack) => ack,
            Err(error) => return passed_over(record, &error),
        };
        let served = ack.served.iter().map(|arm| {
            json!({"arm": arm.arm, "version": arm.version, "requests": arm.requests,
                "failures": arm.failures, "users": arm.users})
        });
        let told = json!({
            "worker": ack.worker, "epoch": ack.epoch, "champion": ack.champion,
            "candidate": ack.candidate, "state": ack.state, "error": ack.error,
            "lease_ms": ack.lease_ms, "at": record.timestamp_ms(),
            "served": served.collect::<Vec<_>>(),
        });
        self.0.put(&ack.worker, told);
    }

    fn publish(&mut self, live: &Live) {
        if let Some(all) = self.0.take() {
            live.set("acks", &all);
        }
    }
}

/// Experiments, without the users that were put into an arm by hand.
#[derive(Default)]
pub struct Experiments(Newest);

impl Listener for Experiments {
    fn hear(&mut self, record: &Record<'_>) {
        if record.is_tombstone() {
            return;
        }
        let experiment = match ExperimentRecord::decode(record.value()) {
            Ok(experiment) => experiment,
            Err(error) => return passed_over(record, &error),
        };
        let arms =
            experiment.arms.iter().map(|arm| json!({"name": arm.name, "weight": arm.weight}));
        let told = json!({
            "name": experiment.name, "status": experiment.status.name(),
            "hypothesis": experiment.hypothesis, "coverage": experiment.coverage,
            "metric": experiment.primary_metric, "begun_at": experiment.begun_at,
            "kept": experiment.kept, "arms": arms.collect::<Vec<_>>(),
        });
        self.0.put(&experiment.name, told);
    }

    fn publish(&mut self, live: &Live) {
        if let Some(all) = self.0.take() {
            live.set("experiments", &all);
        }
    }
}

/// Dead letters: why they were refused, never what they hold.
pub struct Letters {
    prefix: String,
    newest: Newest,
}

impl Letters {
    /// Of an installation.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), newest: Newest::default() }
    }
}

impl Listener for Letters {
    fn hear(&mut self, record: &Record<'_>) {
        let headers = record.headers();
        let text = |name: &str| -> String {
            let found = headers.iter().find(|(known, _)| known == name);
            let bytes = found.and_then(|(_, value)| value.as_deref()).unwrap_or_default();
            String::from_utf8_lossy(bytes).chars().take(LONGEST).collect()
        };
        let (class, topic) = (text(CLASS_HEADER), text(TOPIC_HEADER));
        let told = json!({
            "class": class.rsplit('.').next(),
            "topic": topic.strip_prefix(self.prefix.as_str()).unwrap_or(&topic),
            "at": record.timestamp_ms(),
        });
        self.newest.put(&format!("{}@{}", record.partition(), record.offset()), told);
    }

    fn publish(&mut self, live: &Live) {
        if let Some(all) = self.newest.take() {
            live.set("letters", &all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_each_with_its_last_word() {
        let mut newest = Newest::default();
        (0..100).for_each(|n| newest.put(&n.to_string(), json!(n)));
        newest.put("50", json!("again"));
        let all = newest.take().unwrap();
        assert_eq!((all.len(), all[0], all[1]), (KEPT, &json!("again"), &json!(99)));
        assert!(newest.take().is_none(), "there is no news");
        assert!(newest.knows("50") && !newest.knows("1"));
    }
}
