//! The first basis: where nobody has trained one, the owner of item shard 0 does, from what
//! `interactions` holds, and again each time that has grown by half.

use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::counter;

use crate::deployment;
use crate::embedding::{FirstBasis, Settings, TrainedBasis, Trial};
use crate::event::{FIRST_BASIS, Interactions, ModelManifest, SettingsTrial};
use crate::kafka::{
    Delivery, KafkaError, Outgoing, Position as Start, Producer, ProducerKind, Reader,
    TopicPartition, Tracker,
};
use crate::model::{Basis, ModelError};
use crate::telemetry::names;
use crate::worker::Context;

/// How often it is looked whether there is something to do.
const LOOK: Duration = Duration::from_millis(500);
/// How long deliveries may take.
const DELIVERY_LIMIT: Duration = Duration::from_secs(150);
/// First bases that stay: requests under way, and item shards that are behind, may use the last.
const KEPT: usize = 2;

/// Reads and trains while this worker is the one to, until the worker stops.
pub(super) fn run(context: &Context) {
    let config = &context.config.items;
    if !config.first_basis.enabled || !config.learn_vectors {
        return;
    }
    while !context.stop.sleep(LOOK) {
        if is_ours(context)
            && let Err(error) = follow(context)
        {
            tracing::warn!(%error, "no first basis yet; trying again");
        }
    }
}

/// Whether this worker is to train: it owns item shard 0, and nobody else has trained.
fn is_ours(context: &Context) -> bool {
    let models = context.items.models();
    let trained = models.values().any(|model| model.manifest.trained_by != FIRST_BASIS);
    context.items.owns_first() && context.items.is_loaded() && !trained
}

/// Follows `interactions` and trains where there is enough, while that is ours to do.
fn follow(context: &Context) -> Result<(), Box<dyn std::error::Error>> {
    let config = &context.config;
    let group = format!("{}-first-basis", config.kafka.group);
    let reader = Reader::new(&config.kafka.client(), &group, "driftline-first-basis")?;
    let mut log = Log::open(context, &reader)?;
    let mut looked = Instant::now();
    while !context.stop.is_requested() {
        if let Some(record) = reader.poll(Duration::from_millis(100)) {
            let batch = Interactions::decode(record.value()).unwrap_or_default();
            log.learn(record.partition(), record.offset(), &batch);
        }
        if looked.elapsed() >= LOOK {
            looked = Instant::now();
            if !is_ours(context) {
                return Ok(());
            }
            if log.is_due(context) {
                log.train_and_publish(context)?;
            }
        }
    }
    Ok(())
}

/// What `interactions` holds, and how far it was read.
struct Log {
    trainer: FirstBasis,
    /// The next offset to read, by partition.
    offsets: Vec<i64>,
}

impl Log {
    fn open(context: &Context, reader: &Reader) -> Result<Self, KafkaError> {
        let mut offsets = Vec::new();
        for partition in 0..context.interaction_partitions {
            let topic = context.config.topics.interactions();
            let tp = TopicPartition { topic, partition };
            offsets.push(reader.bounds(&tp)?.0);
            reader.add(&tp, Start::Beginning)?;
        }
        let limits = context.config.items.first_basis_limits();
        let trainer = FirstBasis::new(limits, &Settings::CANDIDATES);
        Ok(Self { trainer, offsets })
    }

    fn learn(&mut self, partition: i32, offset: i64, batch: &Interactions<'_>) {
        if let Some(next) = self.offsets.get_mut(partition as usize) {
            *next = offset + 1;
        }
        batch.interactions.iter().for_each(|one| self.trainer.observe(one));
    }

    fn is_due(&self, context: &Context) -> bool {
        let models = context.items.models();
        let last = models.values().map(|model| model.manifest.interactions).max().unwrap_or(0);
        self.trainer.is_due(usize::try_from(last).unwrap_or(0))
    }

    fn train_and_publish(&mut self, context: &Context) -> Result<(), Box<dyn std::error::Error>> {
        let begun = Instant::now();
        let go_on = || !context.stop.is_requested() && context.items.owns_first();
        let trained = match self.trainer.train(1, go_on) {
            Ok(Some(trained)) => trained,
            Ok(None) | Err(ModelError::Stopped { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let TrainedBasis { basis, users, positives, settings, trials, targets } = trained;
        let tried = |trial: &Trial| SettingsTrial {
            settings: trial.settings.name.into(),
            recall: trial.recall,
        };
        let manifest = ModelManifest {
            trained_by: FIRST_BASIS.into(),
            offsets: self.offsets.clone(),
            users: users as i64,
            interactions: positives as i64,
            settings: settings.name.into(),
            targets: targets as i64,
            trials: trials.iter().map(tried).collect(),
            ..ModelManifest::default()
        };
        publish(context, &basis, manifest)?;
        counter!(names::FIRST_BASES).increment(1);
        tracing::info!(
            version = format!("{:016x}", basis.version().0),
            items = basis.items().len(),
            users,
            positives,
            settings = settings.name,
            ?trials,
            seconds = begun.elapsed().as_secs_f64(),
            "a first basis is trained and published"
        );
        Ok(())
    }
}

/// Publishes a basis, and retires first bases beyond the newest.
fn publish(
    context: &Context,
    basis: &Basis,
    manifest: ModelManifest,
) -> Result<(), Box<dyn std::error::Error>> {
    let producer =
        Producer::new(&context.config.kafka.client(), ProducerKind::Durable, "driftline-models")?;
    let tracker = Arc::new(Tracker::default());
    let topic = context.config.topics.models();
    let send = |key: &str, value: Option<&[u8]>| {
        let outgoing = Outgoing {
            topic: &topic,
            partition: Some(0),
            key: Some(key.as_bytes()),
            value: value.unwrap_or_default(),
            is_tombstone: value.is_none(),
            ..Outgoing::default()
        };
        producer.send(&outgoing, Delivery::Tracked(Arc::clone(&tracker)))
    };
    for (key, value) in deployment::records(basis, manifest)? {
        send(&key, Some(&value))?;
    }
    tracker.wait(DELIVERY_LIMIT)?;
    let mut older: Vec<_> = context
        .items
        .models()
        .into_values()
        .filter(|model| model.manifest.trained_by == FIRST_BASIS)
        .map(|model| model.manifest)
        .collect();
    older.sort_by_key(|manifest| std::cmp::Reverse(manifest.interactions));
    for retired in older.iter().skip(KEPT - 1) {
        for key in deployment::keys(retired) {
            send(&key, None)?;
        }
    }
    Ok(tracker.wait(DELIVERY_LIMIT)?)
}
