//! The one that reads and tells.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::checkpoint::{self, NoState};
use super::{Settings, Watch};
use crate::config::Config;
use crate::event::{
    Encoding, MetricsWindow, RetrainTrigger, ServingWindow, TriggerAction, TriggerState,
};
use crate::kafka::{
    Delivery, HandlerError, Outgoing, Producer, ProducerKind, Record, TopicPartition, Tracker,
    WholeTopic,
};
use crate::telemetry::names;

/// Records read before the group is looked after again.
const BURST: usize = 500;
/// How long a read waits. The group is looked after every so often too.
const WAIT: Duration = Duration::from_millis(20);
/// How long a delivery may take. Longer than the producer itself tries.
const DELIVERY_LIMIT: Duration = Duration::from_secs(150);

/// Reads `metrics`, and tells what follows.
pub struct Leader {
    config: Config,
    watch: Watch,
    topic: WholeTopic,
    producer: Producer,
    /// Events that are on the topic already.
    told: HashSet<String>,
    saved: Instant,
    is_changed: bool,
    positions: bool,
}

impl Leader {
    /// Goes on from the checkpoint, or begins anew.
    ///
    /// # Errors
    /// Whatever Kafka or the disk said.
    pub fn begin(config: &Config) -> Result<Self, HandlerError> {
        let client = config.kafka.client();
        let name = config.topics.metrics();
        let settings = Settings::of(&config.monitor)?;
        let mut topic = WholeTopic::open(&client, &name, "driftline-monitor")?;
        let watch = recall(config, &settings, &topic)?;
        for (partition, next) in (0..).zip(watch.next_offsets()) {
            topic.start_at(partition, *next);
        }
        topic.mark_end()?;
        let told = told_already(config)?;
        let producer = Producer::new(&client, ProducerKind::Durable, "driftline-monitor")?;
        // From zero on, so that the first of a kind is an increase where metrics are scraped.
        for action in [
            TriggerAction::None,
            TriggerAction::Retrain,
            TriggerAction::Rollback,
            TriggerAction::Investigate,
        ] {
            let labels = [("action", action.name()), ("state", TriggerState::Firing.name())];
            metrics::counter!(names::TRIGGERS, &labels).increment(0);
        }
        Ok(Self {
            config: config.clone(),
            watch,
            topic,
            producer,
            told,
            saved: Instant::now(),
            is_changed: false,
            positions: false,
        })
    }

    /// Whether all is read that was there when it began.
    pub fn is_caught_up(&self) -> bool {
        self.topic.is_at_mark()
    }

    /// Reads some records and tells what follows.
    ///
    /// # Errors
    /// Where something could not be told, or the state not be written.
    pub fn work(&mut self) -> Result<(), HandlerError> {
        for _ in 0..BURST {
            let Some(record) = self.topic.poll(WAIT) else { break };
            if !self.watch.pass(record.partition(), record.offset()) {
                continue;
            }
            self.is_changed = true;
            let triggers = take(&mut self.watch, &record);
            drop(record);
            if !triggers.is_empty() {
                self.tell(&triggers)?;
            }
        }
        let interval = Duration::from_secs(self.config.monitor.checkpoint_seconds);
        if self.is_changed && self.saved.elapsed() >= interval {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Sends what is not on the topic yet, waits for it, and checkpoints.
    fn tell(&mut self, triggers: &[RetrainTrigger]) -> Result<(), HandlerError> {
        let tracker = Arc::new(Tracker::default());
        for trigger in triggers {
            if !self.told.insert(trigger.event_id.clone()) {
                continue;
            }
            tracing::info!(
                event_id = trigger.event_id,
                state = trigger.state.name(),
                action = trigger.action.name(),
                suppressed_by = trigger.suppressed_by,
                "{}",
                trigger.reason
            );
            encode_and_send(&self.config, &self.producer, trigger, &tracker)?;
            let labels = [("action", trigger.action.name()), ("state", trigger.state.name())];
            metrics::counter!(names::TRIGGERS, &labels).increment(1);
        }
        tracker.wait(DELIVERY_LIMIT)?;
        self.checkpoint()
    }

    /// Writes the state.
    ///
    /// # Errors
    /// Where the disk does not take it.
    pub fn checkpoint(&mut self) -> Result<(), HandlerError> {
        let (folder, topic) = (&self.config.monitor.data_dir, self.config.topics.metrics());
        checkpoint::write(folder, &topic, &self.watch)
            .map_err(|error| format!("monitor.data_dir {}: {error}", folder.display()))?;
        self.saved = Instant::now();
        self.is_changed = false;
        self.positions = true;
        metrics::gauge!(names::MONITOR_MINUTES).set(self.watch.minutes() as f64);
        for (segment, metric, share) in self.watch.outcomes().evidence() {
            let labels = [("segment", segment.to_owned()), ("metric", metric.to_owned())];
            metrics::gauge!(names::MONITOR_EVIDENCE, &labels).set(share);
        }
        Ok(())
    }

    /// Where it has come to since it was asked last, for tools that show lag.
    pub fn take_positions(&mut self) -> Vec<(TopicPartition, i64)> {
        if !std::mem::take(&mut self.positions) {
            return Vec::new();
        }
        let next = self.watch.next_offsets().first().copied();
        let partition = TopicPartition { topic: self.config.topics.metrics(), partition: 0 };
        next.map(|next| (partition, next)).into_iter().collect()
    }
}

/// The state to go on from: the checkpoint where it fits the settings and the log, else a new one.
fn recall(config: &Config, settings: &Settings, topic: &WholeTopic) -> Result<Watch, HandlerError> {
    let folder = &config.monitor.data_dir;
    let found = checkpoint::read(folder, &config.topics.metrics(), settings);
    let why = match found {
        Ok(watch) => match misfit(&watch, topic)? {
            None => return Ok(watch),
            Some(why) => why,
        },
        Err(NoState::None) => return Ok(Watch::new(settings.clone())?),
        Err(NoState::Other(why)) => why,
        Err(error @ NoState::Io { .. }) => return Err(error.into()),
    };
    tracing::warn!(why, "the state is set aside; the topic is read from its beginning");
    checkpoint::set_aside(folder)?;
    Ok(Watch::new(settings.clone())?)
}

/// Why a state is not of this log, where it is not.
fn misfit(watch: &Watch, topic: &WholeTopic) -> Result<Option<String>, HandlerError> {
    for (partition, next) in (0..).zip(watch.next_offsets()) {
        if partition >= topic.partitions() {
            return Ok(Some(format!("the topic has no partition {partition} any more")));
        }
        let (low, high) = topic.bounds(partition)?;
        if *next > high {
            let why = format!("partition {partition} ends at {high}, and was read to {next}");
            return Ok(Some(why));
        }
        if *next < low {
            tracing::warn!(partition, from = next, to = low, "records of metrics are gone unread");
        }
    }
    Ok(None)
}

/// Ids of the events on the topic.
fn told_already(config: &Config) -> Result<HashSet<String>, HandlerError> {
    let name = config.topics.retrain_triggers();
    let mut topic = WholeTopic::open(&config.kafka.client(), &name, "driftline-monitor")?;
    topic.mark_end()?;
    let mut told = HashSet::new();
    while !topic.is_at_mark() {
        let Some(record) = topic.poll(WAIT) else { continue };
        match RetrainTrigger::decode(record.value()) {
            Ok(trigger) => drop(told.insert(trigger.event_id)),
            Err(error) => tracing::warn!(offset = record.offset(), %error, "{name}"),
        }
    }
    Ok(told)
}

fn take(watch: &mut Watch, record: &Record<'_>) -> Vec<RetrainTrigger> {
    let (partition, offset) = (record.partition(), record.offset());
    let count = |outcome: &'static str| {
        metrics::counter!(names::MONITOR_WINDOWS, "outcome" => outcome).increment(1);
    };
    let refuse = |error: String| {
        count("refused");
        tracing::warn!(partition, offset, error, "a record of metrics is passed over");
        Vec::new()
    };
    if let Ok(window) = MetricsWindow::decode(record.value()) {
        return match watch.take_outcomes(partition, window) {
            Ok((taken, triggers)) => {
                count(taken.name());
                triggers
            }
            Err(error) => refuse(error.to_string()),
        };
    }
    match ServingWindow::decode(record.value()) {
        Ok(window) => {
            let (in_time, triggers) = watch.take_answers(&window);
            count(if in_time { "answers" } else { "answers_late" });
            triggers
        }
        Err(error) => refuse(error.to_string()),
    }
}

/// Sends a trigger, as JSON too where that is asked for.
///
/// # Errors
/// Where it can never be sent.
pub fn encode_and_send(
    config: &Config,
    producer: &Producer,
    trigger: &RetrainTrigger,
    tracker: &Arc<Tracker>,
) -> Result<(), HandlerError> {
    let mut encodings = vec![(config.topics.retrain_triggers(), Encoding::AvroSingleObject)];
    if config.monitor.json {
        encodings.push((config.topics.retrain_triggers_json(), Encoding::Json));
    }
    for (topic, encoding) in encodings {
        let value = trigger.encode(encoding)?;
        let outgoing = Outgoing {
            topic: &topic,
            key: Some(trigger.dedup_key.as_bytes()),
            value: &value,
            ..Outgoing::default()
        };
        producer.send(&outgoing, Delivery::Tracked(Arc::clone(tracker)))?;
    }
    Ok(())
}
